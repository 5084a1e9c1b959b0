"""Asks an LLM what people would type into a search box to find a passage."""

import json
from collections.abc import Sequence
from typing import Any

from pydantic import BaseModel, create_model

from finegrade.llm.request import ChatRequest, Message, RequestSettings
from finegrade.llm.structured import plain
from finegrade.synthesis.prompts.sibling import OneLine

STYLES = {
    "keywords": "two to five words as typed in a hurry, no sentence",
    "question": "one whole question",
    "symptom": "what somebody types who has the problem that the passage solves and does not know its right words",
}
"""How people search, and how the LLM is told."""

MAX_QUERY_CHARS = 160

SYSTEM = (
    "You know how people use search boxes. You get a passage. Write searches of people who have not seen it and for "
    "whom it is the answer, in the passage's language. Name the thing that it is about: a search that many passages "
    "could answer is useless. Use other words than the passage where people would. Never speak of the passage itself. "
    "Styles: "
)

_EXAMPLES = (
    (
        "Backups > Restoring: A snapshot can be restored while the server is running. Clients that are connected see "
        "read-only data until the restore ends, which takes about one minute for each gigabyte.",
        {
            "keywords": "restore snapshot running server",
            "question": "Can I restore a backup without stopping the server?",
            "symptom": "users cannot save anything during restore",
        },
    ),
    (
        "Pruning roses: Cut in late winter, before the buds swell. Take out dead and crossing wood first, then shorten "
        "the rest by a third, just above a bud that points outwards.",
        {
            "keywords": "when to prune roses",
            "question": "How far back should rose stems be cut?",
            "symptom": "rose bush tangled with dead wood few flowers",
        },
    ),
)


def query_request(text: str, styles: Sequence[str], settings: RequestSettings) -> ChatRequest:
    """Asks for one search of each style.

    The fixed part comes first, so that a server's prompt cache takes it.
    """
    told = "; ".join(f"{style}: {STYLES[style]}" for style in styles)
    messages = [Message(role="system", content=f"{SYSTEM}{told}.")]
    for passage, answers in _EXAMPLES:
        messages.append(Message(role="user", content=f"passage: {passage}"))
        messages.append(Message(role="assistant", content=json.dumps({style: answers[style] for style in styles})))
    messages.append(Message(role="user", content=f"passage: {plain(text)}"))
    return ChatRequest(
        **dict(settings),
        messages=tuple(messages),
        max_tokens=60 * len(styles),
        reply_schema=query_schema(styles),
    )


def query_schema(styles: Sequence[str]) -> dict[str, Any]:
    """JSON schema of a reply with one search of each style."""
    search = {"type": "string", "minLength": 3, "maxLength": MAX_QUERY_CHARS}
    return {
        "type": "object",
        "properties": dict.fromkeys(styles, search),
        "required": list(styles),
        "additionalProperties": False,
    }


def queries_form(styles: Sequence[str]) -> type[BaseModel]:
    """A reply with one search of each style."""
    fields: dict[str, Any] = dict.fromkeys(styles, (OneLine, ...))
    return create_model("Queries", **fields)


EXAMPLE_QUERIES = frozenset(query for _, answers in _EXAMPLES for query in answers.values())
"""The prompt's own searches: a small model may copy them."""
