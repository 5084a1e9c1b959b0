"""Negatives from the corpus: bands of BM25 ranks for the harder levels, another group at random for the easiest."""

import random
from collections import Counter
from collections.abc import Sequence

from finegrade.lexical import BM25
from finegrade.records import Negative, Seed
from finegrade.text import jaccard, normalised, shingles

RANK_BANDS = {4: (1, 5), 3: (6, 30), 2: (31, 200)}
"""Level -> BM25 ranks (first, last) that its mined negative is drawn from; level 1 is random."""

NEAR_COPY = 0.5
"""Jaccard of 5-word shingles with a positive from which a corpus text is no negative but a copy."""


class Miner:
    """Draws graded negatives for a seed from the positives of all the other seeds.

    Args:
        seeds: The training seeds, with and without a query; their texts are the corpus.
        seed: Of the draws within a band.

    Attributes:
        set_aside: Why texts in a band were passed over, counted.
    """

    def __init__(self, seeds: Sequence[Seed], seed: int) -> None:
        self._texts = [(text, one.group, normalised(one.query), one.section) for one in seeds for text in one.positives]
        self._random = random.Random(seed)
        self._index = BM25([text for text, *_ in self._texts])
        self.set_aside: Counter[str] = Counter()

    def negatives(self, seed: Seed) -> list[Negative]:
        """One negative a level, where the corpus has one: levels 4 to 2 mined in rank bands, level 1 random.

        A text of the same query, of the positive's own section of a document, or nearly equal to one of the query's
        positives, is never drawn.
        """
        (ranked,) = self._index.rank([seed.query], RANK_BANDS[2][1])
        own = [shingles(text) for text in seed.positives]
        taken: set[str] = set()
        negatives = []
        for level, (first, last) in RANK_BANDS.items():
            band = ranked[first - 1 : last]
            text = self._draw(self._random.sample(band, len(band)), seed, own, taken)
            if text:
                negatives.append(Negative(text=text, level=level, source="mined"))
        text = self._draw(self._elsewhere(seed.group), seed, own, taken)
        if text:
            negatives.append(Negative(text=text, level=1, source="random"))
        return negatives

    def _elsewhere(self, group: str, tries: int = 50) -> list[int]:
        drawn = [self._random.randrange(len(self._texts)) for _ in range(tries)]
        return [number for number in drawn if self._texts[number][1] != group] or drawn

    def _draw(
        self, numbers: Sequence[int], seed: Seed, own: list[frozenset[tuple[str, ...]]], taken: set[str]
    ) -> str | None:
        """The first of the texts that is no positive, no copy of one, and not taken by another level."""
        query = normalised(seed.query)
        for number in numbers:
            text, _, answers, section = self._texts[number]
            if answers == query or text in taken:
                continue
            if section and section == seed.section:
                self.set_aside["mined: from the positive's own section"] += 1
                continue
            if any(jaccard(shingles(text), positive) >= NEAR_COPY for positive in own):
                self.set_aside["mined: near-copy of the positive"] += 1
                continue
            taken.add(text)
            return text
        return None
