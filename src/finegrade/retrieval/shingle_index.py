"""Which texts are nearly the same: Jaccard similarity of their word shingles, in memory and exact."""

from collections import Counter, defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from finegrade.text import jaccard, shingles


class NearCopy(NamedTuple):
    """When two texts are nearly the same: words of a shingle, and Jaccard similarity of their shingles, at least."""

    size: int
    similarity: float


NEAR_COPY = NearCopy(5, 0.5)
"""Loose: nothing that may copy an answer is a negative of its query, or in train where the answer is in test."""

SAME_NEGATIVE = NearCopy(3, 0.8)
"""Strict: two negatives of one sample count as one, though the LLM may change a few words from level to level."""


def are_nearly_the_same(left: str, right: str, rule: NearCopy = SAME_NEGATIVE) -> bool:
    """Whether two texts are near copies of each other."""
    return jaccard(shingles(left, rule.size), shingles(right, rule.size)) >= rule.similarity


class ShingleIndex:
    """Texts, to look up near copies in; only those that share a shingle with a text are compared with it."""

    def __init__(self, texts: Iterable[str] = (), rule: NearCopy = NEAR_COPY) -> None:
        self._rule = rule
        self._sizes: list[int] = []
        self._holders: defaultdict[int, list[int]] = defaultdict(list)  # by hash: the words would fill the memory
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Puts one more text into the index."""
        own = shingles(text, self._rule.size)
        for shingle in own:
            self._holders[hash(shingle)].append(len(self._sizes))
        self._sizes.append(len(own))

    def contains(self, text: str) -> bool:
        """Whether any text of the index is a near copy of this one."""
        own = shingles(text, self._rule.size)
        return any(
            both / (len(own) + self._sizes[number] - both) >= self._rule.similarity
            for number, both in self._shared(own).items()
        )

    def holding(self, text: str, share: float) -> list[int]:
        """Numbers of the texts that have at least this share of the text's shingles."""
        own = shingles(text, self._rule.size)
        return sorted(number for number, both in self._shared(own).items() if both >= share * len(own))

    def _shared(self, own: Iterable[tuple[str, ...]]) -> Counter[int]:
        """Number of a text -> how many of these shingles it has."""
        return Counter(number for shingle in own for number in self._holders.get(hash(shingle), ()))
