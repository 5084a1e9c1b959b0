"""The Ray engine on a cluster of two machines, both of them here: the plain engine's samples, whatever is killed."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from finegrade.llm.ledger import Ledger
from finegrade.storage.run_folder import LEDGER
from helpers.fake_process import FakeProcess
from helpers.kill import acknowledged, outputs
from helpers.processes import LONGEST, start, wait_until

pytest.importorskip("ray", reason='ray is not installed: pip install "finegrade[ray]"')
pytestmark = pytest.mark.slow

SAMPLES, ROWS, CONCURRENCY = 600, 75, 8
AN_EIGHTH_MORE = CONCURRENCY + CONCURRENCY // 8 + 2  # is written down ahead of what is under way (llm.client)
COMMAND = [sys.executable, "-c", "import sys; sys.argv[0] = 'finegrade'; from finegrade.__main__ import main; main()"]
CONFIG = """
[source]
kind = "tasks"
[llm]
base_url = "{base_url}"
model = "m"
api_key_env = "FINEGRADE_TEST_KEY"
concurrency = {concurrency}
[tasks]
number = 20
[synthesis]
llm_samples = {samples}
shard_rows = {rows}
"""
KEY = "the key that no task carries"


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeProcess]:
    server = FakeProcess(tmp_path_factory.mktemp("llm"), latency=0.02, jitter=0.02)
    yield server
    server.close()


@pytest.fixture(scope="module")
def cluster() -> Iterator[subprocess.Popen[str]]:
    """The process that all of the cluster's descend from; its workers have the key in their environment."""
    environment = os.environ | {"FINEGRADE_TEST_KEY": KEY, "RAY_USAGE_STATS_ENABLED": "0"}
    command = [sys.executable, "-m", "helpers.ray_cluster", "2"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    ) as process:
        assert process.stdout and process.stdin
        for line in process.stdout:
            if line.startswith("address "):
                process.address = line.split()[1]  # type: ignore[attr-defined]
                break
        yield process
        process.stdin.close()
        assert process.wait(60) == 0


@pytest.fixture(scope="module")
def do(tmp_path_factory: pytest.TempPathFactory, llm: FakeProcess, cluster: Any) -> Callable[..., Any]:
    """Starts a command of finegrade's, with an engine."""
    path = tmp_path_factory.mktemp("config") / "finegrade.toml"
    path.write_text(CONFIG.format(base_url=llm.base_url, concurrency=CONCURRENCY, samples=SAMPLES, rows=ROWS))

    @contextmanager
    def do(stage: str, run: Path, *options: str, address: str = cluster.address) -> Iterator[subprocess.Popen[str]]:
        environment = os.environ | {"RAY_ADDRESS": address, "FINEGRADE_TEST_KEY": KEY}
        command = [*COMMAND, stage, "--config", str(path), "--run", str(run), *options]
        with start(command, stderr=subprocess.PIPE, env=environment) as process:
            try:
                yield process
            finally:
                process.kill()

    return do


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, do: Callable[..., Any]) -> Path:
    """A run folder with tasks and nothing else."""
    run: Path = tmp_path_factory.mktemp("begun") / "run"
    finish(do("tasks", run))
    return run


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, begun: Path, do: Callable[..., Any]) -> dict[str, str]:
    """What the plain engine writes."""
    run = Path(shutil.copytree(begun, tmp_path_factory.mktemp("whole") / "run"))
    finish(do("synthesize", run))
    return outputs(run)


@pytest.fixture
def run(tmp_path: Path, begun: Path) -> Path:
    return Path(shutil.copytree(begun, tmp_path / "run"))


def finish(doing: Any, code: int = 0) -> str:
    """Waits for the end; gives what was told."""
    with doing as process:
        told = process.communicate(timeout=LONGEST)[1]
    assert process.returncode == code, told
    assert KEY not in told
    return str(told)


def workers(cluster: subprocess.Popen[str]) -> list[int]:
    """The processes of this cluster that ask the LLM."""
    parents, names = {}, {}
    for path in Path("/proc").glob("[0-9]*"):
        try:
            status = (path / "stat").read_text().rpartition(")")[2].split()
            parents[int(path.name)], names[int(path.name)] = int(status[1]), (path / "cmdline").read_text()
        except OSError:
            pass  # it has ended

    def descends(number: int) -> bool:
        return number == cluster.pid or (number in parents and descends(parents[number]))

    return [number for number, name in names.items() if "MapWorker" in name and descends(number)]


