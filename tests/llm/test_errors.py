"""What a server's failures mean."""

import sys
import time
from email.utils import formatdate

import openai
import pytest

from finegrade.llm.errors import ATTEMPTS, ATTEMPTS_OVERLOADED, LONGEST_ASKED_PAUSE, Patience, asked_pause, is_free

httpx = sys.modules[openai.DefaultAsyncHttpxClient.__base__.__module__.partition(".")[0]]  # httpx or httpx2


def overload(retry_after: str | None) -> openai.APIStatusError:
    headers = {} if retry_after is None else {"retry-after": retry_after}
    answer = httpx.Response(429, headers=headers, request=httpx.Request("POST", "http://127.0.0.1"))
    return openai.RateLimitError("too many", response=answer, body=None)


@pytest.mark.parametrize(
    ("asked", "seconds"),
    [
        ("7", 7), ("0.5", 0.5), ("120", 120), ("86400", LONGEST_ASKED_PAUSE), (None, 0), ("", 0), ("soon", 0),
        ("-3", 0), ("1e9", 0), ("9" * 400, 0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0),
        ("Fri, 31 Dec 9999 23:59:59 GMT", LONGEST_ASKED_PAUSE),
        ("Wed, 99 Oct 2015 07:28:00 GMT", 0),
    ],
)  # fmt: skip
def test_the_pause_that_a_server_asks_for(asked, seconds):
    assert asked_pause(overload(asked)) == seconds


def test_the_pause_until_a_date():
    assert 25 < asked_pause(overload(formatdate(time.time() + 30, usegmt=True))) <= 30


def test_other_failures_ask_for_none():
    assert asked_pause(openai.APIConnectionError(request=httpx.Request("POST", "http://127.0.0.1"))) == 0


@pytest.mark.parametrize(
    ("status", "free"),
    [(400, True), (429, True), (500, True), (503, True), (307, True), (408, False), (502, False), (504, False)],
)
def test_what_a_gateway_gave_up_waiting_for_may_be_paid_for(status, free):
    answer = httpx.Response(status, request=httpx.Request("POST", "http://127.0.0.1"))
    assert is_free(openai.APIStatusError("", response=answer, body=None)) == free


def pauses(first: int, answered: int) -> list[float]:
    patience, error = Patience(first), openai.APIConnectionError(request=httpx.Request("POST", "http://127.0.0.1"))
    return list(iter(lambda: patience.after(error, answered), None))


def test_a_server_that_was_there_is_waited_for_longer_than_one_that_never_was():
    assert len(pauses(0, 0)) == ATTEMPTS - 1
    assert sum(pauses(0, 0)) < 10
    assert len(pauses(5, 5)) == ATTEMPTS_OVERLOADED - 1
    assert 120 < sum(pauses(5, 5)) < 240


def test_what_fails_while_others_are_answered_is_given_up_soon():
    assert len(pauses(5, 6)) == ATTEMPTS - 1
