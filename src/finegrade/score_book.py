"""Scores that survive an interruption: a scorer in front of another, with a book of what it has answered."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from finegrade.console import say
from finegrade.scoring import Scorer
from finegrade.text import content_hash

_CHUNK = 256
"""Pairs that are scored together or not at all: a scorer that works in batches may give a pair another last digit in
other company, and an interrupted run shall end as an uninterrupted one."""


class ScoreBook:
    """Asks a scorer only for what its book does not hold yet.

    Args:
        scorer: Gives the scores.
        identity: Of the scorer and its settings; scores of another one are not taken for its own.
        path: The book, one JSON line a score; a torn last line is passed over.
    """

    def __init__(self, scorer: Scorer, identity: str, path: Path) -> None:
        self._scorer, self._identity, self._path = scorer, identity, path
        self._known = _read(path)

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
        """Yields the relevance of each (query, text), in order."""
        keys = [content_hash(self._identity, *pair) for pair in pairs]
        known = sum(key in self._known for key in keys)
        if known:
            say(f"verify: continues, {known:,} of {len(pairs):,} scores are there")
        with self._path.open("a", encoding="utf-8") as book:
            book.write("\n")  # ends a line that a kill may have torn
            for start in range(0, len(pairs), _CHUNK):
                chunk = slice(start, start + _CHUNK)
                if all(key in self._known for key in keys[chunk]):
                    yield from (self._known[key] for key in keys[chunk])
                    continue
                for key, score in zip(keys[chunk], self._scorer.scores(pairs[chunk]), strict=True):
                    self._known[key] = score
                    book.write(json.dumps([key, score]) + "\n")
                    yield score
                book.flush()


def _read(path: Path) -> dict[str, float]:
    known: dict[str, float] = {}
    if path.exists():
        with path.open(encoding="utf-8", errors="replace") as book:
            for line in book:
                try:
                    key, score = json.loads(line)
                    known[str(key)] = float(score)
                except (ValueError, TypeError):
                    continue
    return known
