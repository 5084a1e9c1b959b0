"""Asks an LLM for a sample, or for parts of one: the second of the paper's two stages.

The paper writes query, positive and all negatives in one call (Pan et al., ACL 2025, figure 1): `sample_request`. A
small model does one thing at a time: a pair first, then `negative_request` for each level.
"""

from collections.abc import Collection, Mapping
from functools import cache
from math import ceil
from typing import Any

from pydantic import BaseModel, create_model

from finegrade.llm.request import ChatRequest, Message, RequestSettings
from finegrade.llm.structured import plain
from finegrade.records import Kind, Task
from finegrade.synthesis.levels import Flaw
from finegrade.synthesis.prompts.sibling import OneLine
from finegrade.synthesis.prompts.task import WHAT
from finegrade.synthesis.requests import Draw

SHORT_WORDS = 20
"""Of a short text, about."""

_TOKENS_A_WORD = 3.0  # of most languages; English has fewer than half of that
_CHARS_A_WORD = 3  # of the shortest: a text is never given less room than it needs
MOST_CHARS_A_WORD = 16
"""Room that a text is given."""

_FLAW_CHARS = 160
_LEAST_CHARS = 3

_NEGATIVES = (
    "A negative looks as if it were right for the query and is not, for the reason that is given for its level. It has "
    "the positive's language, kind, tone, form and length, is true to itself and whole: who reads it without the query "
    "cannot tell that it is a negative. It never says what it lacks, never speaks of the query, of levels or of this "
    "task, and does not hold the query's own wording. Before each negative say in at most fifteen words what will make "
    "it wrong (flaw)."
)
_SYSTEM = (
    "You write training data for a text-embedding model that learns to search. You get a task and what one example of "
    "it is to be like. Write the example: a query as somebody would really type or hand in; a positive, a text that is "
    "exactly right for the query and holds concrete facts, names and numbers; and negatives at graded levels of "
    f"similarity to the positive, 1 being the farthest. {_NEGATIVES} Answer with one JSON object."
)
_PAIR_SYSTEM = (
    "You write training data for a text-embedding model that learns to search. You get a task and what one example of "
    "it is to be like. Write the example: a query as somebody would really type or hand in, and a positive, a text "
    "that is exactly right for the query and holds concrete facts, names and numbers. Neither speaks of the task. "
    "Answer with one JSON object."
)
_NEGATIVES_SYSTEM = (
    "You write training data for a text-embedding model that learns to search. You get a query, a positive, which is "
    "a text that is right for it, and what makes a negative of each level wrong. Write the negatives, at graded levels "
    f"of similarity to the positive, 1 being the farthest. {_NEGATIVES} Answer with one JSON object."
)
_REPHRASE_SYSTEM = (
    "Say the text in your own words, for the same reader. Keep every fact, name, number and condition, the language, "
    "the tone and about the length; add nothing. Answer with one JSON object."
)


PROMPTS = {
    "sample": _SYSTEM,
    "pair": _PAIR_SYSTEM,
    "negatives": _NEGATIVES_SYSTEM,
    "style guard": _REPHRASE_SYSTEM,
}
"""What each kind of request begins with."""


class Pair(BaseModel):
    """A reply with a query and the text that is right for it."""

    query: OneLine
    positive: OneLine


class OneText(BaseModel):
    """A reply with one text."""

    text: OneLine


class OneNegative(BaseModel):
    """A reply with one negative, and before it what makes it wrong."""

    flaw: OneLine
    text: OneLine


@cache
def levels_form(levels: Collection[int], pair: bool) -> type[BaseModel]:
    """A reply with a negative of each level, hardest first; where ``pair`` is true, query and positive before them."""
    names: dict[str, Any] = dict.fromkeys(_keys(levels), (OneLine, ...))
    return create_model("Levels", __base__=Pair if pair else BaseModel, **names)


def sample_request(task: Task, draw: Draw, levels: Mapping[int, Flaw], settings: RequestSettings) -> ChatRequest:
    """Asks for a whole sample, all levels in one reply; the form is ``levels_form(levels, pair=True)``."""
    query, text = _words(task.kind, draw)
    properties = {"query": _text(query), "positive": _text(text)} | _negatives(levels, text)
    told = f"{_task(task, draw)}\n{_told(levels, draw)}" if levels else _task(task, draw)
    tokens = _tokens(query + text * (1 + len(levels)), len(levels))
    return _request(_SYSTEM if levels else _PAIR_SYSTEM, told, properties, tokens, settings)


