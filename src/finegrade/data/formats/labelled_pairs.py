"""Pairs of query and text with a label, as cross-encoders are trained on: 1 where the text answers, 0 where not.

The pairs of a query belong together, wherever they stand. Their negatives are verified a thousand at a time, each time
beside all of its positives. What stays is written back in the order of the file; a negative that answers gets the
label of what answers. ``NAME.levels.jsonl`` has a line for each row, in the same order; the levels of what answers are
empty.
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from finegrade.data.formats.base import (
    MAX_NEGATIVES,
    MAX_POSITIVES,
    ExternalRow,
    Format,
    OutputFiles,
    PassedOver,
    UnreadableRowError,
    VerifiedRow,
    levels_path,
    readable,
    text_in,
)
from finegrade.data.formats.columns import Roles
from finegrade.data.formats.line_index import LineIndex
from finegrade.data.formats.tables import Table, TableRow
from finegrade.data.readers.text_files import MAX_ROW_BYTES, json_line
from finegrade.storage.atomic import scratch_file
from finegrade.storage.tables import in_pieces


class LabelledPair(NamedTuple):
    """A pair that can be read: ``label`` is the cell that says whether the text answers, ``row`` its number."""

    query: str
    text: str
    label: Any
    row: int


def _pair(line: bytes) -> LabelledPair:
    return LabelledPair(*json.loads(line))


_LEFT_OUT, _ANSWERS = 0, 1
"""What becomes of a row; a negative of level n is n more than what answers. A byte holds it."""


class QueryPairs(NamedTuple):
    """The pairs of a query; of many negatives a part."""

    external: ExternalRow
    positives: Sequence[LabelledPair]
    negatives: Sequence[LabelledPair]


class LabelledPairs(Format[QueryPairs]):
    """Training data in labelled pairs. Each row is the pairs of one query."""

    def __init__(self, table: Table, roles: Roles) -> None:
        super().__init__(table.path, roles.about, (table.path,))
        self._table, self._roles = table, roles
        table.look_at((roles.query, roles.positive, roles.labels))

    def outputs(self, output: Path) -> list[Path]:
        """See Format."""
        return [output, levels_path(output)]

    def write(self, rows: Iterable[VerifiedRow], output: Path) -> list[Path]:
        """See Format."""
        self.check_output(output)
        fates, label = self._fates(rows)
        with OutputFiles() as files:
            add = files.enter_context(self._table.writing(files.temporary(output), list(self._table.columns)))
            lines = files.enter_context(files.temporary(levels_path(output)).open("w", encoding="utf-8"))
            number = 0
            for index, row in self._table.rows():
                fate = fates[index] if index < len(fates) else _LEFT_OUT  # behind the last that stays there are none
                if isinstance(row, str) or fate == _LEFT_OUT:
                    continue
                answers = fate == _ANSWERS
                add(row | label if answers and not _answers(row[self._roles.labels]) else row)
                lines.write(json_line({"row": number, "levels": [] if answers else [fate - _ANSWERS]}))
                number += 1
        return files.paths

    def read(self, passed_over: PassedOver) -> Iterator[QueryPairs]:
        """See Format."""
        with scratch_file("finegrade-pairs") as path:
            with path.open("wb") as file:
                file.writelines(readable(self._table.rows(), self._line, passed_over))
            index = LineIndex(path, lambda line: _pair(line).query)
            for query in index.each_key():
                yield from self._pairs_of(query, index, passed_over)

    def _pairs_of(self, query: str, index: LineIndex, passed_over: PassedOver) -> Iterator[QueryPairs]:
        answering = (pair for pair in map(_pair, index.lines(query)) if _answers(pair.label))
        positives = list(islice(answering, MAX_POSITIVES + 1))
        if 0 < len(positives) <= MAX_POSITIVES:
            negatives = (pair for pair in map(_pair, index.lines(query)) if not _answers(pair.label))
            for part in in_pieces(negatives, MAX_NEGATIVES):
                texts = (tuple(pair.text for pair in pairs) for pairs in (positives, part))
                yield QueryPairs(ExternalRow(query, *texts), positives, part)
        else:
            found = f"more than {MAX_POSITIVES} texts that answer" if positives else "no text that answers"
            for pair in map(_pair, index.lines(query)):
                passed_over.add(pair.row, f"{self._roles.query}: {found}", {"query": query, "text": pair.text})

    def _line(self, row: TableRow, number: int) -> bytes:
        """How a pair waits on the disk."""
        query, text = (text_in(row.get(name), name) for name in (self._roles.query, self._roles.positive))
        label = row.get(self._roles.labels)
        if _number(label) not in (0, 1):
            raise UnreadableRowError(f"{self._roles.labels}: neither 0 nor 1")
        line = json.dumps((query, text, label, number), ensure_ascii=False).encode() + b"\n"
        if len(line) > MAX_ROW_BYTES:
            raise UnreadableRowError(f"row of more than {MAX_ROW_BYTES:,} bytes")
        return line

    def _fates(self, rows: Iterable[VerifiedRow]) -> tuple[bytearray, TableRow]:
        """What becomes of the rows of the file, to the last that stays; and the label of what answers."""
        fates, label = bytearray(), None
        for pairs, decided in self.verified(rows):
            if decided.kept_positives:
                label = pairs.positives[0].label
                answers = [pairs.positives[index] for index in decided.kept_positives]
                answers += [pairs.negatives[index] for index in decided.promoted]
                fate_of = [(pair.row, _ANSWERS) for pair in answers]
                fate_of += [(pairs.negatives[index].row, _ANSWERS + level) for index, level in decided.kept]
                fates.extend(bytes(max(0, max(fate_of)[0] + 1 - len(fates))))
                for row, fate in fate_of:
                    fates[row] = fate
        return fates, {self._roles.labels: label}


def _answers(label: Any) -> bool:
    return _number(label) == 1


def _number(label: Any) -> float | None:
    try:
        return float(label)
    except (TypeError, ValueError):
        return None
