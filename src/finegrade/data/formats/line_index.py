"""Lines of a large file, found by a key in them: sixteen bytes of memory for each line with another key than the last.

A key is remembered as its hash, and looked at again in the line that is found, so that two keys of one hash do no
harm.
"""

from array import array
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import takewhile
from pathlib import Path
from typing import BinaryIO

import numpy as np

from finegrade.data.readers.text_files import MAX_ROW_BYTES, bounded_lines
from finegrade.errors import unreadable

KeyOf = Callable[[bytes], str | None]
"""The key in a line; None where it cannot be read."""

Find = Callable[[str], list[bytes]]
"""From a key to its lines, in the order of the file; none where there is no such key."""


class LineIndex:
    """Where the lines of a file begin, by key; InputError where it cannot be read."""

    def __init__(self, path: Path, key_of: KeyOf) -> None:
        self.path, self._key_of = path, key_of
        self.unreadable = 0
        hashes, begins = array("q"), array("q")
        before: str | None = None
        try:
            with path.open("rb") as file:
                for _, begin, line in _lines(file):
                    key = key_of(line)
                    self.unreadable += key is None
                    if key is not None and key != before:
                        hashes.append(hash(key))
                        begins.append(begin)
                    before = key
        except OSError as error:
            raise unreadable(path, error, "a file that can be read", "Correct the path.") from None
        found = np.array(hashes, dtype=np.int64)
        order = np.argsort(found, kind="stable")  # stable: lines of one key stay in the order of the file
        self._hashes, self._begins = found[order], np.array(begins, dtype=np.int64)[order]

    def each_unreadable(self) -> Iterator[tuple[int, bytes]]:
        """The lines without a key, each with its number, from 1."""
        if self.unreadable:
            with self.path.open("rb") as file:
                for number, _, line in _lines(file):
                    if self._key_of(line) is None:
                        yield number, line

    def each_key(self) -> Iterator[str]:
        """The keys, once each, in the order of the file."""
        is_first = np.ones(len(self._hashes), dtype=np.bool_)
        is_first[1:] = self._hashes[1:] != self._hashes[:-1]
        with self.path.open("rb") as file:
            for begin in np.sort(self._begins[is_first]):
                file.seek(int(begin))
                key = self._key_of(file.readline(MAX_ROW_BYTES))
                if key is not None:
                    yield key

    @contextmanager
    def opened(self) -> Iterator[Find]:
        """Opens the file for looking up."""
        with self.path.open("rb") as file:
            yield lambda key: list(self._lines(file, key))

    def lines(self, key: str) -> Iterator[bytes]:
        """The lines of a key, one at a time: there may be more than memory holds."""
        with self.path.open("rb") as file:
            yield from self._lines(file, key)

    def _lines(self, file: BinaryIO, key: str) -> Iterator[bytes]:
        first, last = (int(np.searchsorted(self._hashes, hash(key), side)) for side in ("left", "right"))
        for begin in self._begins[first:last]:
            file.seek(int(begin))
            yield from (line for *_, line in takewhile(lambda one: self._key_of(one[2]) == key, _lines(file)))


def _lines(file: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """The lines from here on that are not blank: number, where it begins, line; in place of one too long nothing."""
    begin = file.tell()
    for number, line in enumerate(bounded_lines(file), start=1):
        if line is None or line.strip():
            yield number, begin, line or b""
        begin = file.tell()
