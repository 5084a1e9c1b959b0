"""What a server says of a batch's requests is split and read within bounds, whatever it is."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finegrade.llm.batch.files import LONGEST_LINE, Line, read_line, request_line, sort_out, split
from finegrade.llm.connection import Way
from finegrade.llm.request import ChatRequest, Message

COMPLETION = {"choices": [{"message": {"content": "odd \ud800 text"}, "finish_reason": "stop"}]}
REQUEST = ChatRequest(
    model="m", messages=(Message(role="user", content="ä"),), max_tokens=5, temperature=0, seed=0, reply_schema={}
)


def lines(parts: list[bytes]) -> list[bytes]:
    async def come():
        for part in parts:
            yield part

    async def go():
        return [line async for line in split(come())]

    return asyncio.run(go())


@given(st.lists(st.binary(max_size=9).map(lambda part: part.replace(b"0", b"\n")), max_size=9))
def test_lines_are_the_same_however_they_come(parts):
    whole = b"".join(parts).split(b"\n")
    assert lines(parts) == (whole if whole[-1] else whole[:-1])


@given(st.integers(-3, 3), st.integers(1, 5), st.booleans())
def test_a_line_that_is_too_long_comes_as_an_empty_one(over, pieces, ends):
    long = b"x" * (LONGEST_LINE + over)
    step = len(long) // pieces + 1
    parts = [long[at : at + step] for at in range(0, len(long), step)] + [b"\n" if ends else b"", b"next"]
    first = long if ends else long + b"next"
    assert lines(parts) == [b"" if len(first) > LONGEST_LINE else first] + [b"next"] * ends


@given(st.binary(max_size=50) | st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: (
    st.lists(inner, max_size=3)
    | st.dictionaries(st.sampled_from(["custom_id", "response", "error", "status_code", "body", "choices"]), inner)
)).map(lambda value: json.dumps(value).encode()))  # fmt: skip
@pytest.mark.slow
def test_whatever_a_line_says_something_comes_of_its_request(raw):
    line = read_line(raw)
    assert line is None or isinstance(line.custom_id, str)
    results = sort_out({"key": REQUEST}, {"key": line} if line else {}, str)
    assert len(results.replies) + len(results.refused) + len(results.unasked) + len(results.lost) == 1


def test_a_line_that_is_nested_without_end_is_of_another_form():
    assert read_line(b"[" * 500_000) is None


def test_a_lone_surrogate_does_not_cost_the_reply():
    line = Line.model_validate({"custom_id": "key", "response": {"status_code": 200, "body": COMPLETION}})
    reply = sort_out({"key": REQUEST}, {"key": line}, str).replies["key"]
    assert "odd" in reply.text
    assert reply.prompt_tokens == REQUEST.size()  # nothing was counted: the most that it can be


def test_a_request_is_said_as_the_direct_way_says_it():
    said = json.loads(request_line("key", REQUEST, Way()))
    assert said["body"] == Way().parameters(REQUEST)
    assert (said["custom_id"], said["method"], said["url"]) == ("key", "POST", "/v1/chat/completions")
