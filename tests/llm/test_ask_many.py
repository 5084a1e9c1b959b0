"""Many requests at once: in order, none twice, no more than the server bears, and an end where there is no sense."""

import asyncio
import threading
import time
from contextlib import aclosing

import pytest

from finegrade.config import LLMConfig
from finegrade.errors import InputError
from finegrade.llm.ledger import Ledger
from finegrade.llm.request import FAILED, ChatRequest, Message
from finegrade.llm.session import ask_each, request_settings
from helpers.processes import LONGEST


def request(content: object) -> ChatRequest:
    return ChatRequest(
        model="m", messages=(Message(role="user", content=str(content)),), max_tokens=20, temperature=0, seed=0,
        reply_schema={"type": "object", "properties": {"passage": {"type": "string", "maxLength": 9}}},
    )  # fmt: skip


def content(body: dict) -> str:
    return body["messages"][0]["content"]


@pytest.fixture
def ask_all(fake_llm, tmp_path, monkeypatch):
    """Asks about items; gives them with their replies."""
    monkeypatch.setattr("finegrade.llm.errors._pause", lambda error, failures: 0.01)

    def ask_all(items, concurrency=8, **settings):
        found = []
        config = LLMConfig(base_url=fake_llm.base_url, concurrency=concurrency, **settings)

        async def go():
            with Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
                asking = ask_each(items, lambda ask, item: ask(request(item)), config, ledger, tmp_path / "llm.log")
                async with aclosing(asking) as replies:
                    async for item, reply in replies:
                        found.append((item, reply))

        asyncio.run(go())
        return found

    return ask_all


@pytest.mark.slow
def test_results_come_in_the_order_of_the_items_whatever_takes_longer(ask_all, fake_llm):
    fake_llm.answer = lambda body: (time.sleep(0.2 * (int(content(body)) % 5 == 0)), fake_llm.reply(content(body)))[1]
    found = ask_all(range(40))
    assert [(item, reply.text) for item, reply in found] == [(i, str(i)) for i in range(40)]


def test_a_slow_one_holds_up_no_others(ask_all, fake_llm):
    asked_while_slow, waited = [], []
    over = threading.Event()

    def answer(body):
        if content(body) == "0":
            waited.append(over.wait(LONGEST))
        else:
            asked_while_slow.append(body)
            if len(asked_while_slow) == 30:
                over.set()
        return fake_llm.reply("x")

    fake_llm.answer = answer
    ask_all(range(31))
    assert waited == [True]


@pytest.mark.parametrize("concurrency", [1, 256])
@pytest.mark.slow
def test_as_many_are_under_way_as_the_configuration_says(ask_all, fake_llm, concurrency):
    all_there = threading.Barrier(concurrency)
    fake_llm.answer = lambda body: (all_there.wait(LONGEST), fake_llm.reply("x"))[1]
    assert len(ask_all(range(2 * concurrency), concurrency=concurrency)) == 2 * concurrency


def test_what_was_not_sent_yet_when_it_was_stopped_is_not_lost(fake_llm, tmp_path):
    """One is under way, the next is written down and waits."""
    sent, over = threading.Event(), threading.Event()
    fake_llm.answer = lambda body: (sent.set(), over.wait(LONGEST), fake_llm.reply("x"))[2]

    async def go():
        with Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
            config = LLMConfig(base_url=fake_llm.base_url, concurrency=1)
            asking = ask_each(range(4), lambda ask, item: ask(request(item)), config, ledger, tmp_path / "llm.log")
            async with aclosing(asking) as replies:
                await anext(replies)

    async def stop():
        task = asyncio.ensure_future(go())
        await asyncio.to_thread(sent.wait, LONGEST)
        with Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
            while ledger.totals()["requests"] < 2:
                await asyncio.sleep(0.01)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    try:
        asyncio.run(stop())
    finally:
        over.set()
    with Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
        assert [lost["messages"][0]["content"] for lost, _ in ledger.lost()] == ["0"]


def test_the_same_request_is_asked_once_even_at_the_same_time(ask_all, fake_llm):
    fake_llm.answer = lambda body: (time.sleep(0.05), fake_llm.reply("x"))[1]
    assert len(ask_all(["same"] * 20)) == 20
    assert len(fake_llm.requests) == 1


