"""Probabilities of the likeliest tokens: asked for where a request wants them, kept, and never trusted."""

import json
import math
import sqlite3

import pytest

from finegrade.llm.ledger import Ledger, Reply
from finegrade.verification.llm_judge import expected_grade
from helpers.client import KEY, ask, path, request  # noqa: F401

TOLD = {"content": [
    {"token": '{"', "logprob": 0.0, "top_logprobs": [{"token": '{"', "logprob": 0.0}]},
    {"token": "3", "logprob": -0.5, "top_logprobs": [
        {"token": token, "logprob": math.log(share)} for token, share in (("3", 0.6), ("1", 0.4))
    ]},
]}  # fmt: skip


def with_logprobs(fake_llm, logprobs):
    status, body = fake_llm.reply('{"grade": 3}')
    body["choices"][0]["logprobs"] = logprobs
    fake_llm.answer = lambda request: (status, body)


def test_they_are_asked_for_where_a_request_wants_them_and_kept(ask, fake_llm, path):
    with_logprobs(fake_llm, TOLD)
    wanting = request(alternatives=5)
    (reply,) = ask(wanting)
    assert reply.alternatives == ({'{"': 1.0}, {"3": pytest.approx(0.6), "1": pytest.approx(0.4)})
    assert (fake_llm.requests[0]["logprobs"], fake_llm.requests[0]["top_logprobs"]) == (True, 5)
    assert ask(wanting) == [reply]
    assert len(fake_llm.requests) == 1
    ask(request("Another."))
    assert "logprobs" not in fake_llm.requests[1]


def test_a_request_that_wants_none_is_called_as_before(path):
    assert request().key() == request(alternatives=0).key() != request(alternatives=5).key()


def test_a_server_that_does_not_know_them_is_asked_without(ask, fake_llm):
    def answer(body):
        refusal = {"error": {"message": "unknown", "param": "top_logprobs"}}
        return (400, refusal) if "logprobs" in body else fake_llm.reply("x")

    fake_llm.answer = answer
    (reply,) = ask(request(alternatives=5))
    assert (reply.text, reply.alternatives) == ("x", ())


@pytest.mark.parametrize("logprobs", [
    None, 7, "x", [], {}, {"content": None}, {"content": [None]}, {"content": [{"top_logprobs": 1}]},
    {"content": [{"top_logprobs": [{"token": 1, "logprob": 0}]}]},
    {"content": [{"top_logprobs": [{"token": "a", "logprob": math.nan}]}]},
    {"content": [{"top_logprobs": [{"token": "a", "logprob": 1e9}]}]},
    {"content": [{"top_logprobs": [{"token": "a", "logprob": 0.0}] * 21}]},
])  # fmt: skip
def test_what_is_of_another_form_is_as_good_as_untold(ask, fake_llm, logprobs):
    with_logprobs(fake_llm, logprobs)
    (reply,) = ask(request(alternatives=5))
    assert (reply.text, reply.alternatives) == ('{"grade": 3}', ())


@pytest.mark.slow
def test_hostile_tokens_are_cut_and_the_key_is_taken_out(ask, fake_llm, path):
    hostile = [{"token": token, "logprob": -math.inf} for token in ("x" * 10_000, f"a {KEY}", "\ud800")]
    with_logprobs(fake_llm, {"content": [{"token": "a", "logprob": 0.0, "top_logprobs": hostile}] * 10_000})
    (reply,) = ask(request(alternatives=5))
    assert len(json.dumps(reply.alternatives)) < 10_000
    assert KEY not in json.dumps(reply.alternatives)
    assert ask(request(alternatives=5)) == [reply]


def test_a_ledger_of_before_takes_them(path):
    reply = Reply(text="t", finish_reason="stop", prompt_tokens=1, completion_tokens=1, seconds=1, cost=None)
    with Ledger(path, "test") as ledger:
        ledger.asked("old", {})
        ledger.replied("old", reply)
    with sqlite3.connect(path) as file:
        file.execute("ALTER TABLE requests DROP COLUMN alternatives")
    with Ledger(path, "test") as ledger:
        assert ledger.find("old") == reply
        ledger.asked("new", {})
        new = reply.model_copy(update={"alternatives": ({"3": 0.5},)})
        ledger.replied("new", new)
        assert ledger.find("new") == new


@pytest.mark.parametrize(
    ("answer", "alternatives", "expected"),
    [
        ("same", (), 3.0),
        ("same", ({"{": 1.0}, {"same": 0.6, "different": 0.3, "un": 0.1}), 2.1),
        ("same", ({"different": 0.6, "x": 0.4}, {" Same": 0.5, "diff": 0.25, "s": 0.1, "x": 0.05}), 7 / 3),
        ("different", ({"a": 1.0},), 1.0),
        ("same", ({"same": 1e-9},), 3.0),
        ("same", ({"same": 0.0, "x": 1.0},), 3.0),
        ("unrelated", ({"unrelated": 1.0}, {"same": 1.0}), 0.0),
    ],
)
def test_the_expected_grade_is_the_mean_at_the_token_that_begins_the_answer(answer, alternatives, expected):
    assert expected_grade(answer, alternatives) == pytest.approx(expected)
