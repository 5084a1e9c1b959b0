"""Records of CSV and TSV, each by itself: a quote that is none costs no more than its own line.

By the letter of the format a quote at the begin of a cell takes in all lines up to the next one. Files that nobody
wrote with a CSV library have quotes that are plain signs; they would glue rows together, or end the file.
"""

import csv
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple, TextIO, TypedDict

from finegrade.data.readers.jsonl import MAX_ROW_BYTES

_SEPARATORS = ",;\t|"
_NO_SEPARATOR = "\x1f"


def separator_of(path: Path, header: str) -> str:
    """That of a TSV, or the one that stands most often in the header: texts hold all, names of columns do not."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    most = max(_SEPARATORS, key=header.count)
    return most if most in header else _NO_SEPARATOR  # of a single column the commas are text


class NoRecord(NamedTuple):
    """Lines that are no record, or not one.

    Attributes:
        why: In words that can be counted.
        line: The first of them, from 1.
        is_lost: Whether there is a row less for it.
    """

    why: str
    line: int
    is_lost: bool


def csv_records(text: TextIO, separator: str, skip_spaces: bool = True) -> Iterator[list[str] | NoRecord]:
    """Yields the cells of each record, none for an empty line, and what is no record, or not one.

    A quote that does not end, or ends amid a cell, is a plain sign, and its lines are read singly; so are those of a
    record in which each line is a row by itself, unless there are two columns and no tabs: texts have a comma a line.

    Args:
        text: Opened with ``newline=""``.
        separator: Between cells.
        skip_spaces: Whether those at the begin of a cell are none of its text.
    """
    csv.field_size_limit(MAX_ROW_BYTES)
    lines, width = _Lines(text), 0
    form: _Form = {"delimiter": separator, "skipinitialspace": skip_spaces}
    while (line := lines.take()) is not None:
        if line == _TOO_LONG:
            yield NoRecord(f"a line of more than {MAX_ROW_BYTES:,} characters", lines.number, True)
            continue
        number = lines.number
        cells, others = ([], []) if '"' not in line else _quoted(line, lines, form, width)
        cells = cells or _alone(line, form)
        width = width or len(cells)
        yield cells
        if others:
            yield NoRecord("a quote that does not end: its lines are read singly", number, False)
            lines.put_back(others)


_TOO_LONG = ""


class _Form(TypedDict):
    delimiter: str
    skipinitialspace: bool


class _Lines:
    """Lines, none of them longer than memory is wide, which can be put back; in place of one that is: an empty one."""

    def __init__(self, text: TextIO) -> None:
        self._text, self._back = text, deque[str]()
        self.number = 0

    def take(self) -> str | None:
        """The next line; None where there is none."""
        if self._back:
            self.number += 1
            return self._back.popleft()
        line = self._text.readline(MAX_ROW_BYTES + 1)
        if not line:
            return None
        self.number += 1
        if len(line) <= MAX_ROW_BYTES:
            return line
        while line and not line.endswith(("\n", "\r")):
            line = self._text.readline(MAX_ROW_BYTES)
        return _TOO_LONG

    def put_back(self, lines: list[str]) -> None:
        """They come again, next."""
        self._back.extendleft(reversed(lines))
        self.number -= len(lines)


def _quoted(line: str, lines: _Lines, form: _Form, width: int) -> tuple[list[str], list[str]]:
    """The cells of a record that begins with this line; where it is none: no cells, and what was read beyond it."""
    others: list[str] = []

    def of_the_record() -> Iterator[str]:
        yield line
        size = len(line)
        while size <= MAX_ROW_BYTES and (other := lines.take()) is not None:
            others.append(other)
            size += len(other)
            if other == _TOO_LONG:
                return
            yield other

    try:
        cells = next(csv.reader(of_the_record(), strict=True, **form))
    except csv.Error:
        return [], others
    could_be_a_text = len(cells) == width == 2 and form["delimiter"] != "\t"  # a comma a line
    if others and not could_be_a_text and all(_is_row(one, width, form) for one in (line, *others)):
        return [], others
    return cells, []


def _is_row(line: str, width: int, form: _Form) -> bool:
    cells = _alone(line, form)
    return len(cells) == width > 1 and bool(cells[0])  # code, indented with tabs, begins with none


def _alone(line: str, form: _Form) -> list[str]:
    """The cells of a line by itself; quotes that are no pairs are plain signs."""
    if '"' not in line or line.count('"') % 2:
        return _cut(line, form["delimiter"])
    try:
        return next(csv.reader([line.rstrip("\r\n")], strict=True, **form))
    except csv.Error:
        return _cut(line, form["delimiter"])


def _cut(line: str, separator: str) -> list[str]:
    line = line.rstrip("\r\n")
    return line.split(separator) if line else []
