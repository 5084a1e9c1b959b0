"""CSV and TSV as they came: separator, line ends and every cell that nobody looks at are written back unchanged.

It is read as UTF-8. Bytes that are not are read as lone surrogates, and written back as what they were.
"""

import codecs
import csv
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from finegrade.data.formats.base import LOOKED_AT, Kind, TableRow, no_rows, refuse_repeats
from finegrade.data.formats.column_roles import is_of_texts
from finegrade.data.readers.csv import NoRecord, csv_records, separator_of
from finegrade.data.readers.jsonl import MAX_ROW_BYTES
from finegrade.errors import InputError
from finegrade.text import encodable


class CsvTable:
    """A CSV or TSV file with a header.

    Args:
        path: Of the file.

    Raises:
        InputError: It cannot be opened, has no header that can be read, or no rows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with path.open("rb") as file:
                first = file.readline(MAX_ROW_BYTES)
        except OSError as error:
            got = error.strerror or error
            raise InputError(str(path), got=got, wanted="a CSV file", remedy="Correct the path.") from None
        self._encoding = "utf-8-sig" if first.startswith(codecs.BOM_UTF8) else "utf-8"
        self._form: dict[str, Any] = {
            "delimiter": separator_of(path, first.decode(errors="replace")),
            "lineterminator": "\r\n" if first.endswith(b"\r\n") else "\n",
        }  # fmt: skip
        self._names = self._header()
        looked_at = [row for _, row in islice(self.rows(), LOOKED_AT) if not isinstance(row, str)]
        if not looked_at:
            raise no_rows(path, "no rows that can be read")
        self.columns: Mapping[str, Kind] = {name: _kind(name, [row[name] for row in looked_at]) for name in self._names}

    def look_at(self, names: Collection[str]) -> None:
        """See Table: all columns are read alike."""

    def rows(self) -> Iterator[tuple[int, TableRow | str]]:
        """See Table. An empty line is no row."""
        records = (cells for cells in islice(self._records(), 1, None) if cells)
        return enumerate(map(self._row, records), start=1)

    def _row(self, cells: list[str] | str) -> TableRow | str:
        if isinstance(cells, str):
            return cells
        if len(cells) != len(self._names):
            return f"{'more' if len(cells) > len(self._names) else 'fewer'} cells than the header has"
        return dict(zip(self._names, cells, strict=True))

    @contextmanager
    def writing(self, path: Path, columns: Sequence[str]) -> Iterator[Callable[[TableRow], None]]:
        """See Table."""
        with path.open("w", encoding=self._encoding, errors="surrogateescape", newline="") as file:
            plain, quoted = csv.writer(file, **self._form), csv.writer(file, **self._form, quoting=csv.QUOTE_ALL)

            def write(cells: Sequence[str]) -> None:
                broken = any("\r" in cell for cell in cells)  # before Python 3.13 only signs of the line end are quoted
                (quoted if broken else plain).writerow(cells)

            write(columns)
            yield lambda row: write([row[name] for name in columns])

    def _header(self) -> list[str]:
        header = next(self._records(), None)
        if not header:
            raise no_rows(self.path, "an empty file")
        if isinstance(header, str) or "\0" in "".join(header) or not all(encodable(name) == name for name in header):
            got = "a first line that is no UTF-8 text"
            raise InputError(str(self.path), got=got, wanted="a header", remedy="Save the file as UTF-8.")
        refuse_repeats(self.path, header)
        return header

    def _records(self) -> Iterator[list[str] | str]:
        with self.path.open(encoding=self._encoding, errors="surrogateescape", newline="") as file:
            for found in csv_records(file, self._form["delimiter"], skip_spaces=False):
                if not isinstance(found, NoRecord):
                    yield found
                elif found.is_lost:
                    yield found.why


def _kind(name: str, cells: Sequence[str]) -> Kind:
    filled = [cell for cell in cells if cell.strip()]
    if not filled:
        return "empty"
    return "number" if all(map(_is_number, filled)) and not is_of_texts(name) else "text"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True
