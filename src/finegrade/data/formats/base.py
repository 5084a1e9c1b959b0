"""One row of external training data, whatever its format: what it holds, and what verification decided on it."""

import json
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from itertools import zip_longest
from pathlib import Path
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from finegrade.errors import InputError
from finegrade.storage.atomic import replacing
from finegrade.text import encodable

DEPTH = 30
"""Documents of a run that are looked at as negatives of a query."""

MAX_POSITIVES = 100
MAX_NEGATIVES = 1_000
"""Texts of one row or query. Each negative is scored beside each positive: more are no training data but a corpus."""

WANTED = (
    "columns of query, positive and negatives (sentence-transformers), JSONL with query, pos and neg (FlagEmbedding), "
    "or a folder with corpus.jsonl, queries.jsonl, qrels/ and a run (BEIR)"
)

_SHOWN = 1_000  # characters of a row that cannot be used


class ExternalRow(NamedTuple):
    """A row as it was made elsewhere: at least one text that answers; those that do not, in the order of the data."""

    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]


class VerifiedRow(NamedTuple):
    """What verification decided on one row. A negative in neither ``kept`` nor ``promoted`` is dropped.

    Attributes:
        kept: (index in ``ExternalRow.negatives``, level), easiest first.
        promoted: Indices of negatives that answer the query: they are positives now.
        kept_positives: Indices in ``ExternalRow.positives`` that stay; none: the row is set aside as a whole.
    """

    kept: tuple[tuple[int, int], ...]
    promoted: tuple[int, ...]
    kept_positives: tuple[int, ...]


class PassedRow(NamedTuple):
    """A row that cannot be used.

    Attributes:
        row: Its number, from 1: the line in JSONL and CSV; of a BEIR folder the query, or the line that is none.
        reason: In a few words that can be counted.
        beginning: Of what it holds; empty where it is no row at all.
    """

    row: int
    reason: str
    beginning: str


Report = Callable[[PassedRow], object]


class PassedOver(Counter[str]):
    """Reason -> how much cannot be used; ``report`` is called with each row of it."""

    def __init__(self, report: Report | None = None) -> None:
        super().__init__()
        self._report = report

    def add(self, row: int, reason: str, found: object) -> None:
        """Counts a row by its number and what it holds; a string only says why it is no row."""
        self[reason] += 1
        if self._report:
            beginning = "" if isinstance(found, str) else json.dumps(found, ensure_ascii=False, default=str)
            self._report(PassedRow(row, reason, beginning[:_SHOWN]))


class _Read(Protocol):
    @property
    def external(self) -> ExternalRow: ...


Read = TypeVar("Read", bound=_Read)
"""A row as a format reads it: ``external``, and what it takes to write the row back."""


class Format(ABC, Generic[Read]):
    """Training data in one format: it is read row by row, and what verification left of it is written back.

    Args:
        path: What it is named after: the file, or the folder of a BEIR run.
        about: What was taken for what, in one line for the user.
        files: All the files that are read.

    Attributes:
        passed_over: Reason -> what could not be read, counted by the last call of ``rows``; it is not written either.
        not_written: Reason -> what the format cannot express, counted by the last call of ``write``.
    """

    def __init__(self, path: Path, about: str, files: tuple[Path, ...]) -> None:
        self.path, self.about, self.files = path, about, files
        self.passed_over = PassedOver()
        self.not_written: Counter[str] = Counter()

    def rows(self, report: Report | None = None) -> Iterator[ExternalRow]:
        """The rows that can be read, in the order of the data, with few in memory; ``report`` gets those that cannot.

        Raises:
            InputError: The data is damaged as a whole.
        """
        self.passed_over = PassedOver(report)
        return (row.external for row in self.read(self.passed_over))

    @abstractmethod
    def read(self, passed_over: PassedOver) -> Iterator[Read]:
        """The rows that can be read; the others are counted."""

    def verified(self, rows: Iterable[VerifiedRow]) -> Iterator[tuple[Read, VerifiedRow]]:
        """The rows, read once more, each with what was decided on it; InputError where their numbers differ."""
        for row, decided in zip_longest(self.read(PassedOver()), rows):
            if row is None or decided is None:
                raise changed(self.path)
            yield row, decided

    def check_output(self, output: Path) -> None:
        """Finds out before the work whether a result can be named so.

        Raises:
            InputError: It is of another kind than the input, or the input would be written over.
        """
        remedy = "Name another --output."
        if output.suffix.lower() != self.path.suffix.lower():
            got, wanted = output.suffix or "no suffix", f"{self.path.suffix}, as the input is"
            raise InputError(str(output), got=got, wanted=wanted, remedy=remedy)
        if output.is_dir():
            raise InputError(str(output), got="a folder", wanted="a file", remedy=remedy)
        if self.path.resolve() in {file.resolve() for file in self.outputs(output)}:
            raise InputError(str(output), got="the input itself", wanted="another file for the result", remedy=remedy)

    @abstractmethod
    def outputs(self, output: Path) -> list[Path]:
        """All the files that a result of this name may have."""

    @abstractmethod
    def write(self, rows: Iterable[VerifiedRow], output: Path) -> list[Path]:
        """Writes the same format and returns its files: none appears before all of them are written.

        Args:
            rows: What was decided on each row that ``rows`` gave, in that order.
            output: What the result is to be called.

        Raises:
            InputError: As ``check_output``, or the input is not what was read before.
        """


def changed(path: Path) -> InputError:
    """The error for a file that is not what it was."""
    got, wanted = "other rows than were verified", "a file that stays as it is while it is verified"
    return InputError(str(path), got=got, wanted=wanted, remedy="Verify it again.")


class UnreadableRowError(ValueError):
    """A row that cannot be used; its message is the reason that is counted."""


Parsed = TypeVar("Parsed")


def readable(
    rows: Iterable[tuple[int, Mapping[str, Any] | str]],
    parse: Callable[[Any, int], Parsed],
    passed_over: PassedOver,
) -> Iterator[Parsed]:
    """The rows that ``parse`` can read, of rows with their numbers; the others are counted."""
    for number, row in rows:
        try:
            if isinstance(row, str):
                raise UnreadableRowError(row)
            yield parse(row, number)
        except UnreadableRowError as error:
            passed_over.add(number, str(error), row)


def text_in(value: Any, name: str) -> str:
    """The value of a column, which has to be a text: else UnreadableRowError."""
    if not isinstance(value, str | None):
        raise UnreadableRowError(f"{name}: {type(value).__name__} in place of a text")
    if value and encodable(value) != value:  # what bytes that are not UTF-8 are read as, too
        raise UnreadableRowError(f"{name}: not Unicode")
    if not value or not value.strip():
        raise UnreadableRowError(f"{name}: empty")
    return value


def texts_in(values: Sequence[Any] | None, name: str, most: int) -> dict[int, str]:
    """Index -> text of those in a column that are there: null and blank ones are gaps, and None is an empty list.

    Raises:
        UnreadableRowError: One of them is neither a text nor a gap, there are too many of them, or it is no list.
    """
    if not isinstance(values, list | None):
        raise UnreadableRowError(f"{name}: {type(values).__name__} in place of a list of texts")
    there = {
        index: value for index, value in enumerate(values or ())
        if value is not None and (not isinstance(value, str) or value.strip())
    }  # fmt: skip
    if len(there) > most:
        raise UnreadableRowError(f"{name}: more than {most:,} texts")
    return {index: text_in(value, name) for index, value in there.items()}


class OutputFiles(ExitStack):
    """A block in which the files of a result are written; ``paths`` are those, in the order they were begun."""

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
