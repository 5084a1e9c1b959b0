"""The LLM for a stage that asks now and then: one client, one ledger, between whose uses nothing runs."""

import pytest

from finegrade.config import LLMConfig
from finegrade.llm.ledger import Ledger
from finegrade.llm.session import Session
from helpers.batches import request
from helpers.fake_llm import FakeLLM
from helpers.fake_process import FakeProcess


async def talk(ask, item):
    return (await ask(request(item))).text


@pytest.fixture
def session(fake_llm: FakeLLM, tmp_path):
    fake_llm.answer = lambda body: fake_llm.reply(body["messages"][0]["content"])
    with Session(LLMConfig(base_url=fake_llm.base_url), tmp_path / "ledger.sqlite", "test", tmp_path / "log") as opened:
        yield opened


def test_it_is_asked_again_and_again(session, fake_llm, tmp_path):
    done = []
    for items in ([1, 2, 3], [3, 4], [], [5]):
        assert session.ask(items, talk, lambda: done.append(1)) == list(map(str, items))
    assert len(done) == 6
    assert len(fake_llm.requests) == 5
    with Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
        assert ledger.totals()["replies"] == 5


def test_an_error_in_one_use_leaves_the_next_as_it_was(session):
    async def fail(ask, item):
        await talk(ask, item)
        raise KeyError

    assert session.ask([1], talk, lambda: None) == ["1"]
    with pytest.raises(KeyError):
        session.ask([2, 3], fail, lambda: None)
    assert session.ask([3, 4], talk, lambda: None) == ["3", "4"]


def test_what_is_not_used_leaves_no_file(tmp_path):
    with Session(LLMConfig(), tmp_path / "ledger.sqlite", "test", tmp_path / "log"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_each_use_is_a_batch_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("finegrade.llm.batch.client.LINGER", 0.02)
    monkeypatch.setattr("finegrade.llm.batch.runner.POLL_FIRST", 0.02)
    server = FakeProcess(tmp_path, batches={})
    try:
        config = LLMConfig(base_url=server.base_url, batch=True)
        with Session(config, tmp_path / "ledger.sqlite", "test", tmp_path / "log") as session:
            found = [session.ask(items, talk, lambda: None) for items in (range(20), range(10, 30), range(5))]
        assert list(map(len, found)) == [20, 20, 5]
        assert found[0][10:] == found[1][:10]
        assert server.moments()["created"] == 2
        assert set(server.asked().values()) == {1}
    finally:
        server.close()
