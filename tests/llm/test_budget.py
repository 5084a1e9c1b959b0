"""Caps hold, with what is under way counted in full; nothing is sent without a yes; one process a run folder."""

import asyncio
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.cli.estimate import need_consent
from finegrade.config import Config, LLMConfig
from finegrade.config.toml import parse_config
from finegrade.errors import InputError
from finegrade.llm.accounts import Budget, LocalLedger
from finegrade.llm.client import LLMClient
from finegrade.llm.ledger import Ledger, Reply
from finegrade.llm.request import ChatRequest, Message
from finegrade.storage.run_folder import RunFolder

REMOTE = {"base_url": "https://llm.example.org/v1", "model": "m", "max_tokens": 1000}


def request(text: str, max_tokens: int = 50) -> ChatRequest:
    message = Message(role="user", content=text)
    return ChatRequest(model="m", messages=(message,), max_tokens=max_tokens, temperature=0, seed=0, reply_schema={})


def reserve(budget: Budget, one: ChatRequest) -> None:
    asyncio.run(asyncio.wait_for(budget.reserve(one), 5))


@contextmanager
def accounts(folder: Path, max_tokens: int) -> Iterator[LocalLedger]:
    with Ledger(folder / "ledger.sqlite", "test") as ledger:
        budget = Budget(LLMConfig(max_tokens=max_tokens), ledger)
        with closing(LocalLedger(ledger, budget)) as kept:
            yield kept


def reply(tokens_in: int, tokens_out: int) -> Reply:
    return Reply(text="x", finish_reason="stop", prompt_tokens=tokens_in, completion_tokens=tokens_out, seconds=0)


