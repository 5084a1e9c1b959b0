"""What the LLM is asked, and how its reply is read.

The sibling prompt was chosen by trying (docs/method.md): a small model cannot invent a neighbouring topic without
falling into synonyms, which would be false negatives, so it is given a real one.
"""

import json
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, StringConstraints

from finegrade.llm.request import ChatRequest, Message, RequestSettings
from finegrade.llm.structured import plain
from finegrade.synthesis.requests import to_change
from finegrade.text import folded

SIBLING_SYSTEM = (
    "You write test data for a search engine over technical documentation. You get query A, a passage that answers "
    "it, and query B. Write the passage again so that it answers B and is false or useless for A: change every word "
    "and fact that belongs to A into what belongs to B, at least two places, and keep all other words and the "
    "sentence structure. Never leave what A asks for in the text."
)

SIBLING_EXAMPLES = (
    (
        "Return the number of seconds since the epoch.",
        "The time is returned as a floating point number. Fractions of a second may be present if the system clock "
        "provides them. Values may decrease when the clock is set back between two calls.",
        "Return the name of the local time zone.",
        "The time zone is returned as a string. A daylight-saving suffix may be present if the system clock provides "
        "it. The name may change when the time zone is set between two calls.",
    ),
    (
        "Remove duplicate rows, keeping the first one.",
        "Rows are compared over all columns unless `subset` is given. The first row of each group of equal rows is "
        "kept and the others are deleted. The index of the kept rows does not change.",
        "Mark duplicate rows in a new column.",
        "Rows are compared over all columns unless `subset` is given. Each row of a group of equal rows gets the value "
        "True in a new column and no row is deleted. The index of the rows does not change.",
    ),
)

MIN_LENGTH, MAX_LENGTH = 0.6, 1.4
"""Bounds on the rewritten text's length, as shares of the passage's."""


OneLine = Annotated[str, AfterValidator(folded), StringConstraints(min_length=1)]
"""A text with its white space folded and nothing that does not print; not empty."""


def sibling_request(query: str, positive: str, sibling: str, settings: RequestSettings) -> ChatRequest:
    """Asks for the positive rewritten so that it answers the sibling query.

    The fixed part comes first, so that a server's prompt cache takes it. The embedded LLM cannot say the words that it
    is to change: left to itself it copies one text in four. Other servers know no such parameter, or name tokens by
    numbers of their own.
    """
    if not settings.server:
        banned = [[form, False] for word in sorted(to_change(query, positive, sibling)) for form in _forms(word)]
        settings = settings.model_copy(update={"parameters": {"logit_bias": banned} | settings.parameters})
    messages = [Message(role="system", content=SIBLING_SYSTEM)]
    for example_query, passage, example_sibling, rewritten in SIBLING_EXAMPLES:
        messages.append(Message(role="user", content=_sibling_turn(example_query, passage, example_sibling)))
        messages.append(Message(role="assistant", content=json.dumps({"passage": rewritten})))
    messages.append(Message(role="user", content=_sibling_turn(query, positive, sibling)))
    return ChatRequest(
        **dict(settings),
        messages=tuple(messages),
        max_tokens=int(len(positive.encode()) / 2.2) + 40,
        reply_schema=passage_schema(len(positive)),
    )


def _forms(word: str) -> tuple[str, ...]:
    """As a word stands in a text, with the space before it or at its very beginning."""
    return (f" {word}", f" {word.capitalize()}", word, word.capitalize())


def passage_schema(length: int) -> dict[str, Any]:
    """JSON schema of a reply with one passage, of about this many characters."""
    passage = {"type": "string", "minLength": int(length * MIN_LENGTH), "maxLength": int(length * MAX_LENGTH)}
    return {
        "type": "object",
        "properties": {"passage": passage},
        "required": ["passage"],
        "additionalProperties": False,
    }


class Passage(BaseModel):
    """A reply with one passage, white space folded."""

    passage: OneLine


def _sibling_turn(query: str, passage: str, sibling: str) -> str:
    return f"query A: {plain(query)}\npassage: {plain(passage)}\nquery B: {plain(sibling)}"
