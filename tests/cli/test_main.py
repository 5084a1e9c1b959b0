"""The command as a process: on bad input one line on stderr, exit code 2, no traceback, and nothing lost."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

import pytest

from helpers.corpus import write_documents
from helpers.fake_llm import FakeLLM
from helpers.query_stage import answer as queries_of

COMMAND = [sys.executable, "-c", "from finegrade.cli.main import main; main()"]
TRAINING_ALONE = [
    sys.executable,
    "-c",
    "from finegrade.cli import main as cli\n"
    "from finegrade.stages.pipeline import call_stage\n"
    "cli.run_stage = call_stage\n"
    "cli.main()",
]
"""The command without a look at the stages before it, for a run folder that holds samples only."""

PAIRS = '[source]\npath = "pairs.jsonl"\n'


@pytest.fixture
def place(pairs_file: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with good pairs and a good configuration."""
    monkeypatch.chdir(pairs_file.parent)
    monkeypatch.setenv("FINEGRADE_CACHE", str(pairs_file.parent / "cache"))
    configure()
    return pairs_file.parent


def configure(more: str = "", source: str = PAIRS) -> None:
    Path("finegrade.toml").write_text(source + more, encoding="utf-8")


def finegrade(*arguments: str, command: Sequence[str] = COMMAND) -> tuple[int, list[str]]:
    """Exit code, and the lines on stderr."""
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, timeout=120, check=False)
    return done.returncode, done.stderr.splitlines()


