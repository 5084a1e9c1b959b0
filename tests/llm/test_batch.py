"""Batches: replies are those of the direct way, nothing is asked twice, caps hold, and no server is believed."""

import asyncio
import json
import re
from collections import Counter
from contextlib import aclosing

import pytest
from pydantic import create_model

from finegrade.config import LLMConfig
from finegrade.config.toml import parse_config
from finegrade.errors import InputError
from finegrade.llm.batch.files import request_line
from finegrade.llm.batch.runner import BatchRow, intend
from finegrade.llm.connection import Way
from finegrade.llm.ledger import Ledger
from finegrade.llm.request import FAILED, REFUSED
from finegrade.llm.session import ask_each
from finegrade.llm.structured import ask_for
from finegrade.records import Chunk
from finegrade.stages.pipeline import run_stage
from finegrade.storage.atomic import read_json
from finegrade.storage.run_folder import LEDGER, LLM_LOG, RunFolder
from finegrade.synthesis.queries import ask_for_queries
from helpers.batches import fake, request  # noqa: F401  (fixtures)

KEY = "sk-secret-KEY-123"
ONE_TOKENS = 150  # what a request costs at the fake


@pytest.fixture
def ask_all(tmp_path, monkeypatch):
    """Asks about items; gives them with their replies."""
    monkeypatch.setattr("finegrade.llm.batch.client.LINGER", 0.02)
    monkeypatch.setattr("finegrade.llm.batch.runner.POLL_FIRST", 0.02)
    monkeypatch.setattr("finegrade.llm.errors._pause", lambda error, failures: 0.01)
    monkeypatch.setenv("TEST_LLM_KEY", KEY)

    def ask_all(server, items, talk=lambda ask, item: ask(request(item)), batch=True, **settings):
        settings = {"base_url": server.base_url, "api_key_env": "TEST_LLM_KEY", "batch": batch} | settings

        async def go():
            with Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
                asking = ask_each(items, talk, LLMConfig(**settings), ledger, tmp_path / "llm.log")
                async with aclosing(asking) as replies:
                    return [(item, reply) async for item, reply in replies]

        return asyncio.run(go())

    return ask_all


def totals(tmp_path) -> dict[str, float]:
    with Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
        return ledger.totals() | {"lost": sum(times for _, times in ledger.lost())}


def states(tmp_path) -> list[str]:
    with Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
        return [state for (state,) in ledger.execute("SELECT state FROM batches ORDER BY handed_in")]


def reasons(found) -> Counter[str]:
    return Counter(reply.finish_reason for _, reply in found)


def told(ask_all, server, items=range(10), *talk, **settings) -> str:
    with pytest.raises(InputError) as error:
        ask_all(server, items, *talk, **settings)
    assert "\n" not in str(error.value)
    assert KEY not in str(error.value)
    return str(error.value)


@pytest.mark.slow
def test_replies_are_those_of_the_direct_way_in_order_and_in_one_batch(ask_all, fake, tmp_path):
    server = fake(seconds=0.1)
    found = ask_all(server, range(100), price_in=1.0, price_out=10.0)
    assert [item for item, _ in found] == list(range(100))
    assert server.moments()["created"] == 1
    assert totals(tmp_path)["replies"] == 100
    assert totals(tmp_path)["cost"] == pytest.approx(100 * (100 * 1 + 50 * 10) / 1e6)
    (tmp_path / "ledger.sqlite").unlink()
    direct = ask_all(server, range(100), batch=False, concurrency=16)
    assert [(item, reply.text) for item, reply in found] == [(item, reply.text) for item, reply in direct]
    assert states(tmp_path) == []


@pytest.mark.slow
def test_a_data_set_made_by_batch_equals_one_made_directly(fake, tmp_path, monkeypatch):
    monkeypatch.setattr("finegrade.llm.batch.client.LINGER", 0.02)
    server = fake()
    chunks = [
        Chunk(id=str(i), text=f"About part {i}.", path="a.md", offset=0, heading="", group="a", side="train")
        for i in range(30)
    ]

    def write(way, **llm):
        data = {"source": {"kind": "documents", "path": "x"}, "llm": {"base_url": server.base_url, "model": "m"} | llm}
        run = RunFolder(tmp_path / way)
        with Ledger(run.path(LEDGER), "queries") as ledger:
            made = parse_config(data, "test")
            return asyncio.run(ask_for_queries(chunks, made.queries, made.llm, made.seed, ledger, run.path(LLM_LOG)))

    written, set_aside = write("direct", concurrency=8)
    assert len(written) > 60
    assert write("batch", batch=True) == (written, set_aside)
    assert server.moments()["created"] == 1


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["one-call", "stepwise"])
def test_samples_made_by_batch_equal_those_made_directly(fake, tmp_path, monkeypatch, mode):
    """To the byte; stepwise is a conversation, and takes a batch for each of its steps."""
    monkeypatch.setattr("finegrade.llm.batch.client.LINGER", 0.1)
    server = fake()

    def outputs(way, **llm):
        data = {
            "source": {"kind": "tasks"}, "tasks": {"number": 20}, "synthesis": {"llm_samples": 100, "mode": mode},
            "llm": {"base_url": server.base_url, "model": "m"} | llm,
        }  # fmt: skip
        run = RunFolder(tmp_path / way)
        for stage in ("tasks", "synthesize"):
            run_stage(stage, parse_config(data, "test"), run)
        return [read_json(run.root / "stages" / f"{stage}.json")["outputs"] for stage in ("tasks", "synthesize")]

    assert outputs("direct", concurrency=16) == outputs("batch", batch=True)
    assert 1 < server.moments()["created"] < 40