def test_a_killed_worker_changes_nothing_and_nothing_acknowledged_is_asked_again(run, whole, do, llm, cluster):
    llm.asked_since()
    llm.hold("replied", after=ROWS - CONCURRENCY)  # in the middle of the first parts: no worker has asked all it will
    with do("synthesize", run, "--engine", "ray") as process:
        wait_until(lambda: llm.held() == CONCURRENCY, process)
        known = acknowledged(run)
        before = llm.asked_since()
        there = workers(cluster)
        assert len(there) == 2
        os.kill(there[0], signal.SIGKILL)
        llm.release()
        told = process.communicate(timeout=LONGEST)[1]
    assert process.returncode == 0, told
    after = llm.asked_since()
    assert outputs(run) == whole
    assert not known & set(after), "asked again, although the reply was acknowledged"
    repeated = len(before) + len(after) - SAMPLES
    assert len(set(before) | set(after)) == SAMPLES
    assert 0 < repeated <= AN_EIGHTH_MORE / 2 + 1
    with Ledger(run / LEDGER, "synthesize") as ledger:
        assert ledger.totals()["replies"] == SAMPLES
        assert sum(times for _, times in ledger.lost()) >= repeated
    assert KEY.encode() not in b"".join(path.read_bytes() for path in run.rglob("*") if path.is_file())
    assert told.count("\n") < 12, "Ray's own lines are not for the user"


def test_ray_stops_at_the_cap_and_the_plain_engine_goes_on(run, whole, do, llm):
    llm.asked_since()
    with Ledger(run / LEDGER, "synthesize") as ledger:
        before = ledger.totals(every_purpose=True)
    cap = 40_000
    told = finish(do("synthesize", run, "--engine", "ray", "--set", f"llm.max_tokens={cap}"), code=2)
    assert "finegrade: llm.max_tokens: got" in told
    asked = llm.asked_since()
    known = acknowledged(run)
    assert 0 < len(known) < SAMPLES
    with Ledger(run / LEDGER, "synthesize") as ledger:
        spent = ledger.totals(every_purpose=True)
        lost = sum(times for _, times in ledger.lost())
    assert spent["prompt_tokens"] + spent["completion_tokens"] <= cap
    assert before["prompt_tokens"] + before["completion_tokens"] + 150 * len(asked) <= cap  # as the server counts
    assert lost <= AN_EIGHTH_MORE
    assert "continues" in finish(do("synthesize", run))
    assert outputs(run) == whole
    assert not known & set(llm.asked_since())


def test_ray_goes_on_where_the_plain_engine_was_killed_and_after_a_ctrl_c(run, whole, do, llm, cluster):
    llm.hold("replied", after=100)
    with do("synthesize", run) as process:
        wait_until(llm.held, process)
    known = acknowledged(run)
    assert known
    llm.hold("replied", after=150)
    llm.asked_since()
    with do("synthesize", run, "--engine", "ray") as process:
        wait_until(llm.held, process)
        process.send_signal(signal.SIGINT)
        told = process.communicate(timeout=LONGEST)[1]
    llm.release()
    assert process.returncode == 130, told
    assert "the same command continues" in told
    assert list((run / "drafts").glob("part-*.parquet"))
    wait_until(lambda: not workers(cluster))  # none goes on
    assert not known & set(llm.asked_since())
    known = acknowledged(run)
    finish(do("synthesize", run, "--engine", "ray"))
    assert outputs(run) == whole
    assert not known & set(llm.asked_since())


def test_a_worker_without_the_key_tells_so(run, do, llm):
    llm.asked_since()
    told = finish(do("synthesize", run, "--engine", "ray", "--set", "llm.api_key_env=NOBODY_HAS_IT"), code=2)
    assert "finegrade: llm.api_key_env: got NOBODY_HAS_IT, which is not set" in told
    assert not llm.asked_since()


@pytest.mark.parametrize("address", ["127.0.0.1:1", "ray://127.0.0.1:1"])
def test_no_cluster_is_one_line(run, do, address):
    told = finish(do("synthesize", run, "--engine", "ray", address=address), code=2)
    assert "`ray start --head`" in told.splitlines()[-1]
    assert "Traceback" not in told
