"""Pairs from JSONL: one object a line with "query", "positive" and optionally "group"."""

from collections.abc import Iterator
from pathlib import Path

from finegrade.data.readers.text_files import jsonl_rows, user_rows, user_text
from finegrade.records import Record

_FORM = 'Each line is a JSON object like {"query": "...", "positive": "..."}.'


class Pair(Record):
    """A query, a text that answers it, the group that train and test are split by, and the text's section if any."""

    query: str
    positive: str
    group: str
    section: str = ""


def read_pairs(path: Path) -> Iterator[Pair]:
    """Yields the pairs of a JSONL file; a row without "group" is a group of its own query.

    Raises:
        InputError: The file is missing, empty or not UTF-8, or a row lacks a text. The line number is named.
    """
    for where, row in user_rows(path, "a JSONL file of pairs", _FORM):
        query, positive = (user_text(row, key, where, _FORM) for key in ("query", "positive"))
        group = row.get("group")
        if isinstance(group, int) and not isinstance(group, bool):
            group = str(group)
        elif group is not None:
            group = user_text(row, "group", where, _FORM)
        yield Pair(query=query, positive=positive, group=query if group is None else group)


def holds_pairs(path: Path) -> bool:
    """Whether a JSONL file begins with a pair; OSError where it cannot be read."""
    _, row = next(jsonl_rows(path), (0, ""))
    return not isinstance(row, str) and {"query", "positive"} <= row.keys()