@pytest.mark.parametrize(
    ("limit", "value"),
    [("MOST_REQUESTS", 15), ("MOST_BYTES", 15 * len(request_line(request(10).key(), request(10), Way())))],
)
def test_what_is_more_than_a_batch_may_hold_goes_into_the_next(ask_all, fake, monkeypatch, limit, value):
    monkeypatch.setattr(f"finegrade.llm.batch.runner.{limit}", value)
    server = fake()
    assert reasons(ask_all(server, range(40))) == {"stop": 40}
    assert server.moments()["created"] == 3
    assert set(server.asked().values()) == {1}


@pytest.mark.slow
def test_what_the_ledger_holds_is_not_asked_again_whichever_way(ask_all, fake):
    server = fake()
    ask_all(server, range(5), batch=False)
    ask_all(server, range(10))
    ask_all(server, range(10), batch=False)
    ask_all(server, range(10))
    assert set(server.asked().values()) == {1}
    assert server.moments()["created"] == 1


@pytest.mark.slow
def test_conversations_take_a_batch_a_round(ask_all, fake):
    """The first reply of some cannot be read, and they ask again."""
    junk = {"choices": [{"message": {"content": "Sure!"}, "finish_reason": "stop"}]}
    server = fake(faults=[{"share": 0.3, "line": {"response": {"status_code": 200, "body": junk}}}])
    form = create_model("Form", passage=(str, ...))
    found = ask_all(server, range(40), talk=lambda ask, item: ask_for(ask, request(item), form, again=6))
    assert all(answer.value for _, answer in found)
    assert sum(server.asked().values()) > 45
    assert set(server.asked().values()) == {1}
    assert server.moments()["created"] <= 7  # one for each round, for all items together


@pytest.mark.slow
def test_what_is_in_a_batch_is_not_asked_directly_beside_it(ask_all, fake, tmp_path):
    server = fake(seconds=0.5)

    def ask_here(ask, item):
        return ask(request(item).model_copy(update={"server": server.base_url}))

    async def stop_when_it_is_made():
        while not server.moments()["created"]:
            await asyncio.sleep(0.02)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        ask_all(server, range(5), talk=lambda ask, item: asyncio.gather(ask_here(ask, item), stop_when_it_is_made()))
    assert "llm.batch: got false, while a batch" in told(ask_all, server, range(5), ask_here, batch=False)
    assert len(ask_all(fake(), range(2), batch=False)) == 2  # another server is
    assert len(ask_all(server, range(5, 8), ask_here)) == 3  # takes the other batch up, too: it is paid for
    assert len(ask_all(server, range(5), ask_here, batch=False)) == 5
    assert set(server.asked().values()) == {1}


def test_a_batch_that_was_never_made_and_that_nobody_wants_is_not_made(ask_all, fake, tmp_path):
    """A kill before the upload; then the prompt was changed."""
    server = fake()
    old = request("old").model_copy(update={"server": server.base_url})
    with Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
        ledger.asked(old.key(), old.model_dump(mode="json"))
        intend(ledger, BatchRow("a" * 32, frozenset([old.key()]), Way()))
    assert reasons(ask_all(server, ["new"])) == {"stop": 1}
    assert list(server.asked().values()) == [1]
    assert states(tmp_path) == ["not made", "completed"]
    assert totals(tmp_path)["lost"] == 0


def test_the_same_request_at_the_same_time_is_asked_once(ask_all, fake):
    server = fake()
    assert len(ask_all(server, ["same"] * 20)) == 20
    assert list(server.asked().values()) == [1]


@pytest.mark.slow
def test_a_batch_is_cut_to_what_the_cap_allows_and_the_rest_follows(ask_all, fake, tmp_path):
    """Each counts with twice of what it turns out to take."""
    server = fake()
    most = request("00").size() + 200
    found = ask_all(server, [f"{i:02}" for i in range(20)], max_tokens=19 * ONE_TOKENS + most)
    assert len(found) == 20
    assert 2 <= server.moments()["created"] <= 6
    assert totals(tmp_path)["lost"] == 0


