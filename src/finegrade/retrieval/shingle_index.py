"""Which of a sample's texts are nearly the same, without comparing each with each."""

from collections import Counter, defaultdict

from finegrade.text import jaccard, shingles

SAME = 0.8
"""Jaccard of 3-word shingles from which two negatives of a sample are one."""


def are_nearly_the_same(left: str, right: str) -> bool:
    """Whether two texts cannot be two negatives of one sample."""
    return jaccard(shingles(left, 3), shingles(right, 3)) >= SAME


class NearCopies:
    """Texts, of which others may be near copies: two that cannot be two negatives of one sample.

    What it finds is what `are_nearly_the_same` says of the text and each that was added; only those are
    looked at that share a run of words with it.
    """

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._holders: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)

    def add(self, text: str) -> None:
        """Takes a text."""
        runs = shingles(text, 3)
        for run in runs:
            self._holders[run].append(len(self._sizes))
        self._sizes.append(len(runs))

    def has_one_of(self, text: str) -> bool:
        """Whether a text that was added is nearly this one."""
        runs = shingles(text, 3)
        shared = Counter(place for run in runs for place in self._holders.get(run, ()))
        return any(number / (len(runs) + self._sizes[place] - number) >= SAME for place, number in shared.items())