@pytest.mark.slow
def test_a_server_that_takes_few_at_once_gets_few_at_once_and_answers_all(ask_all, fake_llm):
    """The most it ever had at once falls from what was configured to about what it bears."""
    inside, turned_away, lock = 0, [], threading.Lock()

    def answer(body):
        nonlocal inside
        with lock:
            if inside >= 4:
                turned_away.append(time.monotonic())
                return 429, {}
            inside += 1
        time.sleep(0.01)
        with lock:
            inside -= 1
        return fake_llm.reply("x")

    fake_llm.answer = answer
    found = ask_all(range(400), concurrency=64)
    assert all(reply.finish_reason == "stop" for _, reply in found)
    assert len(turned_away) < 300  # sixty at the start; without the cuts it is thousands


def test_one_that_fails_again_and_again_is_set_aside_where_others_are_answered(ask_all, fake_llm):
    fake_llm.answer = lambda body: (500, {}) if content(body) == "7" else fake_llm.reply("x")
    found = dict(ask_all(range(40)))
    assert found[7].finish_reason == FAILED
    assert {reply.finish_reason for item, reply in found.items() if item != 7} == {"stop"}
    fake_llm.answer = lambda body: fake_llm.reply("now")
    assert dict(ask_all([7]))[7].text == "now"


@pytest.mark.parametrize(("status", "told"), [(500, "HTTP status 500"), (503, "HTTP status 503"), (429, "status 429")])
@pytest.mark.slow
def test_a_server_that_answers_nobody_any_more_stops_the_work_and_what_is_there_is_kept(
    ask_all, fake_llm, tmp_path, status, told
):
    fake_llm.answer = lambda body: (status, {}) if len(fake_llm.requests) > 20 else fake_llm.reply("x")
    with pytest.raises(InputError, match=told):
        ask_all(range(1000))
    assert len(fake_llm.requests) < 20 + 9 * (32 + 8 + 5) + 32  # five are given up first, and others take their place
    with Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
        assert ledger.totals()["replies"] == 20
        assert len(ledger.lost()) <= 8  # under way when it stopped


@pytest.mark.parametrize("answer", [(400, {}), (500, {}), (200, [])], ids=["refused", "fails", "strange"])
@pytest.mark.slow
def test_a_run_that_lacks_only_what_gets_no_answer_comes_to_its_end(ask_all, fake_llm, answer):
    """What was answered before is found at once: what the server will not answer is then all that is asked."""
    hopeless = {"3", "11", "17"} if answer[0] == 500 else {str(number) for number in range(0, 60, 3)}
    fake_llm.answer = lambda body: answer if content(body) in hopeless else fake_llm.reply("x")
    if answer[0] == 200:
        hopeless = {"3", "11", "17"}
    first = ask_all(range(60))
    before = len(fake_llm.requests)
    for concurrency in (1, 64):
        again = ask_all(range(60), concurrency=concurrency)
        assert {str(item) for item, reply in again if reply.finish_reason != "stop"} == hopeless
        assert [reply.text for _, reply in again] == [reply.text for _, reply in first]
    assert {content(body) for body in fake_llm.requests[before:]} == hopeless


@pytest.mark.parametrize("status", [400, 500])
@pytest.mark.slow
def test_a_server_that_answers_nobody_stops_a_run_that_goes_on_too(ask_all, fake_llm, status):
    ask_all(range(4))
    fake_llm.answer = lambda body: (status, {})
    with pytest.raises(InputError, match=f"HTTP status {status}"):
        ask_all(range(400), concurrency=1)
    assert len({content(body) for body in fake_llm.requests}) <= 4 + 5 + 3  # on their way when it stopped


def test_a_spent_quota_is_told_at_once(ask_all, fake_llm):
    fake_llm.answer = lambda body: (429, {"error": {"code": "insufficient_quota", "message": "pay"}})
    with pytest.raises(InputError, match="see to your quota"):
        ask_all(range(100), concurrency=1)
    assert len(fake_llm.requests) <= 2  # the next one was waiting for the place


def test_what_is_under_way_at_the_cap_is_waited_for(ask_all, fake_llm, tmp_path):
    """Each counts with 100 at most and turns out to take 10: more than two at once would go beyond the cap."""
    cap = 2 * (request("00").size() + 20) + 9
    fake_llm.answer = lambda body: (time.sleep(0.01), fake_llm.reply("x"))[1]
    with pytest.raises(InputError, match=r"llm\.max_tokens"):
        ask_all([f"{i:02}" for i in range(50)], max_tokens=cap)
    with Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
        totals = ledger.totals()
        assert ledger.lost() == []
    assert totals["prompt_tokens"] + totals["completion_tokens"] <= cap
    assert totals["replies"] == len(fake_llm.requests) >= 3


