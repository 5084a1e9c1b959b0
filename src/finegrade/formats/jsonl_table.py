"""JSONL with a column a key; keys that come later are carried along."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from finegrade.errors import InputError
from finegrade.formats.json_lines import json_line
from finegrade.formats.table import LOOKED_AT, Kind, TableRow, no_rows
from finegrade.sources.jsonl import jsonl_rows


class JsonlTable:
    """A JSONL file; what its columns are is judged by its first rows.

    Args:
        path: Of the file.

    Raises:
        InputError: It cannot be opened, or none of its first rows can be read.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            first = list(islice(self.rows(), LOOKED_AT))
        except OSError as error:
            got = error.strerror or error
            raise InputError(str(path), got=got, wanted="a JSONL file", remedy="Correct the path.") from None
        there = [row for row in first if not isinstance(row, str)]
        if not there:
            raise no_rows(path, f"{first[0]} in its first line" if first else "an empty file")
        names = dict.fromkeys(name for row in there for name in row)
        self.columns: Mapping[str, Kind] = {name: _kind([row.get(name) for row in there]) for name in names}

    def look_at(self, names: Collection[str]) -> None:
        """See Table: all columns are read alike."""

    def rows(self) -> Iterator[TableRow | str]:
        """See Table."""
        for _, row in jsonl_rows(self.path):
            yield row if isinstance(row, str) else dict(row)

    @contextmanager
    def writing(self, path: Path, columns: Sequence[str]) -> Iterator[Callable[[TableRow], None]]:
        """See Table. Readers take columns in the order of the keys: they come first, in that of the columns."""
        left_out = self.columns.keys() - set(columns)
        with path.open("w", encoding="utf-8") as file:

            def add(row: TableRow) -> None:
                ordered = {name: row[name] for name in columns if name in row}
                others = {name: value for name, value in row.items() if name not in left_out}
                file.write(json_line(ordered | others))

            yield add


def _kind(values: Sequence[Any]) -> Kind:
    """By the values that are there: one that is not of the kind of most rows is the row's fault."""
    for value in values:
        if isinstance(value, str) and value.strip():
            return "text"
        if isinstance(value, int | float):
            return "number"
        if isinstance(value, list) and (inner := [one for one in value if one is not None]):
            if all(isinstance(one, str) for one in inner):
                return "texts"
            return "numbers" if all(isinstance(one, int | float) for one in inner) else "other"
        if value is not None and value != "" and value != []:
            return "other"
    return "empty"
