"""Scores that survive an interruption: a scorer behind a cache of what it has answered."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import nan
from pathlib import Path
from typing import Self

from finegrade.errors import InputError, is_disk_full, no_space
from finegrade.models.scorers import SCORING, Scorer
from finegrade.text import content_hash

_CHUNK = 256
"""Pairs that are scored together or not at all: a pair's score may depend on its batch in the last digit; fixed chunks
make resumed runs identical."""


class ScoreCache:
    """Scores of all scorers, in an SQLite file. A context manager. Damage and a full disk are an InputError."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with self._guarded():
            self._rows = sqlite3.connect(path, isolation_level=None)
            self._rows.execute("PRAGMA journal_mode=WAL")
            self._rows.execute("PRAGMA synchronous=NORMAL")
            self._rows.execute("CREATE TABLE IF NOT EXISTS scores (pair BLOB PRIMARY KEY, score REAL) WITHOUT ROWID")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._rows.close()

    def __len__(self) -> int:
        """How many scores it holds."""
        with self._guarded():
            return int(self._rows.execute("SELECT count(*) FROM scores").fetchone()[0])

    def find(self, keys: Sequence[bytes]) -> dict[bytes, float]:
        """Those of these keys that have a score."""
        marks = ",".join("?" * len(keys))
        with self._guarded():
            found = self._rows.execute(f"SELECT pair, score FROM scores WHERE pair IN ({marks})", keys).fetchall()
        return {key: nan if score is None else score for key, score in found}  # SQLite keeps nan as NULL

    def add(self, scores: dict[bytes, float]) -> None:
        """Keeps scores, all of them or none."""
        with self._guarded():
            self._rows.execute("BEGIN")
            self._rows.executemany("INSERT OR REPLACE INTO scores VALUES (?, ?)", scores.items())
            self._rows.execute("COMMIT")

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Damage behind the header shows only where it is read."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if is_disk_full(error):
                raise no_space(self._path, "space for the cache of scores") from None
            remedy = "Delete it: the scores are computed again."
            raise InputError(str(self._path), got=error, wanted="a cache of scores", remedy=remedy) from None


class CachedScorer:
    """A scorer that is asked only for what a cache does not hold under its identity (model and settings)."""

    def __init__(self, scorer: Scorer, identity: str, cache: ScoreCache) -> None:
        self._scorer, self._identity, self._cache = scorer, f"{SCORING} {identity}", cache

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
        """Yields the score of each (query, text), in order."""
        for start in range(0, len(pairs), _CHUNK):
            chunk = pairs[start : start + _CHUNK]
            keys = [bytes.fromhex(content_hash(self._identity, *pair)) for pair in chunk]
            found = self._cache.find(keys)
            fresh = {key: pair for key, pair in zip(keys, chunk, strict=True) if key not in found}
            scores = dict(zip(fresh, self._scorer.scores(list(fresh.values())), strict=True)) if fresh else {}
            self._cache.add(scores)
            found |= scores
            yield from (found[key] for key in keys)
