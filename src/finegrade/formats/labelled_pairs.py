"""Pairs of query and text with a label, as cross-encoders are trained on: 1 where the text answers, 0 where not.

The rows of a query have to follow one another, as sentence-transformers' miner writes them. They are written back in
one file: what answers, with negatives that do after all, then the other negatives, easiest first.
``NAME.levels.jsonl`` has a line for each row, in the same order; the levels of what answers are empty.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby, islice
from pathlib import Path
from typing import Any, NamedTuple

from finegrade.formats.column_roles import Roles
from finegrade.formats.given import Given, Judged, PassedOver, Tell, beside, check_file
from finegrade.formats.json_lines import json_line
from finegrade.formats.output_files import OutputFiles, levels_path
from finegrade.formats.table import Table, TableRow
from finegrade.formats.texts import UnreadableRowError, text_in

_MOST = 1_000  # rows of one query that are held


class _Pairs(NamedTuple):
    given: Given
    positives: Sequence[TableRow]
    negatives: Sequence[TableRow]


class LabelledPairs:
    """Training data in labelled pairs: a Format. Each row that is given is all the pairs of one query.

    Args:
        table: The file.
        roles: Which of its columns is what.
    """

    def __init__(self, table: Table, roles: Roles) -> None:
        self.path, self.about = table.path, roles.about
        self.files: tuple[Path, ...] = (table.path,)
        self.passed_over = PassedOver()
        self.not_written: Counter[str] = Counter()
        self._table, self._roles = table, roles
        table.look_at((roles.query, roles.positive, roles.labels))

    def rows(self, tell: Tell | None = None) -> Iterator[Given]:
        """See Format."""
        self.passed_over = PassedOver(tell)
        return (pairs.given for pairs in self._rows(self.passed_over))

    def check_output(self, output: Path) -> None:
        """See Format."""
        check_file(self._table.path, output, self.outputs(output))

    def outputs(self, output: Path) -> list[Path]:
        """See Format."""
        return [output, levels_path(output)]

    def write(self, judged: Iterable[Judged], output: Path) -> list[Path]:
        """See Format."""
        self.check_output(output)
        with OutputFiles() as files:
            add = files.enter_context(self._table.writing(files.temporary(output), list(self._table.columns)))
            lines = files.enter_context(files.temporary(levels_path(output)).open("w", encoding="utf-8"))
            number = 0
            for pairs, decided in beside(self._table.path, self._rows(Counter()), judged):
                for row, levels in self._left(pairs, decided):
                    add(row)
                    lines.write(json_line({"row": number, "levels": levels}))
                    number += 1
        return files.paths

    def _rows(self, passed_over: Counter[str]) -> Iterator[_Pairs]:
        for _, rows in groupby(self._readable(passed_over), key=lambda row: row[self._roles.query]):
            while some := list(islice(rows, _MOST)):
                positives, negatives = ([row for row in some if self._label(row) == label] for label in (1, 0))
                if positives:
                    texts = (tuple(row[self._roles.positive] for row in part) for part in (positives, negatives))
                    yield _Pairs(Given(some[0][self._roles.query], *texts), positives, negatives)
                else:
                    passed_over["no text that answers follows or goes before it"] += len(some)

    def _readable(self, passed_over: Counter[str]) -> Iterator[TableRow]:
        for row in self._table.rows():
            try:
                if isinstance(row, str):
                    raise UnreadableRowError(row)
                for name in (self._roles.query, self._roles.positive):
                    text_in(row.get(name), name)
                if self._label(row) not in (0, 1):
                    raise UnreadableRowError(f"{self._roles.labels}: neither 0 nor 1")
                yield row
            except UnreadableRowError as error:
                passed_over[str(error)] += 1

    def _label(self, row: TableRow) -> float | None:
        value: Any = row.get(self._roles.labels)
        try:
            return float(value)
        except (TypeError, ValueError):
            return None

    def _left(self, pairs: _Pairs, decided: Judged) -> Iterator[tuple[TableRow, list[int]]]:
        """The rows that stay, with the levels of the negatives."""
        if decided.kept_positives:
            label = {self._roles.labels: pairs.positives[0][self._roles.labels]}
            yield from ((pairs.positives[place], []) for place in decided.kept_positives)
            yield from ((pairs.negatives[place] | label, []) for place in decided.promoted)
            yield from ((pairs.negatives[place], [level]) for place, level in decided.kept)
