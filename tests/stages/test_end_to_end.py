"""The whole pipeline through the command line, as a user runs it: run, run again, change a setting, Ctrl-C, go on."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from finegrade.data.pairs import Pair
from helpers import processes
from helpers.fake_llm import FakeLLM, grade

pytestmark = pytest.mark.slow

MARK = "FINEGRADE_TEST_PLACE"
COMMAND = [sys.executable, "-c", "from finegrade.cli.main import main; main()"]
WAITS = "import time, transformers; transformers.TrainerCallback.on_save = lambda *_, **__: time.sleep(999)"
STOPS_AT_A_CHECKPOINT = [*COMMAND[:2], f"{WAITS}; {COMMAND[2]}"]
"""Its training goes no further than the first checkpoint."""
STAGES = ("seeds", "synthesize", "verify", "train-finegrade", "score-bm25", "score-base", "evaluate", "report")


def rewrite(request: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """What a good LLM answers: a grade, or the passage with the words of query A exchanged for those of query B."""
    if graded := grade(request):
        return graded
    turn = request["messages"][-1]["content"]
    found = re.fullmatch(r"query A: (.*)\npassage: (.*)\nquery B: (.*)", turn)
    assert found
    own, passage, sibling = found.groups()
    exchange = {a: b for a, b in zip(re.findall(r"\w+", own), re.findall(r"\w+", sibling), strict=True) if a != b}
    text = re.sub(r"\w+", lambda word: exchange.get(word[0], word[0]), passage)
    return FakeLLM.reply(json.dumps({"passage": text}))


class Workplace:
    """A folder with a finegrade.toml, and the commands run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.run = folder, folder / "run"

    def start(self, command: str, *settings: str, program: Sequence[str] = COMMAND) -> subprocess.Popen[str]:
        arguments = [*program, command, "--run", "run", *(part for one in settings for part in ("--set", one))]
        return processes.start(
            arguments, cwd=self.folder, stderr=subprocess.PIPE, stdout=subprocess.PIPE,
            env=os.environ | {MARK: str(self.folder)},
        )  # fmt: skip

    def processes(self) -> list[str]:
        """The command lines of all processes that this place has started and that still run."""
        found = []
        for path in Path("/proc").glob("[0-9]*"):
            with suppress(OSError):  # it has ended meanwhile
                if f"{MARK}={self.folder}".encode() in (path / "environ").read_bytes().split(b"\0"):
                    found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        return found

    def finish(self, process: subprocess.Popen[str]) -> tuple[int, str]:
        """Exit code, and what it told the user."""
        try:
            _, told = process.communicate(timeout=processes.LONGEST)
        finally:
            process.kill()
        return process.returncode, told

    def do(self, command: str, *settings: str) -> str:
        code, told = self.finish(self.start(command, *settings))
        assert code == 0, told
        return told

    def interrupt(self, process: subprocess.Popen[str], when: Callable[[], bool]) -> str:
        """Ctrl-C as soon as something has happened; what comes next must wait for it."""
        processes.wait_until(when, process)
        process.send_signal(signal.SIGINT)
        code, told = self.finish(process)
        assert code == 130, told
        assert told.splitlines()[-1] == "finegrade: stopped; what is done is kept, the same command continues"
        assert "Traceback" not in told
        return told

    def record(self, stage: str) -> dict[str, Any]:
        return json.loads((self.run / "stages" / f"{stage}.json").read_text(encoding="utf-8"))


@pytest.fixture
def place(
    tmp_path: Path, pairs_file: Path, tiny_encoder: Path, fake_llm: FakeLLM,
    monkeypatch: pytest.MonkeyPatch,
) -> Workplace:  # fmt: skip
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("FINEGRADE_CACHE", str(tmp_path / "cache"))
    fake_llm.answer = rewrite
    (tmp_path / "finegrade.toml").write_text(
        f"""
        [source]
        path = "{pairs_file.name}"
        [llm]
        base_url = "{fake_llm.base_url}"
        model = "fake"
        [synthesis]
        llm_samples = 6
        mode = "sibling"
        [verification]
        scorer = "{tiny_encoder}"
        margin = 0
        max_length = 64
        [training]
        backbone = "{tiny_encoder}"
        steps = 4
        batch_size = 8
        bf16 = false
        [evaluation]
        sts = false
        resamples = 100
        """,
        encoding="utf-8",
    )
    return Workplace(tmp_path)


def test_run_makes_everything_once_and_reruns_only_what_a_setting_touches(place: Workplace, fake_llm: FakeLLM) -> None:
    place.do("run")
    scores = json.loads((place.run / "scores.json").read_text(encoding="utf-8"))
    assert [row["name"] for row in scores["rows"]] == [
        "bm25", "base", "in-batch-mean", "in-batch-anchor", "mined-mean", "finegrade",
    ]  # fmt: skip
    assert [row["name"] for row in scores["differences"]] == [row["name"] for row in scores["rows"][:-1]]
    assert all(0 <= row["scores"]["nDCG@10"]["value"] <= 1 for row in scores["rows"])
    assert (place.run / "model" / "anchor_pooling.py").is_file()
    assert "Re-embed your index" in (place.run / "report.html").read_text(encoding="utf-8")
    assert not list(place.run.rglob("checkpoint-*"))
    assert place.record("verify")["details"]["by_source"]["llm"]
    asked = len(fake_llm.requests)
    assert asked >= 6

    made = {path: path.read_bytes() for path in place.run.rglob("*") if path.is_file()}
    told = place.do("run")
    for stage in STAGES:
        assert f"{stage}: kept from" in told
    assert "runs again" not in told
    assert len(fake_llm.requests) == asked
    assert {path: path.read_bytes() for path in place.run.rglob("*") if path.is_file()} == made

    told = place.do("run", "training.learning_rate=3e-3")
    assert len(fake_llm.requests) == asked
    for kept in ("seeds", "synthesize", "verify", "score-bm25", "score-base"):
        assert f"{kept}: kept from" in told
    for again in ("train-finegrade", "train-in-batch-mean", "score-finegrade", "evaluate", "report"):
        assert f"{again}: its settings or inputs have changed, runs again" in told


