"""kill -9 again and again in a synthesis of 2,000 requests: the samples are those of a run that nothing interrupted.

No reply that the ledger holds is ever asked for again. Also: a ledger whose last write was torn, a full disk, and a
clock that jumps.

    FINEGRADE_TEST_KILLS=100 python -m pytest -s tests/stages/test_kill_synthesize.py

kills as often as was promised, which takes minutes; without it ten times.
"""

import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from finegrade.config import Config
from finegrade.config.toml import parse_config
from finegrade.stages.pipeline import run_stage
from finegrade.storage.run_folder import LEDGER, RunFolder
from helpers.fake_process import FakeProcess
from helpers.kill import Server, acknowledged, outputs

pytestmark = pytest.mark.slow

REQUESTS, KILLS = 2_000, int(os.environ.get("FINEGRADE_TEST_KILLS", "10"))


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeProcess]:
    server = FakeProcess(tmp_path_factory.mktemp("llm"), latency=0.02, jitter=0.02)
    yield server
    server.close()


@pytest.fixture(scope="module")
def config(llm: FakeProcess) -> Config:
    data = {
        "source": {"kind": "tasks"},
        "llm": {"base_url": llm.base_url, "model": "m", "concurrency": 64},
        "tasks": {"number": 20},
        "synthesis": {"llm_samples": REQUESTS, "shard_rows": 150},
    }
    return parse_config(data, "test")


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory, config: Config) -> Path:
    """A run folder with tasks and nothing else."""
    run = RunFolder(tmp_path_factory.mktemp("begun") / "run", only="tasks")
    run_stage("tasks", config, run)
    return run.root


@pytest.fixture(scope="module")
def whole(
    tmp_path_factory: pytest.TempPathFactory, begun: Path, config: Config, llm: FakeProcess, server: Server
) -> Any:
    """What a run that nothing interrupted wrote."""
    run = Path(shutil.copytree(begun, tmp_path_factory.mktemp("whole") / "run"))
    llm.asked_since()
    assert server.do("synthesize", run, config)["end"] == 0
    asked = llm.asked_since()
    assert len(asked) == len(set(asked)) == REQUESTS
    return outputs(run)


@pytest.fixture
def new_run(tmp_path: Path, begun: Path) -> Callable[[], Path]:
    return lambda: Path(shutil.copytree(begun, tmp_path / "run"))


def test_kills_change_nothing(new_run, whole, config, llm, server):
    expected = whole
    run, dice = new_run(), random.Random(5)
    llm.asked_since()
    killed = finished = repeated = 0
    moments = []
    while killed < KILLS:
        known = acknowledged(run)
        more = dice.randint(0, REQUESTS if dice.random() < 0.05 else REQUESTS // 5)
        ended = server.do("synthesize", run, config, kill_after=dice.uniform(0, 0.05), grown=llm.asked_more(more))
        asked = llm.asked_since()
        assert not known & set(asked), "asked again, although the reply was acknowledged"
        assert len(acknowledged(run)) >= len(known)
        repeated += len(asked) - len(set(asked))
        if ended["end"] == "killed":
            killed += 1
            moments.append(len(known))
            continue
        assert ended["end"] == 0
        assert outputs(run) == expected
        finished += 1
        shutil.rmtree(run)
        run = new_run()
    assert server.do("synthesize", run, config)["end"] == 0
    assert outputs(run) == expected
    assert len({moment // 100 for moment in moments}) > KILLS // 8, "the kills must fall all over the run"
    print(f"{killed} kills at {moments} replies; finished {finished + 1} times")


def test_a_torn_last_write_of_the_ledger_loses_nothing_before_it(new_run, whole, config, llm, server):
    expected = whole
    run, dice = new_run(), random.Random(6)
    for _ in range(3):
        server.do("synthesize", run, config, kill_after=0.05, grown=llm.asked_more(REQUESTS // 8))
        wal = run / f"{LEDGER}-wal"
        if wal.is_file() and (size := wal.stat().st_size):
            with wal.open("rb+") as file:
                file.truncate(size - dice.randint(1, min(4096, size)))
            left = acknowledged(run)
            assert left, "all that was whole is still there"
            llm.asked_since()
            server.do("synthesize", run, config, kill_after=0.05, grown=llm.asked_more(REQUESTS // 8))
            assert not left & set(llm.asked_since()), "asked again, although its reply survived"
    assert server.do("synthesize", run, config)["end"] == 0
    assert outputs(run) == expected


def test_a_clock_that_jumps_changes_nothing(new_run, whole, config, monkeypatch, llm):
    dice = random.Random(7)
    monkeypatch.setattr("time.time", lambda: dice.uniform(0, 4e9))
    run = new_run()
    run_stage("synthesize", config, RunFolder(run, only="synthesize"))
    assert outputs(run) == whole


def test_a_full_disk_is_told_and_the_run_goes_on_when_there_is_room(new_run, whole, config, tmp_path, llm):
    """A limit on the size of files stands for the disk: writes beyond it fail, for SQLite and for Parquet."""
    run = new_run()
    (tmp_path / "config.json").write_text(config.model_dump_json())
    code = (
        "import resource, signal, sys; from pathlib import Path\n"
        "from finegrade.config import Config; from finegrade.stages.pipeline import run_stage\n"
        "from finegrade.storage.run_folder import RunFolder; import finegrade.stages.synthesize\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))\n"
        f"config = Config.model_validate_json(Path({str(tmp_path / 'config.json')!r}).read_text())\n"
        "from finegrade.errors import InputError\n"
        f"try: run_stage('synthesize', config, RunFolder(Path({str(run)!r}), only='synthesize'))\n"
        "except (InputError, OSError) as error: print(error); sys.exit(2)\n"
    )
    for limit in (300_000, 1_500_000):
        known = acknowledged(run)
        llm.asked_since()
        done = subprocess.run([sys.executable, "-c", code, str(limit)], capture_output=True, text=True)
        assert done.returncode == 2, done.stderr
        assert "space" in done.stdout or "large" in done.stdout
        assert not known & set(llm.asked_since())
    run_stage("synthesize", config, RunFolder(run, only="synthesize"))
    assert outputs(run) == whole
