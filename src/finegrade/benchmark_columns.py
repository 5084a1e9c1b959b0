"""What stands in the columns of a benchmark: what asks, what answers, or either."""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Role = Literal["query", "document"]
"""Whether a text asks or answers."""

BOTH: tuple[Role, ...] = ("query", "document")
ROLES: Mapping[str, tuple[Role, ...]] = {
    **dict.fromkeys(("query", "queries", "question", "questions", "anchor"), ("query",)),
    **dict.fromkeys(("positive", "positives", "pos", "answer", "answers", "document", "passage"), ("document",)),
    **dict.fromkeys(("text", "sentence", "sentences", "sentence1", "sentence2", "title"), BOTH),
}
"""Column -> what stands in it. A text that may be either is given as both. Negatives answer nothing."""

DOCUMENT = ("title", "text")
"""Columns of a corpus. Title and text are two texts: many a training set has the one without the other."""


class BenchmarkText(NamedTuple):
    """A text of a benchmark.

    Attributes:
        benchmark: What the user called it.
        role: "query" or "document".
        text: As it stands there.
    """

    benchmark: str
    role: Role
    text: str


def _strings(value: object) -> list[str]:
    """The texts in a cell: one, or a list of them."""
    return [one for one in (value if isinstance(value, list | tuple) else [value]) if isinstance(one, str)]


def row_texts(row: Mapping[str, Any], roles: Mapping[str, tuple[Role, ...]] = ROLES) -> list[tuple[Role, str]]:
    """The texts of a row, each with its role.

    Args:
        row: By column.
        roles: Column, in small letters -> the roles of what stands in it.
    """
    return [
        (role, text)
        for column, value in row.items()
        for text in _strings(value)
        for role in roles.get(str(column).strip().lower(), ())
        if text.strip()
    ]
