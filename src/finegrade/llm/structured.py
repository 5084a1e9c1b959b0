"""Replies that must have a form: read strictly, mended where only the JSON is broken, asked for again, or given up."""

import json
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from finegrade.llm.ledger import Reply
from finegrade.llm.request import FAILED, REFUSED, ChatRequest, Message
from finegrade.text import whole_sentences

Form = TypeVar("Form", bound=BaseModel)

MAX_CHARS, MAX_BRACKETS = 200_000, 500
"""A reply that is longer, or opens more brackets outside of its texts, is not looked into."""

_ENDS = ("stop", "eos", "eos_token", "end_turn", "stop_sequence")
_CUTS = ("length", "max_tokens", "model_length")
_THOUGHT_BEGINS, _THOUGHT_ENDS = "<think>", "</think>"
MAX_MENDED = 16_000
"""Characters of a reply that is no JSON from which it is not mended: time for that grows with the square."""

_TEXT = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)  # possessive: what is not closed is not looked through again
_OPENED = re.compile(r"[\[{]")

AGAIN = 1
"""How often a reply that cannot be read is asked for again, with what is wrong about it."""

CUT, NOT_THE_JSON = "cut at the token limit", "not the JSON that was asked for"
UNFINISHED = {
    "length": CUT,
    "content_filter": "held back by the server's filter",
    "tool_calls": "calls a tool",
    REFUSED: "request refused by the server",
    FAILED: "the server failed again and again",
}


@dataclass(frozen=True)
class Answer(Generic[Form]):
    """What came of a request for a reply of a form.

    Attributes:
        value: The reply, read; None where it could not be.
        reason: Why not, in a few words that can be counted.
        reply: The last raw reply.
    """

    value: Form | None
    reason: str
    reply: Reply


class UnreadableError(Exception):
    """A reply is not of the form; the reason in a few words, and for the LLM what is wrong."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(reason)
        self.reason, self.detail = reason, detail


async def ask_for(
    ask: Callable[[ChatRequest], Awaitable[Reply]],
    request: ChatRequest,
    form: type[Form],
    again: int = AGAIN,
    take_cut: bool = True,
) -> Answer[Form]:
    """Asks for a reply of a form.

    Args:
        ask: Gives the reply to a request.
        request: What is asked first.
        form: What the reply is to be.
        again: How often to ask again, with the error, where a reply is complete and cannot be read.
        take_cut: Whether a reply that was cut at the token limit is of use, as far as it goes.
    """
    for left in range(again, -1, -1):
        reply = _in_usual_words(await ask(request))
        if reply.finish_reason not in (("stop", "length") if take_cut else ("stop",)):
            return Answer(None, UNFINISHED.get(reply.finish_reason, "not finished"), reply)
        try:
            return Answer(read(reply, form), "", reply)
        except UnreadableError as error:
            if reply.finish_reason == "length" or not left:
                return Answer(None, error.reason, reply)
            request = _corrected(request, reply, error)
    raise AssertionError("the last round returns")


def _in_usual_words(reply: Reply) -> Reply:
    """The reply, whose server may have words of its own for how it ended."""
    word = reply.finish_reason.lower()
    usual = "stop" if word in _ENDS else "length" if word in _CUTS else reply.finish_reason
    return reply.model_copy(update={"finish_reason": usual})


def read(reply: Reply, form: type[Form]) -> Form:
    """A reply as its form; what was cut at the token limit ends with its last whole sentence.

    Raises:
        UnreadableError: It is too long or too deep, is no JSON and cannot be mended into any, or is of another form.
    """
    if len(reply.text) > MAX_CHARS:
        raise UnreadableError("too long to be what was asked for", "It is far too long.")
    text = _without_thought(reply.text)
    if len(_OPENED.findall(_TEXT.sub("", text))) > MAX_BRACKETS:
        raise UnreadableError("nested too deep", "It opens too many brackets.")
    if reply.finish_reason != "length":
        return _validated(_parsed(text), form)
    try:
        return _validated(_without_cut_end(_parsed(text)), form)
    except UnreadableError as error:
        raise UnreadableError(CUT, error.detail) from None


def _without_thought(text: str) -> str:
    """What a reasoning model says when it has thought, where the server leaves the thought in the reply.

    Some templates open the thought themselves, so that only its end is in the reply.
    """
    begin = text.lstrip()
    if begin.startswith("{"):
        return text
    _, ended, said = text.rpartition(_THOUGHT_ENDS)
    if begin.startswith(_THOUGHT_BEGINS):
        return said if ended else ""
    return said if ended and said.lstrip().startswith(("{", "```")) else text


def _validated(value: Any, form: type[Form]) -> Form:
    try:
        return form.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        field = ".".join(map(str, first["loc"])) or "the reply"
        raise UnreadableError(NOT_THE_JSON, f"{field}: {first['msg']}.") from None


def _parsed(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        pass
    if len(text) > MAX_MENDED:
        raise UnreadableError(NOT_THE_JSON, "It is not one JSON object.")
    from json_repair import repair_json

    try:
        value = repair_json(text, return_objects=True)
    except (ValueError, RecursionError, LookupError, TypeError):
        value = None
    if isinstance(value, list):  # it said more than one thing
        value = next((one for one in value if isinstance(one, dict)), None)
    if not isinstance(value, dict):
        raise UnreadableError(NOT_THE_JSON, "It is not one JSON object.")
    return value


def _without_cut_end(value: Any) -> Any:
    """The value whose last text, the one that was cut, ends with its last whole sentence; None where none is left."""
    if isinstance(value, str):
        return whole_sentences(value) or None
    if not isinstance(value, dict | list) or not value:
        return None
    last = list(value)[-1] if isinstance(value, dict) else len(value) - 1
    ended = _without_cut_end(value[last])
    if ended is None:
        return None
    return {**value, last: ended} if isinstance(value, dict) else [*value[:-1], ended]


def _corrected(request: ChatRequest, reply: Reply, error: UnreadableError) -> ChatRequest:
    """The request with the reply and what is wrong about it, as far as it makes sense to show it again."""
    told = f"That cannot be used. {error.detail} Answer again, with nothing but the JSON object that was asked for."
    shown = reply.text[: 4 * request.max_tokens] or "{}"
    turns = (Message(role="assistant", content=shown), Message(role="user", content=told))
    return request.model_copy(update={"messages": (*request.messages, *turns)})


def plain(text: str) -> str:
    """At an inner quote or backslash a small model closes the JSON string and the passage is cut."""
    return text.replace('"', "'").replace("\\", "")
