"""Scores are asked for once, whatever happens in between."""

import math
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from finegrade.errors import InputError
from finegrade.verification.score_cache import CachedScorer, ScoreCache

PAIRS = [(f"query {i}", f"text {i % 7}") for i in range(30)]


class Counting:
    """A scorer that counts, and breaks off after so many scores."""

    def __init__(self, until: int = 1_000) -> None:
        self.asked: list[tuple[str, str]] = []
        self._until = until

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
        for pair in pairs:
            if len(self.asked) == self._until:
                raise KeyboardInterrupt
            self.asked.append(pair)
            yield float(len(pair[0]) * 100 + int(pair[1][-1]))


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finegrade.verification.score_cache._CHUNK", 5)


def kept(scorer: Counting, path: Path, identity: str = "a", pairs: Sequence[tuple[str, str]] = PAIRS) -> list[float]:
    """The scores, through the cache."""
    with ScoreCache(path) as cache:
        return list(CachedScorer(scorer, identity, cache).scores(pairs))


def test_an_interrupted_scoring_continues_and_gives_the_same(tmp_path: Path) -> None:
    whole = list(Counting().scores(PAIRS))
    first, second = Counting(until=11), Counting()
    with pytest.raises(KeyboardInterrupt):
        kept(first, tmp_path / "cache")
    assert kept(second, tmp_path / "cache") == whole
    assert second.asked == PAIRS[10:]  # of the chunk that was interrupted every pair, in the same company


def test_another_scorer_is_asked_anew(tmp_path: Path) -> None:
    for identity in ("a", "b"):
        scorer = Counting()
        kept(scorer, tmp_path / "cache", identity)
        assert scorer.asked == PAIRS
    with ScoreCache(tmp_path / "cache") as cache:
        assert len(cache) == 2 * len(PAIRS)


def test_what_is_known_is_found_in_any_order_and_company(tmp_path: Path) -> None:
    kept(Counting(), tmp_path / "cache")
    scorer, some = Counting(), [*PAIRS[17:3:-2], PAIRS[0], PAIRS[0]]
    assert kept(scorer, tmp_path / "cache", pairs=some) == list(Counting().scores(some))
    assert scorer.asked == []


def test_the_borders_between_query_text_and_scorer_count(tmp_path: Path) -> None:
    kept(Counting(), tmp_path / "cache", "a", [("ab", "c1")])
    for identity, pair in (("a", ("a", "bc1")), ("aa", ("b", "c1"))):
        scorer = Counting()
        kept(scorer, tmp_path / "cache", identity, [pair])
        assert scorer.asked == [pair]


def test_a_score_that_is_no_number_stays_one(tmp_path: Path) -> None:
    class Broken(Counting):
        def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
            yield from (math.nan for _ in pairs)

    assert all(map(math.isnan, kept(Broken(), tmp_path / "cache")))
    scorer = Counting()
    assert all(map(math.isnan, kept(scorer, tmp_path / "cache")))
    assert scorer.asked == []


def test_a_damaged_book_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "cache").write_bytes(b"no database " * 100)
    with pytest.raises(InputError, match=r"wanted a cache of scores\. Delete it"):
        ScoreCache(tmp_path / "cache")


def damaged(path: Path) -> None:
    """A cache whose header is whole, and its pages are not."""
    with ScoreCache(path) as cache:
        cache.add({number.to_bytes(32): 1.0 for number in range(2_000)})
    whole = path.read_bytes()
    path.write_bytes(whole[:4_096] + b"junk" * ((len(whole) - 4_096) // 4))


@pytest.mark.parametrize(
    "use",
    [len, lambda cache: cache.find([bytes(32)]), lambda cache: cache.add({bytes(32): 2.0})],
    ids=["count", "find", "add"],
)
def test_damage_behind_the_header_is_one_line(tmp_path: Path, use: Callable[[ScoreCache], object]) -> None:
    damaged(tmp_path / "cache")
    with (
        ScoreCache(tmp_path / "cache") as cache,
        pytest.raises(InputError, match=r"malformed; wanted a cache of scores\. Delete it"),
    ):
        use(cache)


def test_a_full_disk_is_one_line(tmp_path: Path) -> None:
    with ScoreCache(tmp_path / "cache") as cache:
        cache._rows.execute("PRAGMA max_page_count = 2")
        with pytest.raises(InputError, match="got no space left; wanted space for the cache of scores"):
            cache.add({number.to_bytes(32): 1.0 for number in range(2_000)})
        assert len(cache) == 0


def test_scores_by_other_code_are_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept(Counting(), tmp_path / "cache")
    monkeypatch.setattr("finegrade.verification.score_cache.SCORING", 99)
    scorer = Counting()
    kept(scorer, tmp_path / "cache")
    assert scorer.asked == PAIRS
