"""What is a text in other people's data: not null, not a number, not blank, nothing that no file and no model takes."""

from collections.abc import Sequence
from typing import Any

from finegrade.text import encodable

MAX_POSITIVES = 100
MAX_NEGATIVES = 1_000
"""Texts of one row or query. Each negative is scored beside each positive: more are no training data but a corpus."""


class UnreadableRowError(ValueError):
    """A row that cannot be used; its message is the reason that is counted."""


def text_in(value: Any, name: str) -> str:
    """The value, which has to be a text.

    Args:
        value: What the file holds.
        name: Of its column, for the reason.

    Raises:
        UnreadableRowError: It is none.
    """
    if isinstance(value, str):
        if encodable(value) != value:  # what bytes that are not UTF-8 are read as, too
            raise UnreadableRowError(f"{name}: not Unicode")
        if value.strip():
            return value
    if value is None or isinstance(value, str):
        raise UnreadableRowError(f"{name}: empty")
    raise UnreadableRowError(f"{name}: {type(value).__name__} in place of a text")


def texts_in(values: Sequence[Any] | None, name: str, most: int) -> dict[int, str]:
    """Place -> text of those that are there: null and blank ones are gaps.

    Args:
        values: What the file holds; None is an empty list.
        name: Of its column, for the reason.
        most: How many there may be.

    Raises:
        UnreadableRowError: One of them is neither a text nor a gap, there are too many of them, or it is no list.
    """
    if values is None:
        return {}
    if not isinstance(values, list):
        raise UnreadableRowError(f"{name}: {type(values).__name__} in place of a list of texts")
    there = {place: value for place, value in enumerate(values) if not is_gap(value)}
    if len(there) > most:
        raise UnreadableRowError(f"{name}: more than {most:,} texts")
    return {place: text_in(value, name) for place, value in there.items()}


def is_gap(value: Any) -> bool:
    """Whether nothing stands there."""
    return value is None or (isinstance(value, str) and not value.strip())
