"""JSONL with a column a key; keys that come later are carried along."""

from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

from finegrade.data.formats.base import LOOKED_AT, Kind, TableRow, no_rows
from finegrade.data.formats.column_roles import is_of_texts
from finegrade.data.readers.jsonl import json_line, jsonl_rows
from finegrade.errors import InputError


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
            first = [row for _, row in islice(self.rows(), LOOKED_AT)]
        except OSError as error:
            got = error.strerror or error
            raise InputError(str(path), got=got, wanted="a JSONL file", remedy="Correct the path.") from None
        there = [row for row in first if not isinstance(row, str)]
        if not there:
            got = f"{first[0]} in its first line" if first else "an empty file"
            raise no_rows(path, got, "Save one object a line.")
        names = dict.fromkeys(name for row in there for name in row)
        self.columns: Mapping[str, Kind] = {name: _kind(name, [row.get(name) for row in there]) for name in names}

    def look_at(self, names: Collection[str]) -> None:
        """See Table: all columns are read alike."""

    def rows(self) -> Iterator[tuple[int, TableRow | str]]:
        """See Table; the number is that of the line."""
        for number, row in jsonl_rows(self.path):
            yield number, row if isinstance(row, str) else dict(row)

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


def _kind(name: str, values: Sequence[Any]) -> Kind:
    """The kind of most values that are there: another one is its row's fault."""
    kinds: Counter[Kind] = Counter(map(_kind_of, values))
    del kinds["empty"]
    found: Kind = max(kinds, key=kinds.__getitem__, default="empty")
    return "text" if found == "number" and is_of_texts(name) else found


def _kind_of(value: Any) -> Kind:
    if isinstance(value, str):
        return "text" if value.strip() else "empty"
    if isinstance(value, list):
        inner = {type(one) for one in value if one is not None}
        if not inner:
            return "empty"
        return "texts" if inner == {str} else "numbers" if inner <= {int, float, bool} else "other"
    return "empty" if value is None else "number" if isinstance(value, int | float) else "other"
