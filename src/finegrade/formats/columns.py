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
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from finegrade.formats.column_roles import Roles
from finegrade.formats.column_rows import ColumnRow, ColumnRows
from finegrade.formats.given import Given, Judged, PassedOver, Tell, beside, check_file
from finegrade.formats.json_lines import json_line
from finegrade.formats.output_files import OutputFiles, levels_path, numbered
from finegrade.formats.table import Table, TableRow
from finegrade.formats.texts import UnreadableRowError

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
