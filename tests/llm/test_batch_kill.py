"""kill -9 at every moment of a batch: the same command goes on with it, and nothing is paid for twice."""

import json
import random
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from finegrade.config import LLMConfig
from finegrade.llm.accounts import Budget
from finegrade.llm.ledger import Ledger
from helpers import processes
from helpers.batch_child import request
from helpers.batches import fake
from helpers.fake_process import FakeProcess
from helpers.processes import LONGEST, wait_until

__all__ = ["fake"]  # the fixture

pytestmark = pytest.mark.slow

ITEMS = 40
MOST = request(10).size() + 200  # tokens of one request; those before 10 are a byte shorter
KILLS = 10


def start(path: Path, server: FakeProcess, dies: str = "", items=(0, ITEMS), **llm) -> subprocess.Popen[str]:
    options = {"path": str(path), "items": items, "llm": {"base_url": server.base_url} | llm, "dies": dies}
    command = [sys.executable, "-m", "helpers.batch_child", json.dumps(options)]
    process = processes.start(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert process.stdout
    assert process.stdout.readline() == "begins\n"
    return process


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    out, err = process.communicate(timeout=LONGEST)
    return process.returncode, out, " ".join(err.split())


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory) -> list[str]:
    """The replies where nobody kills."""
    folder = tmp_path_factory.mktemp("undisturbed")
    server = FakeProcess(folder)
    code, out, err = finish(start(folder / "ledger.sqlite", server))
    server.close()
    assert code == 0, err
    return json.loads(out)


def check(path: Path, server: FakeProcess, undisturbed: list[str], **llm) -> str:
    """The same command again ends as if nothing had happened; gives what it told."""
    code, out, err = finish(start(path, server, **llm))
    assert code == 0, err
    assert json.loads(out) == undisturbed
    assert list(server.asked().values()) == [1] * ITEMS
    with Ledger(path, "test") as ledger:
        assert ledger.totals()["replies"] == ITEMS
        assert ledger.lost() == []
    return err


@pytest.mark.parametrize("moment", ["uploaded", "created", "polled", "content"])
def test_killed_while_the_server_answers(path, fake, undisturbed, moment):
    server = fake(seconds=0.5, page=2)
    server.hold(moment)
    process = start(path, server, max_tokens=ITEMS * MOST)
    wait_until(server.held, process)
    process.kill()
    assert finish(process)[0] == -signal.SIGKILL
    server.release()
    told = check(path, server, undisturbed, max_tokens=ITEMS * MOST)  # the cap has room for one such batch only
    assert server.moments()["created"] == 1
    assert "goes on with a batch of 40 requests of an earlier session" in told


@pytest.mark.parametrize("step", ["_upload", "_create", "lines"])
def test_killed_before_a_step(path, fake, undisturbed, step):
    server = fake()
    assert finish(start(path, server, dies=step))[0] == -signal.SIGKILL
    assert server.moments()["created"] == (1 if step == "lines" else 0)
    check(path, server, undisturbed, max_tokens=ITEMS * MOST)
    assert server.moments()["created"] == 1


def test_killed_again_and_again_at_random(path, fake, undisturbed):
    generator, kills = random.Random(5), 0
    while kills < KILLS:
        server = fake(seconds=0.3, hold={"uploaded": 0.1, "created": 0.1, "content": 0.1})
        path.unlink(missing_ok=True)
        while True:
            process = start(path, server)
            try:
                process.wait(generator.uniform(0, 1) if kills < KILLS else LONGEST)
                break
            except subprocess.TimeoutExpired:
                process.kill()
                kills += 1
            finally:
                finish(process)
        check(path, server, undisturbed)
        assert server.moments()["created"] == 1


def test_a_batch_under_way_counts_against_the_cap_of_who_asks_something_else(path, fake):
    server = fake(seconds=3600)
    process = start(path, server)
    wait_until(lambda: server.moments()["polled"], process)
    process.kill()
    finish(process)
    other = fake()
    code, _, err = finish(start(path, other, items=(1000, 1010), max_tokens=ITEMS * MOST))
    assert code == 1
    assert "llm.max_tokens" in err
    assert other.moments()["created"] == 0
    with Ledger(path, "test") as ledger:
        most = sum(request(item).size() + 200 for item in range(ITEMS))
        enough = most + request(1000).size() + 200
        assert Budget(LLMConfig(max_tokens=enough), ledger).refusal(request(1000)) is None
        assert Budget(LLMConfig(max_tokens=enough - 1), ledger).refusal(request(1000))


def test_ctrl_c_says_that_the_batch_goes_on(path, fake, undisturbed):
    server = fake()
    server.hold("polled")
    process = start(path, server)
    wait_until(server.held, process)
    process.send_signal(signal.SIGINT)
    code, _, err = finish(process)
    server.release()
    assert code == 130
    assert "the batch goes on at 127.0.0.1; the same command waits for it" in err
    check(path, server, undisturbed)
    assert server.moments()["created"] == 1
