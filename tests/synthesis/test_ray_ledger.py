"""The ledger's actor for workers that may die at any time; Ray itself is not needed here."""

import asyncio
import pickle
from collections.abc import Awaitable, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from finegrade.cli.main import main
from finegrade.config import LLMConfig
from finegrade.config.toml import parse_config
from finegrade.errors import InputError
from finegrade.llm.ledger import Ledger, Reply
from finegrade.llm.request import ChatRequest, Message
from finegrade.synthesis.ray_ledger import LedgerActor, LedgerProxy


def request(text: str) -> ChatRequest:
    """Of 100 tokens and a reply of at most 50."""
    message = Message(role="user", content=text.ljust(84))
    return ChatRequest(model="m", messages=(message,), max_tokens=50, temperature=0, seed=0, reply_schema={})


def reply(text: str, tokens: int = 10) -> Reply:
    return Reply(text=text, finish_reason="stop", prompt_tokens=tokens, completion_tokens=tokens, seconds=0)


class _Handle:
    """Calls a ledger actor as Ray's handle of an actor does."""

    def __init__(self, actor: LedgerActor) -> None:
        self._actor = actor

    def __getattr__(self, name: str) -> Any:
        return SimpleNamespace(remote=getattr(self._actor, name))


ONE, TWO = request("one"), request("two")


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def keep(path):
    """Does something with a ledger actor under a cap of so many tokens."""

    def keep(cap: int, what: Callable[[LedgerActor], Awaitable[Any]]) -> Any:
        async def go() -> Any:
            actor = LedgerActor(path, "test", LLMConfig(max_tokens=cap))
            await actor.open()
            try:
                return await asyncio.wait_for(what(actor), 10)
            finally:
                await actor.close()

        return asyncio.run(go())

    return keep


def begin(actor: LedgerActor, turn: str, one: ChatRequest) -> asyncio.Task[None]:
    return asyncio.ensure_future(actor.call(turn, "begin", one.key(), one))


def test_what_a_dead_worker_had_under_way_is_lost_when_its_part_is_taken_up_again(keep, path):
    async def go(actor: LedgerActor) -> None:
        await actor.take_up("a", 0)
        await actor.take_up("b", 1)
        await begin(actor, "a", ONE)
        waits = begin(actor, "b", TWO)
        await asyncio.sleep(0.05)
        assert not waits.done()  # the first might turn out cheaper
        await actor.take_up("c", 0)
        with pytest.raises(InputError, match="150 tokens spent"):
            await waits

    keep(200, go)
    with Ledger(path, "test") as ledger:
        assert ledger.lost() == [(ONE.model_dump(mode="json"), 1)]


def test_who_died_while_it_waited_for_the_budget_spends_nothing(keep, path):
    async def go(actor: LedgerActor) -> None:
        await actor.take_up("a", 0)
        await actor.take_up("b", 1)
        await begin(actor, "a", ONE)
        waits = begin(actor, "b", TWO)
        await asyncio.sleep(0.05)
        await actor.take_up("c", 1)
        await actor.call("a", "settle", ONE.key(), ONE, reply("x"))
        with pytest.raises(RuntimeError, match="another worker"):
            await waits
        await begin(actor, "c", TWO)  # 20 spent, 150 set aside, 30 left: not so if b's were spent

    keep(200, go)
    with Ledger(path, "test") as ledger:
        assert ledger.lost() == [(TWO.model_dump(mode="json"), 1)]


def test_a_reply_that_comes_after_its_turn_has_ended_is_not_counted_twice(keep, path):
    async def go(actor: LedgerActor) -> None:
        await actor.take_up("a", 0)
        await begin(actor, "a", ONE)
        await actor.take_up("b", 0)
        with pytest.raises(RuntimeError, match="another worker"):
            await actor.call("a", "settle", ONE.key(), ONE, reply("late"))
        assert await actor.call("b", "find", ONE.key()) is None

    keep(200, go)


def test_one_that_waits_for_the_budget_holds_up_nothing_that_was_told_together_with_it(keep):
    """Else it would wait for ever: for one that was never told that it may be sent."""
    pytest.importorskip("ray.exceptions", reason="ray is not installed")

    async def go(actor: LedgerActor) -> None:
        proxy = LedgerProxy(_Handle(actor))
        await proxy.take_up(0)
        first, second = (asyncio.ensure_future(proxy.begin(one.key(), one)) for one in (ONE, TWO))
        await first
        await asyncio.sleep(0.05)
        assert not second.done()
        assert await proxy.settle(ONE.key(), ONE, reply("x")) == reply("x")
        await second
        with pytest.raises(InputError, match="tokens spent"):
            await asyncio.gather(proxy.begin("3", request("x" * 1000)), proxy.lose())

    keep(200, go)


def test_of_two_that_ask_the_same_both_go_on_with_the_first_reply(keep, path):
    async def go(actor: LedgerActor) -> list[Reply | None]:
        for part, turn in enumerate("ab"):
            await actor.take_up(turn, part)
            await begin(actor, turn, ONE)
        return await asyncio.gather(*(actor.call(turn, "settle", ONE.key(), ONE, reply(turn)) for turn in "ba"))

    first, second = keep(1000, go)
    assert first == second == reply("b")
    with Ledger(path, "test") as ledger:
        assert ledger.find(ONE.key()) == reply("b")
        assert ledger.lost() == [(ONE.model_dump(mode="json"), 1)]  # the second was paid for, too


def test_an_input_error_survives_the_way_between_processes():
    error = InputError("llm.max_tokens", got=ValueError("7"), wanted="8", remedy="Raise it.")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is InputError
    assert str(again) == str(error)


@pytest.mark.parametrize(
    ("llm", "told"),
    [({}, "engine ray needs llm.base_url"), ({"base_url": "http://127.0.0.1:1/v1", "batch": True}, "asks directly")],
)
def test_what_does_not_go_with_ray_is_told(llm, told):
    data = {"source": {"kind": "tasks"}, "llm": llm, "synthesis": {"engine": "ray", "mode": "stepwise"}}
    with pytest.raises(InputError, match=told):
        parse_config(data, "test")


@pytest.mark.parametrize(
    ("command", "engine", "told"),
    [
        ("run", "spark", "wanted 'plain' or 'ray'"),
        ("synthesize", "spark", "wanted 'plain' or 'ray'"),
        ("run", "ray", 'pip install "finegrade[ray]"'),
    ],
)
def test_an_engine_that_is_not_there_is_one_line(command, engine, told, tmp_path, monkeypatch, capsys):
    config = tmp_path / "finegrade.toml"
    config.write_text('[source]\nkind = "tasks"\n[llm]\nbase_url = "http://127.0.0.1:1/v1"\n')
    monkeypatch.setattr("finegrade.synthesis.ray_engine.find_spec", lambda name: None)
    options = ["--config", str(config), "--run", str(tmp_path / "run"), "--engine", engine]
    monkeypatch.setattr("sys.argv", ["finegrade", command, *options])
    with pytest.raises(SystemExit) as end:
        main()
    assert end.value.code == 2
    assert told in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "run" / "tasks.parquet").exists()
