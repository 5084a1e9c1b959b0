"""Tables of query, positive and negatives, a row each, as sentence-transformers trains on them.

sentence-transformers takes columns in their order and no gaps. So rows that lost negatives go to files of their own,
one for each number that is left: of ``graded.parquet`` with four columns of negatives ``graded.3.parquet`` holds the
rows with three, and ``graded.0.parquet`` those with none: pairs. Each trains as it is, and all of them together as a
dictionary of data sets. The negatives of a row stand easiest first. Their levels cannot stand in the table, where
every column is taken for a text: ``graded.levels.jsonl`` has a line for each row, in the same order.

A list of labels or scores stays in step with the texts it is of. A negative that answers the query becomes the
positive of a row of its own, with the negatives of its row, unless a label or an id would be wrong there.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from finegrade.data.formats.base import (
    MAX_NEGATIVES,
    WANTED,
    ExternalRow,
    Format,
    OutputFiles,
    PassedOver,
    UnreadableRowError,
    VerifiedRow,
    levels_path,
    numbered,
    readable,
    text_in,
    texts_in,
)
from finegrade.data.formats.tables import Kind, Table, TableRow
from finegrade.data.readers.text_files import json_line
from finegrade.errors import InputError
from finegrade.rows import (
    LABEL_NAMES,
    LABELLED_TEXT_NAMES,
    POSITIVE_NAMES,
    QUERY_NAMES,
    is_negative_name,
    named_columns,
)

_BESIDE_NEGATIVES = re.compile(r"(hard[ _]?)?neg(ative)?s?_", re.IGNORECASE)
_NO_TEXT = re.compile(
    r"(.*[ _-])?(id|ids|idx|index|label|labels|score|scores|source|type|lang|language|split|prompt|instruction)"
    r"|docid|qid|pid|uuid|url|unnamed.*|__.*|",
    re.IGNORECASE,
)
"""Names of columns that may hold text and yet none to train on; in a saved table of pandas the index has none."""

_MAY_BE_TEXTS: tuple[Kind, ...] = ("text", "texts", "empty")


class Roles(NamedTuple):
    """What the columns are: by the usual names, else by order, as sentence-transformers takes them.

    Attributes:
        query: The column of queries.
        positive: The column of texts that answer them; where there are ``labels``, of those that do not, too.
        negatives: The columns of negatives, or the one that holds lists of them; none where there are ``labels``.
        is_list: Whether there is one column of lists.
        labels: Of labelled pairs: the column of 0 and 1.
    """

    query: str
    positive: str
    negatives: tuple[str, ...]
    is_list: bool = False
    labels: str = ""

    @property
    def about(self) -> str:
        """In words, for the user."""
        others = f"negatives: {', '.join(self.negatives)}" if self.negatives else f"1 or 0: {self.labels}"
        return f"queries: {self.query}, {'texts' if self.labels else 'positives'}: {self.positive}, {others}"


def roles_of(path: Path, columns: Mapping[str, Kind]) -> Roles:
    """Which column is what; ``columns`` are in the order of the file.

    Raises:
        InputError: There are no negatives, or it is not clear which they are.
    """
    named = [name for name in columns if is_negative_name(name) and columns[name] in _MAY_BE_TEXTS]
    others = [name for name in columns if name not in named and not _NO_TEXT.fullmatch(name)]
    texts = [name for name in others if columns[name] == "text"]
    query = _first((*named_columns(QUERY_NAMES, texts), *texts))
    rest = [name for name in texts if name != query]
    labels = _first(name for name in ("label", "labels") if columns.get(name) == "number")
    if labels and not named:
        text = _first(named_columns(LABELLED_TEXT_NAMES, rest)) or (rest[0] if len(rest) == 1 else "")
        if not text:
            wanted = f"beside {labels} a query and a text that is called so, or negatives called negative_1, ..."
            raise _ambiguous(path, [labels, *rest], wanted)
        return Roles(query, text, (), labels=labels)
    positive = _first((*named_columns(POSITIVE_NAMES, rest), *rest))
    lists = [name for name in others if columns[name] == "texts"]
    negatives = named or [name for name in rest if name != positive] or lists
    for found, kind in ((query, "queries"), (positive, "positives"), (negatives, "negatives or labels")):
        if not found:
            shown = ", ".join(f"{name} ({columns[name]})" for name in columns) or "(none)"
            remedy = "Name the columns anchor, positive and negative_1, negative_2, …"
            raise InputError(str(path), got=f"columns {shown}, none of them of {kind}", wanted=WANTED, remedy=remedy)
    if len(negatives) > 1 and any(columns[name] == "texts" for name in negatives):
        raise _ambiguous(path, negatives, "columns of negatives, or one column of lists")
    is_list = columns[negatives[0]] == "texts"
    if is_list or len(negatives) > 1:
        _refuse_out_of_step(path, columns, negatives, is_list)
    return Roles(query, positive, tuple(negatives), is_list)


def _first(names: Iterable[str]) -> str:
    return next(iter(names), "")


def _ambiguous(path: Path, names: Sequence[str], wanted: str) -> InputError:
    remedy = "Rename them, or leave them out."
    return InputError(str(path), got=f"columns {', '.join(names)}", wanted=wanted, remedy=remedy)


def _beside_negatives(columns: Iterable[str], negatives: Sequence[str]) -> list[str]:
    """Columns that belong to the negatives by their names: ``negative_scores``, ``negative_1_id``, or labels."""
    there = [name for name in columns if name not in negatives]
    return [name for name in there if name in LABEL_NAMES or _BESIDE_NEGATIVES.match(name) or _begins(name, negatives)]


def _begins(name: str, others: Sequence[str]) -> bool:
    return any(name.startswith(f"{one}_") for one in others)


def _refuse_out_of_step(path: Path, columns: Mapping[str, Kind], negatives: Sequence[str], is_list: bool) -> None:
    """Negatives change their order: only a list with a value for each of them can follow."""
    found = _beside_negatives(columns, negatives)
    single = () if is_list else ("text", "number")  # beside a list, it is of all of them
    odd = [name for name in found if columns[name] == "other" or (columns[name] in single and name not in LABEL_NAMES)]
    odd += [name for name in found if columns[name] == "text" and name in LABEL_NAMES]
    if odd:
        wanted = "no columns that belong to single negatives, or one list for all of them, such as `scores`"
        raise _ambiguous(path, odd, wanted)


class ColumnRow(NamedTuple):
    """A row as it was read.

    Attributes:
        external: What is verified of it.
        cells: All its columns.
        negatives: The values where a negative may be, gaps too.
        indices: Where in ``negatives`` those of ``external`` are.
    """

    external: ExternalRow
    cells: TableRow
    negatives: Sequence[Any]
    indices: Sequence[int]


class Columns(Format[ColumnRow]):
    """Training data in columns of query, positive and negatives."""

    def __init__(self, table: Table, roles: Roles) -> None:
        super().__init__(table.path, roles.about, (table.path,))
        self._table, self._roles, self._names = table, roles, list(table.columns)
        self._labels = _beside_negatives(table.columns, roles.negatives)
        self._in_step = [name for name in self._labels if table.columns[name] in ("numbers", "texts")]
        self._can_promote = not any(
            _begins(name, [roles.positive]) for name in self._names if name not in roles.negatives
        )
        table.look_at((roles.query, roles.positive, *roles.negatives, *self._in_step))

    def read(self, passed_over: PassedOver) -> Iterator[ColumnRow]:
        """See Format."""
        return readable(self._table.rows(), self._row, passed_over)

    def _row(self, cells: TableRow, number: int) -> ColumnRow:
        query, positive, negatives, has_list, _ = self._roles
        if any(is_negative_name(name) for name in cells.keys() - set(self._names)):
            raise UnreadableRowError("negatives: a column that the first rows do not have")
        first = [text_in(cells.get(name), name) for name in (query, positive)]
        values = cells.get(negatives[0]) if has_list else [cells.get(name) for name in negatives]
        texts = texts_in(values, negatives[0] if len(negatives) == 1 else "negatives", MAX_NEGATIVES)
        external = ExternalRow(first[0], (first[1],), tuple(texts.values()))
        row = ColumnRow(external, cells, values or [], tuple(texts))
        for name in self._labels:
            labels = cells.get(name)
            is_list, in_step = isinstance(labels, list), name in self._in_step
            if labels is not None and (is_list != in_step or (is_list and _before(row, name) not in (0, 1))):
                raise UnreadableRowError(f"{name}: not one for each text")
        return row

    def outputs(self, output: Path) -> list[Path]:
        """See Format."""
        files = [self._path(output, negatives) for negatives in range(len(self._roles.negatives) + 1)]
        return [*files, *map(levels_path, files)]

    def _path(self, output: Path, negatives: int) -> Path:
        whole = negatives and (self._roles.is_list or negatives == len(self._roles.negatives))
        return output if whole else numbered(output, negatives)

    def write(self, rows: Iterable[VerifiedRow], output: Path) -> list[Path]:
        """See Format."""
        self.check_output(output)
        self.not_written = Counter()
        adding: dict[Path, Callable[[TableRow, list[int]], None]] = {}
        with OutputFiles() as files:
            for row, decided in self.verified(rows):
                levels = [level for _, level in decided.kept]
                path = self._path(output, len(levels))
                for cells in self._left(row, decided):
                    if path not in adding:
                        adding[path] = self._opened(files, path, len(levels))
                    adding[path](cells, levels)
        return files.paths

    def _opened(self, files: OutputFiles, path: Path, negatives: int) -> Callable[[TableRow, list[int]], None]:
        """Opens a file for rows with so many negatives. Pairs have no labels: they would pass for theirs."""
        left_out: tuple[str, ...] = ()
        if not negatives:
            left_out = (*self._roles.negatives, *self._labels)
        elif not self._roles.is_list:
            left_out = self._roles.negatives[negatives:]
        columns = [name for name in self._names if name not in left_out]
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

    def _left(self, row: ColumnRow, decided: VerifiedRow) -> Iterator[TableRow]:
        """What a row becomes: itself, and a row for each of its negatives that is a positive now."""
        if not decided.kept_positives:
            return
        kept = [row.indices[index] for index, _ in decided.kept]
        labelled = [name for name in self._in_step if row.cells.get(name) is not None]
        yield self._with(row, kept, {name: row.cells[name][: _before(row, name)] for name in labelled})
        if not kept:
            labelled = []  # a pair has no labels
        known = not kept or (self._labels == self._in_step and all(_before(row, name) for name in labelled))
        for index in decided.promoted:
            if self._can_promote and known:
                own = {name: [row.cells[name][row.indices[index] + 1]] for name in labelled}
                yield self._with(row, kept, own) | {self._roles.positive: row.external.negatives[index]}
            else:
                self.not_written["a negative that answers: no label of it is known"] += 1

    def _with(self, row: ColumnRow, kept: Sequence[int], before: Mapping[str, list[Any]]) -> TableRow:
        """The row with the negatives at these indices; the labels of its positive, if any, stand before theirs."""
        texts: list[Any] = [row.negatives[index] for index in kept]
        negatives = zip(self._roles.negatives, [texts] if self._roles.is_list else texts, strict=False)
        step = {
            name: own + [row.cells[name][_before(row, name) + index] for index in kept]
            for name, own in before.items()
        }  # fmt: skip
        return row.cells | dict(negatives) | step


def _before(row: ColumnRow, name: str) -> int:
    """How many labels stand before those of the negatives: 1 where the positive has one, too."""
    labels = row.cells.get(name)
    return 0 if labels is None else len(labels) - len(row.negatives)
