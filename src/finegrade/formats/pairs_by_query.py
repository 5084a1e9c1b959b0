"""Labelled pairs by query, wherever in the file they stand: the texts wait on the disk, where TMPDIR says.

Memory holds sixteen bytes for each run of pairs of one query: of a file in no order, for each pair.
"""

import json
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any, NamedTuple

from finegrade.formats.line_index import LineIndex
from finegrade.formats.texts import UnreadableRowError
from finegrade.sources.jsonl import MAX_ROW_BYTES
from finegrade.storage.atomic import scratch_file


class Pair(NamedTuple):
    """A pair that can be read.

    Attributes:
        query: What is searched with.
        text: What answers it or does not.
        label: The cell that says which.
        row: Its place among the rows of the file.
    """

    query: str
    text: str
    label: Any
    row: int

    def line(self) -> bytes:
        """How it waits on the disk.

        Raises:
            UnreadableRowError: It is too long.
        """
        line = json.dumps(self, ensure_ascii=False).encode() + b"\n"
        if len(line) > MAX_ROW_BYTES:
            raise UnreadableRowError(f"row of more than {MAX_ROW_BYTES:,} bytes")
        return line


def by_query(lines: Iterable[bytes]) -> Iterator[tuple[str, Callable[[], Iterator[Pair]]]]:
    """The queries in the order in which they come first, each with what reads its pairs, in the order of the file.

    Args:
        lines: Of the pairs.
    """
    with scratch_file("finegrade-pairs") as path:
        with path.open("wb") as file:
            file.writelines(lines)
        index = LineIndex(path, lambda line: _pair(line).query)
        for query in index.each_key():
            yield query, partial(_pairs, index, query)


def _pairs(index: LineIndex, query: str) -> Iterator[Pair]:
    return map(_pair, index.lines(query))


def _pair(line: bytes) -> Pair:
    return Pair(*json.loads(line))