@pytest.mark.slow
def test_the_cap_stops_it_and_what_was_paid_for_is_kept(ask_all, fake, tmp_path):
    server = fake()
    cap = 10 * ONE_TOKENS
    assert "llm.max_tokens" in told(ask_all, server, [f"{i:02}" for i in range(40)], max_tokens=cap)
    spent = totals(tmp_path)
    assert spent["prompt_tokens"] + spent["completion_tokens"] <= cap
    assert spent["replies"] == sum(server.asked().values()) == 8  # the ninth could cost more than is left
    assert spent["lost"] == 0


@pytest.mark.slow
def test_lines_that_expired_are_asked_again(ask_all, fake, tmp_path):
    expired = {"response": None, "error": {"code": "batch_expired", "message": "over"}}
    server = fake(faults=[{"share": 0.4, "times": 2, "line": expired}], ends=["expired"])
    assert reasons(ask_all(server, range(50))) == {"stop": 50}
    assert server.moments()["created"] == 3
    assert totals(tmp_path)["lost"] == 0  # they were not paid for
    assert states(tmp_path) == ["expired", "completed", "completed"]


@pytest.mark.parametrize(
    "line",
    [
        None,
        {"response": {"status_code": 500, "body": {"error": {}}}},
        {"response": {"status_code": 200, "body": "<html>"}},
        {"response": "what?"},
    ],
    ids=["missing", "failed there", "no completion", "wrong form"],
)
@pytest.mark.slow
def test_what_never_gets_a_reply_is_set_aside_and_asked_again_by_the_next_run(ask_all, fake, tmp_path, line):
    bad = fake(faults=[{"share": 0.2, "line": line}])
    found = ask_all(bad, range(50))
    failed = reasons(found)[FAILED]
    assert 3 < failed < 20
    assert reasons(found)["stop"] == 50 - failed
    assert bad.moments()["created"] == 3
    free = line and line["response"] != "what?" and line["response"]["status_code"] == 500
    assert totals(tmp_path)["lost"] == (0 if free else 3 * failed)  # they may have been paid for
    good = fake()
    assert reasons(ask_all(good, range(50))) == {"stop": 50}
    assert sum(good.asked().values()) == failed


def test_a_server_that_answers_nobody_stops_the_work(ask_all, fake):
    server = fake(faults=[{"line": None}])
    assert "nothing in 3 batches" in told(ask_all, server)
    assert server.moments()["created"] == 3


@pytest.mark.parametrize(
    "line",
    [None, {"response": {"status_code": 400, "body": {"error": {}}}, "error": None}],
    ids=["no line", "refused"],
)
@pytest.mark.slow
def test_a_run_that_lacks_only_what_gets_no_answer_comes_to_its_end(ask_all, fake, line):
    ask_all(fake(faults=[{"share": 0.2, "line": line}]), range(50))
    found = reasons(ask_all(fake(faults=[{"line": line}]), range(50)))
    assert found["stop"] > 30
    assert found[REFUSED if line else FAILED] == 50 - found["stop"]


def test_a_key_that_the_server_echoes_is_not_kept(ask_all, fake, tmp_path):
    message = {"content": f"Is it {KEY}?"}
    line = {"response": {"status_code": 200, "body": {"choices": [{"message": message, "finish_reason": "stop"}]}}}
    ((_, reply),) = ask_all(fake(faults=[{"line": line}]), range(1))
    assert reply.text == "Is it [key]?"
    assert all(KEY.encode() not in file.read_bytes() for file in tmp_path.glob("ledger.sqlite*"))


def test_refusals_of_some_are_theirs(ask_all, fake, tmp_path):
    refusal = {"response": {"status_code": 400, "body": {"error": {"message": "filtered"}}}, "error": None}
    server = fake(faults=[{"share": 0.3, "line": refusal}])
    found = reasons(ask_all(server, range(50)))
    assert found[REFUSED] > 5
    assert found["stop"] == 50 - found[REFUSED]
    assert server.moments()["created"] == 1
    assert totals(tmp_path)["lost"] == 0


@pytest.mark.parametrize(("holds", "param", "batches"), [("maxLength", None, 2), ('"temperature"', "temperature", 2)])
def test_what_a_server_does_not_take_is_said_in_another_way_by_the_next_batch(ask_all, fake, holds, param, batches):
    refusal = {"response": {"status_code": 400, "body": {"error": {"param": param}}}, "error": None}
    server = fake(faults=[{"holds": holds, "line": refusal}])
    assert reasons(ask_all(server, range(20))) == {"stop": 20}
    assert server.moments()["created"] == batches


@pytest.mark.slow
def test_a_refusal_of_everything_in_every_way_ends_in_one_line(ask_all, fake):
    server = fake(faults=[{"line": {"response": {"status_code": 400, "body": {}}}}])
    assert "a refusal of all 10 requests" in told(ask_all, server)
    assert server.moments()["created"] == 4