@pytest.mark.parametrize("command", [COMMAND, [sys.executable, "-m", "finegrade"]], ids=["command", "module"])
def test_version(command: Sequence[str]) -> None:
    done = subprocess.run([*command, "--version"], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == f"finegrade {version('finegrade')}\n"


@pytest.mark.slow
def test_bad_input_is_one_line_and_exit_code_2(place: Path) -> None:
    code, lines = finegrade("synthesize")
    assert code == 2
    assert len(lines) == 1
    assert "Run `finegrade seeds` first" in lines[0]


@pytest.mark.parametrize("name", ["train-finegrade", "train-in-batch-mean", "score-base"])
def test_the_stage_to_run_first_is_named_as_a_command(name: str, tmp_path: Path) -> None:
    """A row's own stage is no command: `finegrade train` makes all of them."""
    from finegrade.errors import InputError
    from finegrade.stages.pipeline import STAGES
    from finegrade.storage.run_folder import RunFolder

    with pytest.raises(InputError) as caught:
        RunFolder(tmp_path).record(name)
    assert caught.value.remedy.split("`")[1].removeprefix("finegrade ") in STAGES


@pytest.mark.slow
def test_an_llm_that_cannot_be_reached_costs_nothing_that_was_there(place: Path) -> None:
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        port = closed.getsockname()[1]
    configure(f'[llm]\nbase_url = "http://127.0.0.1:{port}/v1"\nmodel = "m"\n')
    assert finegrade("seeds")[0] == 0
    before = snapshot(Path("runs"))
    code, lines = finegrade("synthesize")
    assert code == 2
    assert "the LLM at 127.0.0.1: got no connection; wanted a reply. Start the server" in lines[-1]
    assert not [line for line in lines if "Traceback" in line]
    assert before.items() <= snapshot(Path("runs")).items()


def snapshot(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 2 MB, where this user may make one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=2m", "finegrade-test", str(disk)]
    if os.geteuid() != 0 or shutil.which("mount") is None or subprocess.run(mount, capture_output=True).returncode:
        pytest.skip("only root can mount a disk")
    yield disk
    subprocess.run(["umount", "-l", str(disk)], check=True, capture_output=True)


def fill(disk: Path, leave: int = 0) -> Path:
    """Takes all the space of a disk but ``leave`` bytes."""
    filler = disk / "filler"
    filler.write_bytes(b"\0" * max(0, shutil.disk_usage(disk).free - leave))
    return filler


@pytest.mark.slow
@pytest.mark.parametrize("leave", [0, 8_192, 65_536])
def test_a_full_disk_is_one_line_and_the_stage_runs_when_there_is_space(
    place: Path, small_disk: Path, leave: int
) -> None:
    filler = fill(small_disk, leave)
    run = str(small_disk / "run")
    configure("[synthesis]\nllm_samples = 0\n")
    seeds, synthesis = finegrade("seeds", "--run", run), finegrade("synthesize", "--run", run)
    failed = seeds if seeds[0] else synthesis
    if leave < 65_536:
        assert failed[0] == 2
    if failed[0]:
        assert "Free some space" in failed[1][-1]
        assert "Traceback" not in "\n".join(failed[1])
    filler.unlink()
    assert finegrade("seeds", "--run", run)[0] == 0
    assert finegrade("synthesize", "--run", run)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("leave", [0, 4_096, 24_576])
def test_a_full_disk_under_the_ledger_is_named_as_such(
    place: Path, small_disk: Path, leave: int, fake_llm: FakeLLM
) -> None:
    configure(f'[llm]\nbase_url = "{fake_llm.base_url}"\nmodel = "m"\n[synthesis]\nllm_samples = 12\n')
    run = str(small_disk / "run")
    assert finegrade("seeds", "--run", run)[0] == 0
    filler = fill(small_disk, leave)
    code, lines = finegrade("synthesize", "--run", run)
    assert code == 2, lines
    assert "Traceback" not in "\n".join(lines)
    assert "Free some space" in lines[-1]
    filler.unlink()
    assert finegrade("synthesize", "--run", run)[0] == 0


@pytest.mark.slow
@pytest.mark.parametrize("leave", [0, 300_000])
def test_a_full_disk_in_training_is_one_line_and_training_goes_on_when_there_is_space(
    place: Path, small_disk: Path, tiny_encoder: Path, leave: int
) -> None:
    from helpers.runs import make_run

    run = make_run(small_disk / "run").root
    configure(
        f'[training]\nbackbone = "{tiny_encoder}"\nsteps = 8\nbatch_size = 4\ncheckpoint_every = 2\nbf16 = false\n'
        "controls = false\n"
    )
    filler = fill(small_disk, leave)
    code, lines = finegrade("train", "--run", str(run), command=TRAINING_ALONE)
    assert code == 2, lines[-1]
    assert "Free some space" in lines[-1]
    assert "Traceback" not in "\n".join(lines)
    filler.unlink()
    assert finegrade("train", "--run", str(run), command=TRAINING_ALONE)[0] == 0
    assert (run / "model" / "model.safetensors").is_file()


def documents(fake_llm: FakeLLM, tiny_encoder: Path) -> str:
    """Writes documents, and gives the configuration for them."""
    write_documents(Path("docs"), 16)
    fake_llm.answer = queries_of
    return (
        '[source]\nkind = "documents"\npath = "docs"\nchunk_tokens = 80\nlanguage = "any"\ntest_share = 0.3\n'
        f'[llm]\nbase_url = "{fake_llm.base_url}"\nmodel = "m"\n[queries]\nchunks = 40\n'
        f'[training]\nbackbone = "{tiny_encoder}"\nmax_length = 32\n'
    )


@pytest.mark.slow
@pytest.mark.parametrize("leave", [0, 8_192, 40_960])
def test_a_full_disk_under_documents_and_queries_is_one_line_and_nothing_is_asked_twice(
    place: Path, small_disk: Path, leave: int, fake_llm: FakeLLM, tiny_encoder: Path
) -> None:
    configure(source=documents(fake_llm, tiny_encoder))
    filler = fill(small_disk, leave)
    run = str(small_disk / "run")
    failed = finegrade("documents", "--run", run)
    if failed[0] == 0:
        failed = finegrade("queries", "--run", run)
    assert failed[0] == 2, failed[1][-1]
    assert "Free some space" in failed[1][-1]
    assert "Traceback" not in "\n".join(failed[1])
    filler.unlink()
    assert finegrade("documents", "--run", run)[0] == 0
    assert finegrade("queries", "--run", run)[0] == 0
    asked = [str(body["messages"]) for body in fake_llm.requests]
    assert len(asked) - len(set(asked)) <= 1  # the one whose reply found no space


@pytest.mark.slow
def test_documents_and_queries_in_a_folder_that_cannot_be_written_to(
    place: Path, small_disk: Path, fake_llm: FakeLLM, tiny_encoder: Path
) -> None:
    configure(source=documents(fake_llm, tiny_encoder))
    run = str(small_disk / "run")
    assert finegrade("documents", "--run", run)[0] == 0
    before = snapshot(small_disk)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True, capture_output=True)
    for arguments in (["documents", "--set", "source.chunk_tokens=60"], ["queries"]):
        code, lines = finegrade(*arguments, "--run", run)
        assert code == 2
        assert "Name another path with --run or --output" in lines[-1]
        assert "Traceback" not in "\n".join(lines)
    assert snapshot(small_disk) == before
    assert fake_llm.requests == []


@pytest.mark.slow
def test_a_run_folder_that_cannot_be_written_to(place: Path, small_disk: Path) -> None:
    run = small_disk / "run"
    assert finegrade("seeds", "--run", str(run))[0] == 0
    before = snapshot(run)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True, capture_output=True)
    configure("[synthesis]\nllm_samples = 0\n")
    for arguments in (["seeds", "--set", "source.max_train=70"], ["synthesize"]):
        code, lines = finegrade(*arguments, "--run", str(run))
        assert code == 2
        assert "Name another path with --run or --output" in lines[-1]
        assert "Traceback" not in "\n".join(lines)
    assert snapshot(run) == before


LOADING = """
import sys, types
import finegrade.__main__
cli = types.ModuleType("finegrade.cli.main")
def main():
    raise KeyboardInterrupt
cli.main = main
sys.modules["finegrade.cli.main"] = cli
finegrade.__main__.main()
"""


def test_ctrl_c_while_the_command_is_loading_is_no_traceback() -> None:
    done = subprocess.run([sys.executable, "-c", LOADING], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 130
    assert done.stderr == ""
