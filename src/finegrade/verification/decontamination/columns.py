"""What stands in the columns of a benchmark: what asks, what answers, or either."""

import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal, NamedTuple

Role = Literal["query", "document", "title"]
"""Whether a text asks or answers, or is what a document is called."""

Roles = Mapping[str, tuple[Role, ...]]
"""Column, in small letters and without a number at its end -> the roles of what stands in it."""

BOTH: tuple[Role, ...] = ("query", "document")
ROLES: Roles = {
    **dict.fromkeys(("query", "queries", "query_text", "question", "questions", "anchor", "claim"), BOTH[:1]),
    **dict.fromkeys(("positive", "positives", "pos", "positive_passage", "positive_passages"), BOTH[1:]),
    **dict.fromkeys(("answer", "answers", "long_answer", "response", "evidence", "summary", "highlights"), BOTH[1:]),
    **dict.fromkeys(("human_summaries", "machine_summaries"), BOTH[1:]),
    **dict.fromkeys(("document", "documents", "doc", "docs", "document_text", "corpus"), BOTH[1:]),
    **dict.fromkeys(("passage", "passages", "passage_text", "context", "contexts"), BOTH[1:]),
    **dict.fromkeys(("content", "contents", "body", "article", "abstract"), BOTH[1:]),
    **dict.fromkeys(("text", "texts", "text_a", "text_b", "premise", "hypothesis"), BOTH),
    **dict.fromkeys(("sentence", "sentences", "sentence_a", "sentence_b"), BOTH),
    "title": ("title",),
}
"""A text that may be either is given as both. Negatives answer nothing."""

QUERY: Roles = {"text": ("query",)}
DOCUMENT: Roles = {"title": ("title",), "text": ("document",)}
"""Columns of queries and of a corpus. Title and text are two texts: many a training set has the one without the other.
"""

_INNER = frozenset(("value", *ROLES)) - {"title"}  # {"text": ["an answer"], "answer_start": [7]}
_DEPTH = 4  # of lists in lists
_NUMBER = re.compile(r"_?\d+$")  # sentence1, answer_2
_REMEMBERED, _SHOWN = 1_000, 20  # columns: each line of a JSONL may have others


class BenchmarkText(NamedTuple):
    """A text of a benchmark.

    Attributes:
        benchmark: What the user called it.
        role: "query", "document" or "title".
        text: As it stands there.
    """

    benchmark: str
    role: Role
    text: str


class BenchmarkColumns:
    """Reads the rows of a table, and remembers which columns gave texts.

    Args:
        roles: Of its columns. Where a row has a title, and nothing that asks though it might, the title asks.
    """

    def __init__(self, roles: Roles = ROLES) -> None:
        self._roles = roles
        self._may_ask = any("query" in some for some in roles.values())
        self._gave: dict[str, bool] = {}

    def knows(self, column: str) -> bool:
        """Whether what stands in a column is read."""
        return plain_column(column) in self._roles

    def texts(self, row: Mapping[str, Any]) -> list[tuple[Role, str]]:
        """The texts of a row, each with its role.

        Args:
            row: By column.
        """
        found: list[tuple[Role, str]] = []
        for column, value in row.items():
            texts = [text for text in _strings(value) if text.strip()]
            self.note(column, bool(texts))
            found += [(role, text) for text in texts for role in self._roles.get(plain_column(column), ())]
        if self._may_ask and not any(role == "query" for role, _ in found):
            found += [("query", text) for role, text in found if role == "title"]
        return found

    def note(self, column: str, has_text: bool) -> None:
        """Remembers that there is such a column, which has a text or has none."""
        name = str(column)
        if name in self._gave or len(self._gave) < _REMEMBERED:
            self._gave[name] = has_text or self._gave.get(name, False)

    def told(self) -> str:
        """In a line: which columns gave texts, which of those that are read gave none, and which texts nobody read."""
        read = [name for name, gave in self._gave.items() if gave and self.knows(name)]
        empty = [name for name, gave in self._gave.items() if not gave and self.knows(name)]
        unread = [name for name, gave in self._gave.items() if gave and not self.knows(name)]
        parts = [f"texts of {_listed(read)}"] if read else ["no texts"]
        parts += [f"none in {_listed(empty)}"] if empty else []
        parts += [f"not read: {_listed(unread)}"] if unread else []
        return "; ".join(parts)


def plain_column(column: object) -> str:
    """The name of a column as ``Roles`` have it."""
    return _NUMBER.sub("", str(column).strip().lower())


def _listed(names: Collection[str]) -> str:
    shown = ", ".join(list(names)[:_SHOWN])
    return f"{shown}, …" if len(names) > _SHOWN else shown


def _strings(value: object, depth: int = _DEPTH) -> Iterator[str]:
    """The texts in a cell: one, or those in a list, or in a struct under a name that is known."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping) and depth:
        for name, inner in value.items():
            if plain_column(name) in _INNER:
                yield from _strings(inner, depth - 1)
    elif isinstance(value, list | tuple) and depth:
        for inner in value:
            yield from _strings(inner, depth - 1)
