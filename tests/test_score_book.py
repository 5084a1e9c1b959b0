"""Scores are asked for once, whatever happens in between."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from finegrade.score_book import ScoreBook

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
    monkeypatch.setattr("finegrade.score_book._CHUNK", 5)


def test_an_interrupted_scoring_continues_and_gives_the_same(tmp_path: Path) -> None:
    whole = list(Counting().scores(PAIRS))
    first, second = Counting(until=11), Counting()
    with pytest.raises(KeyboardInterrupt):
        list(ScoreBook(first, "a", tmp_path / "book").scores(PAIRS))
    assert list(ScoreBook(second, "a", tmp_path / "book").scores(PAIRS)) == whole
    assert second.asked == PAIRS[10:]  # of the chunk that was interrupted every pair, in the same company


def test_another_scorer_is_asked_anew(tmp_path: Path) -> None:
    for identity in ("a", "b"):
        scorer = Counting()
        list(ScoreBook(scorer, identity, tmp_path / "book").scores(PAIRS))
        assert scorer.asked == PAIRS


@pytest.mark.parametrize("torn", [b'["abc', b'["abc", ', b"\xff\xfe", b'{"a": 1}', b'["abc", "x"]'])
def test_a_torn_last_line_costs_one_chunk_at_most(tmp_path: Path, torn: bytes) -> None:
    book = tmp_path / "book"
    list(ScoreBook(Counting(), "a", book).scores(PAIRS[:20]))
    book.write_bytes(book.read_bytes().rstrip(b"\n")[:-5] + b"\n" + torn)
    scorer = Counting()
    assert list(ScoreBook(scorer, "a", book).scores(PAIRS)) == list(Counting().scores(PAIRS))
    assert len(scorer.asked) <= 15
    again = Counting()
    list(ScoreBook(again, "a", book).scores(PAIRS))
    assert again.asked == []
