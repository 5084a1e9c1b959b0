"""Text files of any size and encoding: bytes to text, lines, JSONL, CSV. No line longer than MAX_ROW_BYTES is held."""

import codecs
import csv
import json
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from pathlib import Path
from typing import IO, Any, AnyStr, TextIO

from finegrade.errors import InputError, unreadable
from finegrade.text import encodable

MAX_ROW_BYTES = 4_000_000

_SAMPLE = 1 << 16
_BLOCK = 1 << 20
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins like UTF-16's
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}


def decode(data: bytes) -> tuple[str, str | None]:
    """The text, and the encoding where it had to be guessed; ValueError where it is no text in any encoding."""
    encoding, is_guess = _encoding([data])
    return data.decode(encoding, "reposition"), encoding if is_guess else None


def file_encoding(path: Path) -> tuple[str, bool]:
    """The encoding of a file that is too large to be held, and whether it had to be guessed; errors as `decode`."""
    with path.open("rb") as file:
        return _encoding(iter(lambda: file.read(_BLOCK), b""))


def _encoding(blocks: Iterable[bytes]) -> tuple[str, bool]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    before = b""
    for block in chain(blocks, [b""]):
        if not before:
            for mark, encoding in _MARKS.items():
                if block.startswith(mark):
                    return encoding, False
            if b"\0" in block[:_SAMPLE]:
                raise ValueError("binary")
        try:
            decoder.decode(block, final=not block)
        except UnicodeDecodeError as error:  # at the end: the last character is cut off
            before = before[-_SAMPLE // 2 :]
            return _guessed(before + block, error.start + len(before)), True
        before = block
    return "utf-8", False


def _guessed(data: bytes, position: int) -> str:
    """From the lines around the position where it is not UTF-8 that hold characters that tell encodings apart."""
    from charset_normalizer import from_bytes

    around = max(0, position - _SAMPLE // 2)
    lines = [line for line in data[around : around + _SAMPLE].split(b"\n") if not line.isascii()]
    best = from_bytes(b"\n".join(lines)).best()
    if best is None:
        raise ValueError("no known encoding")
    return best.encoding


def bounded_lines(file: IO[AnyStr]) -> Iterator[AnyStr | None]:
    """The lines of a file with their ends; None in place of a line of more than MAX_ROW_BYTES."""
    while line := file.readline(MAX_ROW_BYTES + 1):
        is_too_long = len(line) > MAX_ROW_BYTES
        while is_too_long and line and line[-1:] not in (b"\n", "\n", "\r"):
            line = file.readline(MAX_ROW_BYTES)
        yield None if is_too_long else line


def jsonl_rows(path: Path) -> Iterator[tuple[int, Mapping[str, Any] | str]]:
    """Yields line numbers, from 1, with the object on the line, or in its place a string that says why it is none."""
    with path.open("rb") as file:
        for number, line in enumerate(bounded_lines(file), start=1):
            if line is None:
                yield number, f"row of more than {MAX_ROW_BYTES:,} bytes"
            elif line.strip():
                yield number, json_object(line)


def json_object(line: bytes) -> Mapping[str, Any] | str:
    """The object in a line of JSON; a string in its place says why there is none."""
    try:
        row = json.loads(line.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        return not_utf8(error)
    except (ValueError, RecursionError):
        return "no JSON"
    return row if isinstance(row, dict) else "no JSON object"


def not_utf8(error: UnicodeDecodeError) -> str:
    """Which byte is not UTF-8."""
    return f"byte 0x{error.object[error.start]:02x}, which is not UTF-8"


def user_rows(path: Path, wanted: str, form: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """The rows of a JSONL file of the user's own, each with file and line number: a bad row stops the run.

    Args:
        path: Of the file.
        wanted: What the file has to be, for errors.
        form: What each row has to be like, for errors.
    """
    number = 0
    try:
        for number, row in jsonl_rows(path):
            where = f"{path}, line {number}"
            if isinstance(row, str):
                raise InputError(where, got=row, wanted="a JSON object in UTF-8", remedy=form)
            yield where, row
    except OSError as error:
        raise unreadable(path, error, wanted, f"Correct the path. {form}") from None
    if not number:
        raise InputError(str(path), got="an empty file", wanted=wanted, remedy=form)


def user_text(row: Mapping[str, Any], key: str, where: str, form: str) -> str:
    """The text under a key of a row from `user_rows`, white space folded; InputError where there is none."""
    value = row.get(key)
    got = None
    if not isinstance(value, str) or not value.strip():
        got = f"{type(value).__name__} {value!r}" if key in row else "no such field"
    elif encodable(value) != value:
        got = "a lone surrogate"
    if got:
        raise InputError(f'{where}: "{key}"', got=got, wanted="a text", remedy=form)
    return " ".join(str(value).split())


_LINE_ENDS = {ord(character): f"\\u{ord(character):04x}" for character in "\x85\u2028\u2029"}
"""Some readers take them for line ends."""


def json_line(row: Mapping[str, Any]) -> str:
    """The row as JSON, with a line end."""
    line = json.dumps(row, ensure_ascii=False)
    try:
        line.encode()
    except UnicodeEncodeError:  # lone surrogates, in a value that nobody looks at: escaped, as they came
        line = json.dumps(row)
    return line.translate(_LINE_ENDS) + "\n"


_SEPARATORS = ",;\t|"
_NO_SEPARATOR = "\x1f"


def separator_of(path: Path, header: str) -> str:
    """A tab for a TSV; else the separator that is most frequent in the header: names of columns hold none."""
    if path.suffix.lower() == ".tsv":
        return "\t"
    most = max(_SEPARATORS, key=header.count)
    return most if most in header else _NO_SEPARATOR  # of a single column the commas are text


def csv_records(file: TextIO, separator: str, skip_spaces: bool = True) -> Iterator[tuple[int, list[str] | str]]:
    """Yields line numbers, from 1, with the cells of the record that begins there; a string says why there is none.

    Files that no CSV library wrote have quotes that are plain characters. By the letter of the format such a quote
    takes in all lines up to the next one. So where a record is not well-formed, its first line is cut at the separators
    alone, and the other lines are read anew. So it is where each line of a record looks like a row; the first
    line is set aside if the record has as many cells as the header, because then nobody can tell.

    Args:
        file: Opened with ``newline=""``.
        separator: Between cells.
        skip_spaces: Whether a quote may follow spaces at the beginning of a cell.
    """
    csv.field_size_limit(MAX_ROW_BYTES)
    lines, width = _Lines(file), 0
    for line in lines:
        number = lines.number
        if line is None:
            yield number, f"a line of more than {MAX_ROW_BYTES:,} characters"
            continue
        cells = None
        if '"' in line:
            record = lines.from_line(line)
            try:
                cells = next(csv.reader(record, delimiter=separator, skipinitialspace=skip_spaces, strict=True))
            except csv.Error:
                cells = None
            if cells is None:
                lines.put_back()
            elif _joins_rows(cells, [line, *lines.taken], separator, width):
                lines.put_back()
                if len(cells) == width:
                    yield number, "a quote that closes in a later row: double it, or quote the whole cell"
                    continue
                cells = None
        if cells is None:
            line = line.rstrip("\r\n")
            cells = line.split(separator) if line else []
        width = width or len(cells)
        yield number, cells


def _joins_rows(cells: list[str], lines: list[str | None], separator: str, width: int) -> bool:
    """Whether each line of a record looks like a row of its own; of two columns a text of two lines often does."""
    could_be_a_text = len(cells) == width == len(lines) == 2 and separator != "\t"
    return len(lines) > 1 and not could_be_a_text and all(one and _is_row(one, separator, width) for one in lines)


def _is_row(line: str, separator: str, width: int) -> bool:
    """Whether a line looks like a row, not like part of a cell: a space follows commas in prose, tabs begin code."""
    cells = line.rstrip("\r\n").split(separator)
    return len(cells) == width > 1 and cells[0] != "" and not any(cell[:1].isspace() for cell in cells)


class _Lines:
    """Lines that can be put back after a look ahead; ``number`` is that of the last one, from 1."""

    def __init__(self, file: TextIO) -> None:
        self._lines, self._back = bounded_lines(file), deque[str | None]()
        self.taken: list[str | None] = []
        self.number = 0

    def __iter__(self) -> Iterator[str | None]:
        return self

    def __next__(self) -> str | None:
        line = self._back.popleft() if self._back else next(self._lines)
        self.number += 1
        return line

    def from_line(self, line: str) -> Iterator[str]:
        """This line and those after it, as far as a record may reach; ``taken`` are those after it."""
        self.taken = []
        yield line
        size = len(line)
        for other in self:
            self.taken.append(other)
            size += len(other or "")
            if other is None or size > MAX_ROW_BYTES:
                return
            yield other

    def put_back(self) -> None:
        """What was taken comes again, next."""
        self._back.extendleft(reversed(self.taken))
        self.number -= len(self.taken)