def test_the_stages_one_by_one_make_what_run_makes(place: Workplace) -> None:
    for stage in ("seeds", "synthesize", "verify", "train", "evaluate", "report"):
        place.do(stage, "training.controls=false")
    alone = place.record("train-finegrade")["outputs"]["model/model.safetensors"]
    scores = (place.run / "scores.json").read_text(encoding="utf-8")
    shutil.move(place.run, place.folder / "first")
    place.do("run", "training.controls=false")
    assert place.record("train-finegrade")["outputs"]["model/model.safetensors"] == alone
    assert (place.run / "scores.json").read_text(encoding="utf-8") == scores


def test_ctrl_c_while_the_llm_writes_repeats_no_request(place: Workplace, fake_llm: FakeLLM) -> None:
    place.do("seeds")
    over = threading.Event()
    fake_llm.answer = lambda request: (len(fake_llm.requests) < 4 or over.wait(processes.LONGEST), rewrite(request))[1]
    place.interrupt(place.start("synthesize"), lambda: len(fake_llm.requests) == 4)
    over.set()
    told = place.do("synthesize")
    assert "continues, the ledger holds 3 replies" in told
    asked = [json.dumps(request, sort_keys=True) for request in fake_llm.requests]
    assert len(asked) - len(set(asked)) == 1  # the one under way when Ctrl-C came
    assert place.record("synthesize")["details"]["negatives"]["level 4 llm"] == 6


def test_ctrl_c_in_training_continues_to_the_same_weights(place: Workplace) -> None:
    for stage in ("seeds", "synthesize", "verify"):
        place.do(stage)
    settings = ("training.steps=20", "training.checkpoint_every=5", "training.controls=false")
    process = place.start("train", *settings, program=STOPS_AT_A_CHECKPOINT)
    place.interrupt(process, lambda: bool(list(place.run.glob("checkpoints/*/*/checkpoint-*/trainer_state.json"))))
    told = place.do("train", *settings)
    assert "continues after step 5 of 20" in told
    weights = place.record("train-finegrade")["outputs"]["model/model.safetensors"]
    shutil.rmtree(place.run / "model")
    place.do("train", *settings)
    assert place.record("train-finegrade")["outputs"]["model/model.safetensors"] == weights


PAIRS = 150


def test_the_real_models_walk_the_road(tmp_path: Path) -> None:
    """The embedded LLM (the small one), MiniLM and the int8 cross-encoder on the standard library's own docs."""
    from finegrade.data.python_docs import read_python_docs

    pairs: list[Pair] = [p for p in read_python_docs(["numpy"]) if p.group in ("numpy", "unittest", "asyncio", "email")]
    assert len(pairs) > 100
    rows = [pair.model_dump_json() for pair in pairs[:PAIRS]]
    (tmp_path / "pairs.jsonl").write_text("\n".join(rows), encoding="utf-8")
    (tmp_path / "finegrade.toml").write_text(
        """
        [source]
        path = "pairs.jsonl"
        [llm]
        model = "qwen2.5-coder-0.5b"
        [synthesis]
        llm_samples = 2
        max_passage_chars = 300
        [training]
        steps = 4
        batch_size = 8
        controls = false
        [evaluation]
        resamples = 100
        """,
        encoding="utf-8",
    )
    place = Workplace(tmp_path)
    told = place.do("run")
    details = place.record("synthesize")["details"]
    llm_set_aside = sum(n for reason, n in details["set_aside"].items() if reason.startswith("llm: "))
    assert details["negatives"].get("level 4 llm", 0) + llm_set_aside >= 2
    similarity = {row["name"]: row["scores"].get("STS-B", {"value": None})["value"] for row in place_scores(place)}
    assert similarity["base"] == pytest.approx(0.82, abs=0.005)  # what this model is known for
    assert similarity["finegrade"] > 0.75
    usage = place.record("synthesize")["details"]["usage"]
    assert 2 <= usage["replies"] <= 8
    assert usage["completion_tokens"] > 0
    assert (place.run / "report.html").is_file()
    scores = {row["name"]: row["scores"]["nDCG@10"]["value"] for row in place_scores(place)}
    assert scores["base"] > 0.3  # MiniLM knows English
    assert scores["finegrade"] > 0.3
    assert "Re-embed your index" in told
    assert place.processes() == []


def place_scores(place: Workplace) -> list[dict[str, Any]]:
    return json.loads((place.run / "scores.json").read_text(encoding="utf-8"))["rows"]
