"""One row of columns: read as query, positive and negatives, and written again with the negatives that are left."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from finegrade.formats.column_roles import Roles, beside_negatives, beside_positive, is_of_negatives
from finegrade.formats.given import Given
from finegrade.formats.table import Kind, TableRow
from finegrade.formats.texts import MAX_NEGATIVES, UnreadableRowError, text_in, texts_in


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