@pytest.mark.parametrize(
    ("status", "code", "line"),
    [(401, None, "a refusal of the key"), (404, None, "HTTP status 404"), (429, "insufficient_quota", "your quota")],
)
def test_what_will_be_the_same_for_all_stops_the_work_and_replies_are_kept(ask_all, fake, tmp_path, status, code, line):
    error = {"response": {"status_code": status, "body": {"error": {"code": code, "message": KEY}}}}
    server = fake(faults=[{"share": 0.3, "line": error}])
    assert line in told(ask_all, server, range(50))
    assert totals(tmp_path)["replies"] > 25
    assert server.moments()["created"] == 1


def test_a_batch_that_fails_as_a_whole_is_told_without_what_the_server_says(ask_all, fake, tmp_path):
    server = fake(ends=["failed"], code=KEY)
    assert "a refusal as a whole" in told(ask_all, server)
    assert states(tmp_path) == ["failed"]
    assert totals(tmp_path)["requests"] == 0
    assert len(ask_all(server, range(10))) == 10


def test_a_batch_that_is_too_large_now_is_halved(ask_all, fake):
    server = fake(ends=["failed", "failed"], code="token_limit_exceeded")
    assert reasons(ask_all(server, range(40))) == {"stop": 40}
    assert server.moments()["created"] == 2 + 4


def test_a_cancelled_batch_gives_what_it_has_and_the_same_command_asks_the_rest(ask_all, fake, tmp_path):
    cancelled = {"response": None, "error": {"code": "batch_cancelled"}}
    server = fake(ends=["cancelled"], faults=[{"share": 0.5, "times": 1, "line": cancelled}])
    assert "a cancelled one" in told(ask_all, server, range(30))
    held = totals(tmp_path)["replies"]
    assert 5 < held < 25
    assert reasons(ask_all(server, range(30))) == {"stop": 30}
    assert sum(server.asked().values()) == 30 + (30 - held)


def test_a_server_without_a_batch_api(ask_all, fake, tmp_path):
    server = fake(absent=True)
    assert "Set llm.batch = false" in told(ask_all, server)
    assert totals(tmp_path)["lost"] == 0
    assert len(ask_all(server, range(10), batch=False)) == 10


def test_lines_that_nobody_asked_for_are_counted_and_ignored(ask_all, fake, capsys):
    another = {"custom_id": request(3).key(), "response": {"status_code": 200, "body": {}}}  # in place of that of 4
    lines = ["no json", '{"custom_id": 5}', "[" * 100_000, '{"custom_id": "other"}', "", "1" * 5000]
    server = fake(extra="\n".join(lines) + "\n", faults=[{"times": 1, "holds": '"4"', "line": another}])
    found = ask_all(server, range(10))
    assert all(json.loads(reply.text)["passage"] for _, reply in found)
    assert "6 lines of what came of the batch are of no use" in capsys.readouterr().err


def test_a_download_that_breaks_off_is_done_again(ask_all, fake):
    server = fake(cut=2)
    assert len(ask_all(server, range(50))) == 50
    assert server.moments()["content"] == 3
    assert server.moments()["created"] == 1


@pytest.mark.slow
def test_a_batch_whose_making_got_no_answer_is_found_again(ask_all, fake):
    """The request for it times out, though the batch was made; the list has pages."""
    ask_all(server := fake(hold={"created": 1.0}, page=2), range(3), timeout=0.3)
    assert server.moments()["created"] == 1
    assert server.moments()["listed"] >= 1


@pytest.mark.slow
def test_a_server_that_goes_away_is_told_and_the_batch_stays_open(ask_all, fake, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("finegrade.llm.batch.server._ATTEMPTS", 2)
    server = fake(hold={"polled": 0.3})
    assert "no answer in time" in told(ask_all, server, timeout=0.15)
    assert "the batch goes on at 127.0.0.1; the same command waits for it" in capsys.readouterr().err
    assert states(tmp_path) == ["open"]
    assert len(ask_all(server, range(10))) == 10
    assert server.moments()["created"] == 1


@pytest.mark.slow
def test_progress_says_what_goes_on(ask_all, fake, capsys):
    ask_all(fake(seconds=0.4), range(100))
    lines = " ".join(capsys.readouterr().err.split())
    assert "a batch of 100 requests is under way at 127.0.0.1" in lines
    assert "Ctrl-C is safe" in lines
    assert re.search(r"[1-9]\d of 100 requests of the batch are done, 0:00 spent, 0:00 left", lines)


def test_batches_need_a_server():
    with pytest.raises(InputError, match="batch needs base_url"):
        parse_config({"source": {"kind": "python-docs"}, "llm": {"batch": True}}, "test")