@settings(max_examples=60, deadline=None)
@given(
    cap=st.integers(50, 3000),
    in_money=st.booleans(),
    asked=st.lists(
        st.tuples(st.integers(0, 200), st.integers(1, 100), st.sampled_from(["", "settle", "less", "lose", "release"])),
        max_size=40,
    ),
)
def test_what_is_spent_never_passes_the_cap(tmp_path_factory, cap, in_money, asked):
    """Whatever becomes of each attempt: what it can have cost is never more than the cap, all attempts together."""
    path = tmp_path_factory.mktemp("budget") / "ledger.sqlite"
    prices = {"max_cost": cap, "price_in": 1e6, "price_out": 2e6}
    worth = 2 if in_money else 1  # of what is written
    with Ledger(path, "test") as ledger:
        budget = Budget(LLMConfig(**(prices if in_money else {"max_tokens": cap})), ledger)
        spent, under_way = 0, []
        for length, out, what_then in asked:
            one = request("x" * length, out)
            if budget.refusal(one):
                continue
            reserve(budget, one)
            under_way.append(one)
            if not what_then:
                continue
            done = under_way.pop(0)
            part = 2 if what_then == "less" else 1
            if what_then in ("settle", "less"):
                budget.settle(done, reply(done.size(), done.max_tokens // part))
            else:
                getattr(budget, what_then)(*([done] if what_then == "release" else []))
            if what_then != "release":
                spent += done.size() + worth * (done.max_tokens // part)
            assert spent + sum(one.size() + worth * one.max_tokens for one in under_way) <= cap


def test_what_cannot_be_reserved_waits_for_what_is_under_way(tmp_path):
    async def go():
        with Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
            budget = Budget(LLMConfig(max_tokens=200), ledger)
            await budget.reserve(request("x" * 84, 50))  # at most 150
            second = asyncio.ensure_future(budget.reserve(request("x" * 84, 50)))
            third = asyncio.ensure_future(budget.reserve(request("x" * 884, 50)))
            await asyncio.sleep(0.01)
            assert not second.done()
            budget.settle(request("x" * 84, 50), reply(20, 5))
            await asyncio.wait_for(second, 5)
            budget.lose()  # the second is spent in full, and nothing is under way
            with pytest.raises(InputError, match="175 tokens spent"):
                await asyncio.wait_for(third, 5)

    asyncio.run(go())


def test_money_is_capped_by_the_prices(tmp_path):
    config = LLMConfig(max_cost=0.001, price_in=1.0, price_out=10.0)
    with Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
        budget = Budget(config, ledger)
        reserve(budget, request("x" * 84, 50))  # 100 in, 50 out: 0.0006
        assert "llm.max_cost" in str(budget.refusal(request("x" * 84, 50)))
        budget.settle(request("x" * 84, 50), reply(10, 5))
        reserve(budget, request("x" * 84, 50))


def test_what_was_paid_stays_what_it_was_whatever_the_prices_are_now(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
        for key, cost in (("priced", 9.5), ("not priced", None)):
            ledger.asked(key, {})
            ledger.replied(key, reply(1_000_000, 0).model_copy(update={"cost": cost}))
        config = LLMConfig(max_cost=10, price_in=0.1, price_out=0.1)
        assert Budget(config, ledger).refusal(request("x", 3_000_000)) is None  # 9.5 + 0.1 + 0.3
        assert "9.6000 spent" in str(Budget(config, ledger).refusal(request("x", 5_000_000)))


def test_what_was_spent_before_counts(tmp_path):
    with Ledger(tmp_path / "ledger.sqlite", "queries") as ledger:
        ledger.asked("key", {})
        ledger.replied("key", reply(900, 50))
    with (
        Ledger(tmp_path / "ledger.sqlite", "synthesize") as ledger,
        pytest.raises(InputError, match="950 tokens spent"),
    ):
        reserve(Budget(LLMConfig(max_tokens=1000), ledger), request("x", 50))


def test_a_request_whose_reply_was_lost_counts_with_the_most_that_it_can_cost(tmp_path):
    lost = request("x" * 884, 50)
    with Ledger(tmp_path / "ledger.sqlite", "queries") as ledger:
        ledger.asked(lost.key(), lost.model_dump(mode="json"))
    with Ledger(tmp_path / "ledger.sqlite", "synthesize") as ledger:
        with pytest.raises(InputError, match="950 tokens spent or under way"):
            reserve(Budget(LLMConfig(max_tokens=1000), ledger), request("x", 50))
        ledger.asked(lost.key(), lost.model_dump(mode="json"))
        ledger.replied(lost.key(), reply(10, 5))  # the first attempt may have been paid for all the same
        with pytest.raises(InputError, match="965 tokens spent or under way"):
            reserve(Budget(LLMConfig(max_tokens=1000), ledger), request("x", 50))


def test_what_an_earlier_session_has_under_way_is_settled_once(tmp_path):
    """Lost, until it is taken up: then its reply replaces the most that it could cost, and others wait for that."""
    before = request("x" * 884, 50)  # at most 950
    with Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
        ledger.asked(before.key(), before.model_dump(mode="json"))

        async def go():
            budget = Budget(LLMConfig(max_tokens=1000), ledger)
            budget.take_up()
            waiting = asyncio.ensure_future(budget.reserve(request("x" * 84, 50)))  # at most 150
            await asyncio.sleep(0)
            assert not waiting.done()
            budget.settle(before, reply(800, 49))
            await asyncio.wait_for(waiting, 5)
            budget.lose()
            with pytest.raises(InputError, match="999 tokens spent or under way"):
                await asyncio.wait_for(budget.reserve(request("x" * 84, 50)), 5)

        asyncio.run(go())


def test_every_attempt_counts_until_the_cap(fake_llm, tmp_path, monkeypatch):
    """A server that is too slow is asked again and again: each time it may have done the work."""
    monkeypatch.setattr("finegrade.llm.errors._pause", lambda error, attempt: 0.0)
    fake_llm.answer = lambda body: (time.sleep(0.3), fake_llm.reply("x"))[1]
    one = request("x" * 84, 50)  # at most 150 tokens

    async def go():
        with accounts(tmp_path, 500) as kept:
            client = LLMClient(fake_llm.base_url, "none", kept, 0.05, "Start it.")
            try:
                await client.complete(one)
            finally:
                await client.close()

    for _ in range(2):
        with pytest.raises(InputError, match=r"llm\.max_tokens"):
            asyncio.run(go())
        assert len(fake_llm.requests) <= 3


def test_the_client_stops_at_the_cap_and_keeps_what_it_has(fake_llm, tmp_path):
    async def go():
        with accounts(tmp_path, 200) as kept, Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
            client = LLMClient(fake_llm.base_url, "none", kept, 10, "Start it.")
            try:
                for number in range(50):
                    await client.complete(request(f"{number}", 50))
            finally:
                await client.close()
                assert ledger.totals()["replies"] == len(fake_llm.requests)

    with pytest.raises(InputError, match=r"llm\.max_tokens"):
        asyncio.run(go())
    assert 1 <= len(fake_llm.requests) < 20


@pytest.mark.parametrize(
    ("llm", "told"),
    [
        ({"base_url": "https://llm.example.org/v1"}, "a remote LLM needs a cap"),
        ({"base_url": "https://llm.example.org/v1", "max_cost": 1.0}, "max_cost needs price_in and price_out"),
    ],
)
def test_a_remote_llm_needs_a_cap(llm, told):
    with pytest.raises(InputError, match=told):
        parse_config({"source": {"kind": "python-docs"}, "llm": llm}, "test")


def config(**llm) -> Config:
    return parse_config({"source": {"kind": "python-docs"}, "llm": llm}, "test")


def test_a_local_server_is_asked_without_a_word(tmp_path, capsys):
    need_consent(config(base_url="http://127.0.0.1:8000/v1"), RunFolder(tmp_path), False, None)
    need_consent(config(), RunFolder(tmp_path), False, None)
    assert capsys.readouterr().err == ""


def test_a_remote_llm_is_told_of_and_asked_for_once(tmp_path, capsys):
    run, asked = RunFolder(tmp_path), []

    def yes(question):
        asked.append(question)
        return True

    need_consent(config(**REMOTE), run, False, yes)
    told = capsys.readouterr().err
    for part in ("llm.example.org", "requests", "tokens", "never more than 1,000 tokens"):
        assert part in told
    need_consent(config(**REMOTE), run, False, None)
    assert len(asked) == 1
    with pytest.raises(InputError):  # another cap is another question
        need_consent(config(**REMOTE | {"max_tokens": 2000}), run, False, None)


@pytest.mark.parametrize(("ask", "got"), [(None, "nobody to ask"), (lambda question: False, "got no;")])
def test_without_a_yes_nothing_goes_on(tmp_path, ask, got):
    with pytest.raises(InputError, match=got):
        need_consent(config(**REMOTE), RunFolder(tmp_path), False, ask)
    need_consent(config(**REMOTE), RunFolder(tmp_path), True, ask)


def test_the_cost_is_told_where_prices_are_named(tmp_path, capsys):
    priced = REMOTE | {"price_in": 100.0, "price_out": 400.0, "max_cost": 5.0}
    need_consent(config(**priced), RunFolder(tmp_path), True, None)
    assert "by the prices you named; never more than 5 in money or 1,000 tokens" in capsys.readouterr().err


HOLD = """
import sys, time
from pathlib import Path
from finegrade.storage.run_folder import RunFolder
with RunFolder(Path(sys.argv[1])).locked():
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_process_refuses_and_a_killed_one_gives_way(tmp_path):
    run = RunFolder(tmp_path / "run")
    with subprocess.Popen([sys.executable, "-c", HOLD, str(run.root)], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(InputError, match="another finegrade at work in it"), run.locked():
            pass
        process.send_signal(signal.SIGKILL)
        process.wait()
    with run.locked():
        pass