def negatives_request(
    query: str, positive: str, draw: Draw, levels: Mapping[int, Flaw], settings: RequestSettings
) -> ChatRequest:
    """Asks for the negatives of a pair that there is; the form is ``levels_form(levels, pair=False)``."""
    words = len(positive) // _CHARS_A_WORD
    told = f"query: {plain(query)}\npositive: {plain(positive)}\n{_told(levels, draw)}"
    return _request(
        _NEGATIVES_SYSTEM, told, _negatives(levels, words), _tokens(words * len(levels), len(levels)), settings
    )


def negative_request(
    query: str, positive: str, draw: Draw, level: int, flaw: Flaw, settings: RequestSettings
) -> ChatRequest:
    """Asks for one negative; the form is ``OneNegative``."""
    words = len(positive) // _CHARS_A_WORD
    told = f"query: {plain(query)}\npositive: {plain(positive)}\n{_told({level: flaw}, draw)}"
    properties = {"flaw": _bounded(_FLAW_CHARS), "text": _text(words)}
    return _request(_NEGATIVES_SYSTEM, told, properties, _tokens(words, 1), settings)


def rephrase_request(text: str, settings: RequestSettings) -> ChatRequest:
    """Asks for a text in other words; the form is ``OneText``."""
    words = len(text) // _CHARS_A_WORD
    return _request(_REPHRASE_SYSTEM, f"text: {plain(text)}", {"text": _text(words)}, _tokens(words, 0), settings)


def _task(task: Task, draw: Draw) -> str:
    query, text = _words(task.kind, draw)
    short_query = task.kind in ("short-long", "short-short")
    return "\n".join(
        (
            f"task: {plain(task.description)}",
            f"kind of task: {WHAT[task.kind].description}",
            f"language of all texts (ISO 639-1): {draw.language}",
            f"query: {draw.query_type}, {draw.query_length if short_query else f'about {query} words'}, {draw.clarity}",
            f"positive and negatives: about {text} words each, for readers with {draw.difficulty} education",
        )
    )


def _told(levels: Mapping[int, Flaw], draw: Draw) -> str:
    lines = [
        f"level {level} ({levels[level].name}): {levels[level].description}" for level in sorted(levels, reverse=True)
    ]
    lines += [f"other subject: {draw.topic}"] if 1 in levels else []
    return "\n".join(lines)


def _words(kind: Kind, draw: Draw) -> tuple[int, int]:
    """About how many words a query and a text of the kind have."""
    long, short = draw.words, SHORT_WORDS
    return {
        "short-long": (short, long),
        "long-short": (long, short),
        "short-short": (short, short),
        "long-long": (long, long),
        "sts": (short, short),
    }[kind]


def _keys(levels: Collection[int]) -> list[str]:
    return [f"{name}_{level}" for level in sorted(levels, reverse=True) for name in ("flaw", "level")]


def _negatives(levels: Mapping[int, Flaw], words: int) -> dict[str, Any]:
    return {key: _bounded(_FLAW_CHARS) if key.startswith("flaw") else _text(words) for key in _keys(levels)}


def _text(words: int) -> dict[str, Any]:
    return _bounded(MOST_CHARS_A_WORD * max(words, SHORT_WORDS))


def _bounded(chars: int) -> dict[str, Any]:
    return {"type": "string", "minLength": _LEAST_CHARS, "maxLength": chars}


def _tokens(words: int, negatives: int) -> int:
    """What a reply of so many words may take at most."""
    return ceil(_TOKENS_A_WORD * max(words, SHORT_WORDS)) + 80 * negatives + 100


def _request(
    system: str, told: str, properties: dict[str, Any], max_tokens: int, settings: RequestSettings
) -> ChatRequest:
    schema = {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }
    return ChatRequest(
        **dict(settings),
        messages=(Message(role="system", content=system), Message(role="user", content=told)),
        max_tokens=max_tokens,
        reply_schema=schema,
    )
