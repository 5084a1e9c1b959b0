"""Replies that must have a form: read, mended, asked for again, or given up with a reason."""

import asyncio
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from finegrade.llm.ledger import Reply
from finegrade.llm.request import FAILED, REFUSED, ChatRequest, Message
from finegrade.llm.structured import CUT, MAX_BRACKETS, UnreadableError, ask_for, read


class Pair(BaseModel):
    model_config = ConfigDict(extra="forbid")
    query: str = Field(min_length=1)
    text: str = Field(min_length=1)


GOOD = {"query": "what", "text": "It is so. It is."}


def reply(text: str, finish_reason: str = "stop") -> Reply:
    return Reply(text=text, finish_reason=finish_reason, prompt_tokens=1, completion_tokens=1, seconds=0)


def reason(text: str, finish_reason: str = "stop") -> str:
    with pytest.raises(UnreadableError) as error:
        read(reply(text, finish_reason), Pair)
    return error.value.reason


def test_json_is_read():
    assert read(reply(json.dumps(GOOD)), Pair) == Pair(**GOOD)


@pytest.mark.parametrize(
    "text",
    [
        f"```json\n{json.dumps(GOOD)}\n```",
        f"Here it is:\n{json.dumps(GOOD)}",
        '{"query": "what", "text": "It is so. It is.",}',
        "{'query': 'what', 'text': 'It is so. It is.'}",
        '{"query": "what", "text": "It is so. It is."',
        '{query: "what", text: "It is so. It is."}',
    ],
    ids=["fence", "prose", "comma", "quotes", "not closed", "bare keys"],
)
def test_broken_json_is_mended(text):
    assert read(reply(text), Pair) == Pair(**GOOD)


@pytest.mark.parametrize(
    "thought",
    ["<think>Maybe {a: 1}.</think>It is ", "\n<think>\n[[[</think>\n\n", "its beginning is not {there}</think>\n"],
)
def test_what_a_reasoning_model_thought_is_no_part_of_its_reply(thought):
    assert read(reply(thought + json.dumps(GOOD)), Pair) == Pair(**GOOD)


def test_a_text_may_speak_of_thoughts():
    spoken = Pair(query="what", text="It ends with </think> and goes on.")
    assert read(reply(spoken.model_dump_json()), Pair) == spoken
    assert read(reply(f"Here it is:\n{spoken.model_dump_json()}"), Pair) == spoken


def test_a_thought_that_is_cut_is_no_reply_whatever_it_holds():
    assert reason(f"<think>Perhaps {json.dumps(GOOD)}", "length") == CUT


def test_brackets_within_a_text_are_not_counted():
    code = Pair(query="what", text="x[0] = {}; " * MAX_BRACKETS)
    assert read(reply(code.model_dump_json()), Pair) == code
    assert reason("[" * (MAX_BRACKETS + 1)) == "nested too deep"


def test_of_several_values_the_object_is_taken():
    assert read(reply(f"{json.dumps(GOOD)}\n[1, 2]"), Pair) == Pair(**GOOD)


@pytest.mark.parametrize(
    "text",
    ["", "no", "[]", "null", "3", '"x"', "{}", '{"query": "a"}', '{"query": 1, "text": "b"}',
     '{"query": "a", "text": "b", "more": 1}', '{"query": "", "text": "b"}', "\x00\x01", "<html><script>"],
)  # fmt: skip
def test_another_form_is_not_the_json_that_was_asked_for(text):
    assert reason(text) == "not the JSON that was asked for"


def test_what_was_cut_ends_with_its_last_whole_sentence():
    cut = '{"query": "what", "text": "One sentence. Another, 3.5 long. And a th'
    assert read(reply(cut, "length"), Pair).text == "One sentence. Another, 3.5 long."


@pytest.mark.parametrize(
    "cut", ['{"query": "what", "text": "No sentence ends he', '{"query": "wh', "{", '{"query": "what"']
)
def test_what_was_cut_too_early_is_refused(cut):
    assert reason(cut, "length") == CUT


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x" * 10_000_000, "too long to be what was asked for"),
        ("[" * 1_000, "nested too deep"),
        ('{"a":' * 1_000 + "1" + "}" * 1_000, "nested too deep"),
        ('{"query": "' + "[" * 400, "not the JSON that was asked for"),
    ],
    ids=["10 MB", "lists", "objects", "open"],
)
def test_hostile_replies_are_refused_at_once(text, told):
    assert reason(text) == told


@settings(max_examples=300, deadline=None)
@given(text=st.text(alphabet='{}[]",:\\ax1\x00\n\ud800', max_size=200), finish=st.sampled_from(["stop", "length"]))
def test_any_text_is_read_or_refused(text, finish):
    try:
        assert isinstance(read(reply(text, finish), Pair), Pair)
    except UnreadableError as error:
        assert error.reason


REQUEST = ChatRequest(
    model="m", messages=(Message(role="user", content="Write."),), max_tokens=20, temperature=0, seed=0, reply_schema={}
)


def asked(*replies: Reply):
    """The answer, and the requests that were made for it."""
    requests = []

    async def ask(request):
        requests.append(request)
        return replies[len(requests) - 1]

    return asyncio.run(ask_for(ask, REQUEST, Pair)), requests


def test_what_cannot_be_read_is_asked_for_again_with_the_error():
    answer, requests = asked(reply('{"query": "a"}'), reply(json.dumps(GOOD)))
    assert answer.value == Pair(**GOOD)
    first, second = requests
    assert first == REQUEST
    *before, shown, told = second.messages
    assert tuple(before) == REQUEST.messages
    assert (shown.role, shown.content) == ("assistant", '{"query": "a"}')
    assert "text: Field required." in told.content
    assert second.key() != first.key()


def test_after_that_it_is_given_up_with_the_last_raw_reply():
    answer, requests = asked(reply("no"), reply("still not"))
    assert (answer.value, answer.reason, answer.reply.text) == (None, "not the JSON that was asked for", "still not")
    assert len(requests) == 2


@pytest.mark.parametrize(
    ("finish", "told"),
    [("length", CUT), ("content_filter", "held back by the server's filter"),
     (REFUSED, "request refused by the server"),
     (FAILED, "the server failed again and again"), ("tool_calls", "calls a tool")],
)  # fmt: skip
def test_what_no_second_try_would_mend_is_not_asked_again(finish, told):
    answer, requests = asked(reply("", finish))
    assert (answer.value, answer.reason) == (None, told)
    assert len(requests) == 1


def test_servers_have_words_of_their_own_for_an_end_and_for_a_cut():
    for word in ("eos_token", "END_TURN"):
        assert asked(reply(json.dumps(GOOD), word))[0].value == Pair(**GOOD)
    cut = json.dumps(GOOD)[:-8]
    assert asked(reply(cut, "max_tokens"))[0].value == Pair(query="what", text="It is so.")
    assert asked(reply(cut, "abort"))[0].reason == "not finished"


def test_a_giant_reply_is_not_sent_back():
    _, requests = asked(reply("x" * 1_000_000), reply("x"))
    assert requests[1].size() < 1_000


def test_what_was_cut_is_not_taken_where_a_part_is_of_no_use():
    async def ask(request):
        return reply('{"query": "what", "text": "One sentence. And a', "length")

    answer = asyncio.run(ask_for(ask, REQUEST, Pair, take_cut=False))
    assert (answer.value, answer.reason) == (None, CUT)
