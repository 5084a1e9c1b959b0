"""Pairs from JSONL: one object a line with "query", "positive" and optionally "group"."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finegrade.errors import InputError
from finegrade.records import Record

MAX_LINE_BYTES = 4_000_000


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
    remedy = 'Each line is a JSON object like {"query": "...", "positive": "..."}.'
    seen = False
    try:
        with path.open("rb") as file:
            number = 0
            while line := file.readline(MAX_LINE_BYTES + 1):
                number += 1
                where = f"{path}, line {number}"
                if len(line) > MAX_LINE_BYTES:
                    wanted = f"at most {MAX_LINE_BYTES:,} bytes"
                    raise InputError(where, got="a longer line", wanted=wanted, remedy="Split or shorten the row.")
                if line.strip():
                    seen = True
                    yield _pair(line, where, remedy)
    except OSError as error:
        raise InputError(str(path), got=error.strerror or error, wanted="a JSONL file", remedy=remedy) from None
    if not seen:
        raise InputError(str(path), got="an empty file", wanted="a JSONL file of pairs", remedy=remedy)


def _pair(line: bytes, where: str, remedy: str) -> Pair:
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        got = f"byte 0x{line[error.start]:02x}"
        raise InputError(where, got=got, wanted="UTF-8", remedy="Save the file as UTF-8.") from None
    except (ValueError, RecursionError):
        raise InputError(where, got="something else", wanted="a JSON object", remedy=remedy) from None
    if not isinstance(row, dict):
        raise InputError(where, got=type(row).__name__, wanted="a JSON object", remedy=remedy)
    query, positive = _text(row, "query", where, remedy), _text(row, "positive", where, remedy)
    group = row.get("group")
    if group is None:
        return Pair(query=query, positive=positive, group=query)
    if isinstance(group, int) and not isinstance(group, bool):
        row["group"] = str(group)
    return Pair(query=query, positive=positive, group=_text(row, "group", where, remedy))


def _text(row: dict[str, Any], key: str, where: str, remedy: str) -> str:
    value = row.get(key)
    if not isinstance(value, str) or not value.strip():
        got = "no such field" if key not in row else f"{type(value).__name__} {value!r}"
        raise InputError(f'{where}: "{key}"', got=got, wanted="a text", remedy=remedy)
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise InputError(f'{where}: "{key}"', got="a lone surrogate", wanted="a text", remedy=remedy) from None
    return " ".join(value.split())
