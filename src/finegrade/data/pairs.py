"""Pairs from JSONL: one object a line with "query", "positive" and optionally "group"."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from finegrade.data.readers.jsonl import jsonl_rows
from finegrade.errors import InputError
from finegrade.records import Record
from finegrade.text import encodable

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
        InputError: The file is missing, empty or not UTF-8, or a row is not an object with text in
            "query" and "positive". The line number is named.
    """
    seen = False
    try:
        for number, row in jsonl_rows(path):
            seen = True
            yield _pair(row, f"{path}, line {number}")
    except OSError as error:
        raise InputError(str(path), got=error.strerror or error, wanted="a JSONL file", remedy=_FORM) from None
    if not seen:
        raise InputError(str(path), got="an empty file", wanted="a JSONL file of pairs", remedy=_FORM)


def holds_pairs(path: Path) -> bool:
    """Whether a JSONL file begins with a pair.

    Raises:
        OSError: The file cannot be read.
    """
    _, row = next(jsonl_rows(path), (0, ""))
    return not isinstance(row, str) and {"query", "positive"} <= row.keys()


def _pair(row: Mapping[str, Any] | str, where: str) -> Pair:
    if isinstance(row, str):
        raise InputError(where, got=row, wanted="a JSON object in UTF-8", remedy=_FORM)
    query, positive = _text(row, "query", where), _text(row, "positive", where)
    group = row.get("group")
    if group is None:
        return Pair(query=query, positive=positive, group=query)
    if isinstance(group, int) and not isinstance(group, bool):
        row = {**row, "group": str(group)}
    return Pair(query=query, positive=positive, group=_text(row, "group", where))


def _text(row: Mapping[str, Any], key: str, where: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        got = "no such field" if key not in row else f"{type(value).__name__} {value!r}"
        raise InputError(f'{where}: "{key}"', got=got, wanted="a text", remedy=_FORM)
    if encodable(value) != value:
        raise InputError(f'{where}: "{key}"', got="a lone surrogate", wanted="a text", remedy=_FORM)
    return " ".join(value.split())