@pytest.mark.slow
def test_a_strange_answer_to_one_leaves_nobody_waiting_for_its_share_of_the_cap(ask_all, fake_llm):
    """The first in order fails, and waits for the cap behind one that ends with an answer of another form."""
    cap = request("00").size() + 20 + 1

    def answer(body):
        if content(body) == "00":
            return 500, {}
        time.sleep(0.3)
        return 200, {"no": "completion"}

    fake_llm.answer = answer
    finished = threading.Event()

    def work():
        with pytest.raises(InputError):
            ask_all([f"{i:02}" for i in range(5)], max_tokens=cap)
        finished.set()

    threading.Thread(target=work, daemon=True).start()
    assert finished.wait(LONGEST)


REFUSALS = {
    "bounds": lambda body: "maxLength" in str(body.get("response_format")),
    "schema": lambda body: body.get("response_format", {}).get("type") == "json_schema",
    "any form": lambda body: "response_format" in body,
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_what_a_server_does_not_take_is_said_in_another_way(ask_all, fake_llm, kind):
    fake_llm.answer = lambda body: (400, {"error": {}}) if REFUSALS[kind](body) else fake_llm.reply("x")
    assert {reply.text for _, reply in ask_all(range(50), concurrency=4)} == {"x"}
    assert len(fake_llm.requests) <= 50 + 4 * 4  # once it is known, nobody tries the other ways


@pytest.mark.parametrize(
    ("name", "instead"), [("max_tokens", "max_completion_tokens"), ("temperature", None), ("seed", None)]
)
def test_a_parameter_that_a_model_does_not_know_goes(ask_all, fake_llm, name, instead):
    error = {"error": {"param": name, "code": "unsupported_parameter", "message": "no"}}
    fake_llm.answer = lambda body: (400, error) if name in body else fake_llm.reply("x")
    assert {reply.text for _, reply in ask_all(range(5), concurrency=1)} == {"x"}
    assert len(fake_llm.requests) == 6
    assert fake_llm.requests[-1].get(instead) == (20 if instead else None)
    assert "json_schema" in str(fake_llm.requests[-1]["response_format"])


def test_a_reasoning_model_gets_room_to_think_and_what_else_the_user_says(fake_llm, tmp_path):
    settings = LLMConfig(
        base_url=fake_llm.base_url, thinking_tokens=500, parameters={"reasoning_effort": "low", "top_p": 0.9}
    )
    asked = request("x").model_copy(update=dict(request_settings(settings, 0.5, 1)))

    async def go():
        with Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
            asking = ask_each([1], lambda ask, _: ask(asked), settings, ledger, tmp_path / "llm.log")
            async with aclosing(asking) as replies:
                return [reply async for _, reply in replies]

    assert len(asyncio.run(go())) == 1
    (body,) = fake_llm.requests
    assert body["max_tokens"] == 20 + 500
    assert (body["reasoning_effort"], body["top_p"], body["temperature"]) == ("low", 0.9, 0.5)


def test_names_of_requests_stay_what_they_are():
    """Or all that was ever answered would be asked, and paid, again."""
    embedded = request("x").model_copy(update={"reply_schema": {}})
    remote = embedded.model_copy(update={"server": "http://127.0.0.1:1/v1"})
    assert embedded.key() == "b798d16a0958c5f65221f1def113951dbb5ad42ab84cb9e3615ae2cff6ce63bc"
    assert remote.key() == "56ded61e2611dc9457b5cc31eecae7b33adaeb04a88c297efe739321e8c9579f"


def test_settings_that_are_not_used_do_not_name_a_request():
    plain = request("x")
    assert plain.model_copy(update={"parameters": {}, "thinking_tokens": 0}).key() == plain.key()
    assert plain.model_copy(update={"parameters": {"top_p": 0.9}}).key() != plain.key()
    assert plain.model_copy(update={"thinking_tokens": 9}).key() != plain.key()


def test_a_refusal_of_one_request_teaches_nothing(ask_all, fake_llm):
    fake_llm.answer = lambda body: (400, {}) if content(body) == "0" else fake_llm.reply("x")
    found = ask_all(range(30), concurrency=1)
    assert found[0][1].finish_reason == "refused"
    assert "maxLength" in str(fake_llm.requests[-1])


def test_money_is_in_the_ledger_with_the_reply(ask_all, tmp_path):
    ask_all(range(3), price_in=2.0, price_out=10.0)  # 7 in, 3 out
    with Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
        assert ledger.totals()["cost"] == pytest.approx(3 * (7 * 2 + 3 * 10) / 1e6)
