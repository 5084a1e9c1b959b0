"""Tables of training data, read and written a few rows at a time: what a format of columns has to know of a file."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Literal, Protocol

from finegrade.errors import InputError

Kind = Literal["text", "texts", "number", "numbers", "other", "empty"]
"""Of a column: texts, lists of texts, numbers, lists of numbers, values that are only carried along, or none as yet."""

TableRow = dict[str, Any]
"""Column -> value. Values of kind "other" are only passed on, in their column: what they are is the table's affair."""

LOOKED_AT = 100
"""Rows by which a file without types is judged."""


class Table(Protocol):
    """A file of rows with named columns.

    Attributes:
        path: Of the file.
        columns: Name -> kind, in the order of the file.
    """

    path: Path
    columns: Mapping[str, Kind]

    def look_at(self, names: Collection[str]) -> None:
        """Says which columns are needed: the others are of kind "other" from now on."""

    def rows(self) -> Iterator[tuple[int, TableRow | str]]:
        """The rows in order, with the number of each, from 1; a string in place of a row says why it is none."""

    def writing(self, path: Path, columns: Sequence[str]) -> AbstractContextManager[Callable[[TableRow], None]]:
        """Opens a file of the same kind for rows that are added one by one.

        Args:
            path: Of the file, written as it comes: the caller makes it atomic.
            columns: Those of this table that it has.
        """


def refuse_repeats(path: Path, names: Sequence[str]) -> None:
    """Raises InputError where two columns have one name."""
    repeats = sorted({name for name in names if names.count(name) > 1})
    if repeats:
        got = f"more than one column {', '.join(map(repr, repeats))}"
        raise InputError(str(path), got=got, wanted="columns with names of their own", remedy="Rename them.")


def no_rows(path: Path, got: str = "no rows", remedy: str = "Name another --input.") -> InputError:
    """The error for a file with nothing in it."""
    return InputError(str(path), got=got, wanted="rows of training data", remedy=remedy)
