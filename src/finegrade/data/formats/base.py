"""One row of other people's training data, whatever its format: what is given, and what verification decided on it."""

import json
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

from finegrade.errors import InputError
from finegrade.storage.atomic import replacing
from finegrade.text import encodable

Row = TypeVar("Row")

DEPTH = 30
"""Documents of a run that are looked at as negatives of a query."""

_SHOWN = 1_000  # characters of a row that cannot be used


class Given(NamedTuple):
    """A row as it was given.

    Attributes:
        query: What is searched with.
        positives: Texts that answer it, at least one.
        negatives: Texts that are said not to, in the order of the data; there may be none.
    """

    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]


class Judged(NamedTuple):
    """What verification decided on one row. A negative in neither ``kept`` nor ``promoted`` is dropped.

    Attributes:
        kept: (place in ``Given.negatives``, level), easiest first.
        promoted: Places of negatives that answer the query: they are positives now.
        kept_positives: Places in ``Given.positives`` that stay; none: the row is set aside as a whole.
    """

    kept: tuple[tuple[int, int], ...]
    promoted: tuple[int, ...]
    kept_positives: tuple[int, ...]


class PassedRow(NamedTuple):
    """A row that cannot be used.

    Attributes:
        row: Its number, from 1; of a BEIR folder that of the query, or of the line that is none.
        reason: In a few words that can be counted.
        beginning: Of what it holds; empty where it is no row at all.
    """

    row: int
    reason: str
    beginning: str


Tell = Callable[[PassedRow], object]


class PassedOver(Counter[str]):
    """Reason -> how much cannot be used.

    Args:
        tell: Is told of each row of it; None: nobody is.
    """

    def __init__(self, tell: Tell | None = None) -> None:
        super().__init__()
        self._tell = tell

    def add(self, row: int, reason: str, found: object) -> None:
        """Counts a row.

        Args:
            row: Its number, from 1.
            reason: Why it cannot be used.
            found: What it holds; a string only says why it is no row.
        """
        self[reason] += 1
        if self._tell:
            beginning = "" if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str)
            self._tell(PassedRow(row, reason, beginning[:_SHOWN]))


class Format(Protocol):
    """Training data in one format.

    Attributes:
        path: What it is called after: the file, or the folder of a BEIR run.
        files: All the files that are read.
        about: What was taken for what, in one line for the user.
        passed_over: Reason -> what could not be read, counted by the last call of ``rows``; it is not written either.
        not_written: Reason -> what the format cannot say, counted by the last call of ``write``.
    """

    path: Path
    files: tuple[Path, ...]
    about: str
    passed_over: PassedOver
    not_written: Counter[str]

    def rows(self, tell: Tell | None = None) -> Iterator[Given]:
        """The rows that can be read, in the order of the data, with few of them in memory.

        Args:
            tell: Is told of each row that cannot.

        Raises:
            InputError: The data is damaged as a whole.
        """

    def check_output(self, output: Path) -> None:
        """Says before the work whether ``output`` can be written.

        Raises:
            InputError: It cannot: it is the input, or of another kind.
        """

    def outputs(self, output: Path) -> list[Path]:
        """All the files that a result of this name may have."""

    def write(self, judged: Iterable[Judged], output: Path) -> list[Path]:
        """Writes the same format: no file appears before all of them are written.

        Args:
            judged: Of each row that ``rows`` gave, in that order.
            output: What the result is to be called.

        Returns:
            The files.

        Raises:
            InputError: As ``check_output``, or the input is not what was read before.
        """


def beside(path: Path, rows: Iterable[Row], judged: Iterable[Judged]) -> Iterator[tuple[Row, Judged]]:
    """Rows, read once more, each with what was decided on it.

    Args:
        path: Of the data, for the error.
        rows: As they were given for verification.
        judged: One for each of them.

    Raises:
        InputError: There are more of the one than of the other.
    """
    for row, decided in zip_longest(rows, judged):
        if row is None or decided is None:
            raise changed(path)
        yield row, decided


def changed(path: Path) -> InputError:
    """The error for a file that is not what it was."""
    got, wanted = "other rows than were verified", "a file that stays as it is while it is verified"
    return InputError(str(path), got=got, wanted=wanted, remedy="Verify it again.")


def check_file(path: Path, output: Path, files: Iterable[Path]) -> None:
    """Says whether a result may be called so.

    Args:
        path: The input.
        output: The result.
        files: All the files that it may have.

    Raises:
        InputError: It is of another kind than the input, or the input would be written over.
    """
    if output.suffix.lower() != path.suffix.lower():
        got, wanted = output.suffix or "no suffix", f"{path.suffix}, as the input is"
        raise InputError(str(output), got=got, wanted=wanted, remedy="Name another --output.")
    if output.is_dir():
        raise InputError(str(output), got="a folder", wanted="a file", remedy="Name another --output.")
    if path.resolve() in {file.resolve() for file in files}:
        wanted = "a place of its own for the result"
        raise InputError(str(output), got="the input itself", wanted=wanted, remedy="Name another --output.")


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


class OutputFiles(ExitStack):
    """A block in which the files of a result are written.

    Attributes:
        paths: The files, in the order in which they were begun.
    """

    def __init__(self) -> None:
        super().__init__()
        self._appearing = self.enter_context(ExitStack())  # ends last, when all that writes is closed
        self.paths: list[Path] = []

    def temporary(self, path: Path) -> Path:
        """Where a file is written until the end of the block."""
        self.paths.append(path)
        return self._appearing.enter_context(replacing(path))


def numbered(path: Path, negatives: int) -> Path:
    """The file beside ``path`` for rows with so many negatives."""
    return path.with_name(f"{path.stem}.{negatives}{path.suffix}")


def levels_path(path: Path) -> Path:
    """The file beside ``path`` with the levels of its negatives."""
    return path.with_name(f"{path.stem}.levels.jsonl")


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
