"""Tables of query, positive and negatives, a row each, as sentence-transformers trains on them.

sentence-transformers takes columns in their order and no gaps. So rows that lost negatives go to files of their own,
one for each number that is left: of ``graded.parquet`` with four columns of negatives ``graded.3.parquet`` holds the
rows with three, and ``graded.0.parquet`` those with none: pairs. Each trains as it is, and all of them together as a
dictionary of data sets. The negatives of a row stand easiest first. Their levels cannot stand in the table, where
every column is taken for a text: ``graded.levels.jsonl`` has a line for each row, in the same order.

A list of labels or scores stays in step with the texts it is of. A negative that answers the query becomes the
positive of a row of its own, with the negatives of its row, unless a label or an id would be wrong there.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from finegrade.data.formats.base import (
    MAX_NEGATIVES,
    Given,
    Judged,
    Kind,
    OutputFiles,
    PassedOver,
    Table,
    TableRow,
    Tell,
    UnreadableRowError,
    beside,
    check_file,
    levels_path,
    numbered,
    text_in,
    texts_in,
)
from finegrade.data.formats.column_roles import Roles, beside_negatives, beside_positive, is_of_negatives
from finegrade.data.readers.jsonl import json_line


class ColumnRow(NamedTuple):
    """A row as it was read.

    Attributes:
        given: What is verified of it.
        cells: All its columns.
        negatives: What stands where a negative may stand, gaps too.
        places: Of ``Given.negatives`` among them.
    """

    given: Given
    cells: TableRow
    negatives: Sequence[Any]
    places: Sequence[int]


class ColumnRows:
    """Reads and writes the rows of one file.

    Args:
        columns: Name -> kind, in the order of the file.
        roles: Which of them is what.

    Attributes:
        most: How many negatives a row of one file has, where they are columns; 1 where there is a column of lists.
        looked_at: The columns whose values are needed.
    """

    def __init__(self, columns: Mapping[str, Kind], roles: Roles) -> None:
        self._columns, self._roles = list(columns), roles
        self.most = len(roles.negatives)
        self._labels = beside_negatives(columns, roles.negatives)
        self._in_step = [name for name in self._labels if columns[name] in ("numbers", "texts")]
        self.looked_at = (roles.query, roles.positive, *roles.negatives, *self._in_step)
        self._promotes = not beside_positive(columns, roles)
        self._all_in_step = self._labels == self._in_step

    def read(self, cells: TableRow) -> ColumnRow:
        """A row of the file.

        Raises:
            UnreadableRowError: It has no query or positive, too many negatives, no texts, or labels of other texts.
        """
        query, positive, negatives, is_list, _ = self._roles
        if any(is_of_negatives(name) for name in cells.keys() - set(self._columns)):
            raise UnreadableRowError("negatives: a column that the first rows do not have")
        given = [text_in(cells.get(name), name) for name in (query, positive)]
        values = cells.get(negatives[0]) if is_list else [cells.get(name) for name in negatives]
        texts = texts_in(values, negatives[0] if len(negatives) == 1 else "negatives", MAX_NEGATIVES)
        row = ColumnRow(Given(given[0], (given[1],), tuple(texts.values())), cells, values or [], tuple(texts))
        for name in self._labels:
            if not self._fits(row, name):
                raise UnreadableRowError(f"{name}: not one for each text")
        return row

    def columns_of(self, negatives: int) -> list[str]:
        """The columns of a file whose rows have so many negatives. Pairs have no labels: they would pass for theirs."""
        left_out: set[str] = set()
        if not negatives:
            left_out = {*self._roles.negatives, *self._labels}
        elif not self._roles.is_list:
            left_out = {*self._roles.negatives[negatives:]}
        return [name for name in self._columns if name not in left_out]

    def kept(self, row: ColumnRow, places: Sequence[int]) -> TableRow:
        """The row with these of its negatives, in this order."""
        own = [row.places[place] for place in places]
        labels = {name: row.cells[name][: self._before(row, name)] for name in self._labelled(row)}
        return self._with(row, own, labels)

    def promoted(self, row: ColumnRow, place: int, places: Sequence[int]) -> TableRow | None:
        """The row with one of its negatives as the positive; None where a label of it or an id would then be wrong."""
        labelled = self._labelled(row) if places else []  # a pair has none
        known = not places or (self._all_in_step and all(self._before(row, name) for name in labelled))
        if not self._promotes or not known:
            return None
        own = [row.places[one] for one in places]
        labels = {name: [row.cells[name][row.places[place] + 1]] for name in labelled}
        return self._with(row, own, labels) | {self._roles.positive: row.given.negatives[place]}

    def _with(self, row: ColumnRow, places: Sequence[int], labels: Mapping[str, list[Any]]) -> TableRow:
        """With the negatives of these places and, before theirs, these labels."""
        texts: list[Any] = [row.negatives[place] for place in places]
        columns = self._roles.negatives if self._roles.is_list else self._roles.negatives[: len(texts)]
        negatives = dict(zip(columns, [texts] if self._roles.is_list else texts, strict=True))
        step = {
            name: before + [row.cells[name][self._before(row, name) + place] for place in places]
            for name, before in labels.items()
        }
        return row.cells | negatives | step

    def _labelled(self, row: ColumnRow) -> list[str]:
        return [name for name in self._in_step if row.cells.get(name) is not None]

    def _fits(self, row: ColumnRow, name: str) -> bool:
        """Whether labels can follow the negatives: there is one for each of them, or for each text of the row."""
        labels = row.cells.get(name)
        if name not in self._in_step:
            return not isinstance(labels, list)
        return labels is None or (isinstance(labels, list) and self._before(row, name) in (0, 1))

    @staticmethod
    def _before(row: ColumnRow, name: str) -> int:
        """How many labels stand before those of the negatives: 1 where the positive has one, too."""
        labels = row.cells.get(name)
        return 0 if labels is None else len(labels) - len(row.negatives)


_Add = Callable[[TableRow, list[int]], None]
"""Writes a row, and the levels of its negatives."""


class Columns:
    """Training data in columns of query, positive and negatives: a Format.

    Args:
        table: The file.
        roles: Which of its columns is what.
    """

    def __init__(self, table: Table, roles: Roles) -> None:
        self.path, self.about = table.path, roles.about
        self.files: tuple[Path, ...] = (table.path,)
        self.passed_over = PassedOver()
        self.not_written: Counter[str] = Counter()
        self._table, self._is_list = table, roles.is_list
        self._form = ColumnRows(table.columns, roles)
        table.look_at(self._form.looked_at)

    def rows(self, tell: Tell | None = None) -> Iterator[Given]:
        """See Format."""
        self.passed_over = PassedOver(tell)
        return (row.given for row in self._rows(self.passed_over))

    def check_output(self, output: Path) -> None:
        """See Format."""
        check_file(self._table.path, output, self.outputs(output))

    def outputs(self, output: Path) -> list[Path]:
        """See Format."""
        files = [self._path(output, negatives) for negatives in range(self._form.most + 1)]
        return [*files, *map(levels_path, files)]

    def write(self, judged: Iterable[Judged], output: Path) -> list[Path]:
        """See Format."""
        self.check_output(output)
        self.not_written = Counter()
        adding: dict[Path, _Add] = {}
        with OutputFiles() as files:
            for row, decided in beside(self._table.path, self._rows(PassedOver()), judged):
                levels = [level for _, level in decided.kept]
                path = self._path(output, len(levels))
                for cells in self._left(row, decided):
                    if path not in adding:
                        adding[path] = self._opened(files, path, len(levels))
                    adding[path](cells, levels)
        return files.paths

    def _rows(self, passed_over: PassedOver) -> Iterator[ColumnRow]:
        for number, cells in self._table.rows():
            try:
                if isinstance(cells, str):
                    raise UnreadableRowError(cells)
                yield self._form.read(cells)
            except UnreadableRowError as error:
                passed_over.add(number, str(error), cells)

    def _left(self, row: ColumnRow, decided: Judged) -> Iterator[TableRow]:
        """What a row becomes: itself, and a row for each of its negatives that is a positive now."""
        if not decided.kept_positives:
            return
        kept = [place for place, _ in decided.kept]
        yield self._form.kept(row, kept)
        for place in decided.promoted:
            cells = self._form.promoted(row, place, kept)
            if cells is None:
                self.not_written["a negative that answers: no label of it is known"] += 1
            else:
                yield cells

    def _opened(self, files: OutputFiles, path: Path, negatives: int) -> _Add:
        columns = self._form.columns_of(negatives)
        add = files.enter_context(self._table.writing(files.temporary(path), columns))
        if not negatives:
            return lambda cells, _: add(cells)
        lines = files.enter_context(files.temporary(levels_path(path)).open("w", encoding="utf-8"))
        number = 0

        def add_both(cells: TableRow, levels: list[int]) -> None:
            nonlocal number
            add(cells)
            lines.write(json_line({"row": number, "levels": levels}))
            number += 1

        return add_both

    def _path(self, output: Path, negatives: int) -> Path:
        return output if negatives and (self._is_list or negatives == self._form.most) else numbered(output, negatives)
