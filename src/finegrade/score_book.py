"""Scores that survive an interruption: a scorer in front of another, with a book of what it has answered."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

from finegrade.console import say
from finegrade.scoring import Scorer
from finegrade.text import content_hash

_FLUSH_EVERY = 100


class ScoreBook:
    """Asks a scorer only for pairs that its book does not hold yet.

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
        fresh = [pair for pair, key in zip(pairs, keys, strict=True) if key not in self._known]
        if len(fresh) < len(pairs):
            say(f"verify: continues, {len(pairs) - len(fresh):,} of {len(pairs):,} scores are there")
        answers = self._scorer.scores(fresh)
        with self._path.open("a", encoding="utf-8") as book:
            book.write("\n")  # ends a line that a kill may have torn
            for number, key in enumerate(keys):
                if key not in self._known:
                    self._known[key] = next(answers)
                    book.write(json.dumps([key, self._known[key]]) + "\n")
                if number % _FLUSH_EVERY == 0:
                    book.flush()
                yield self._known[key]


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
