"""Sibling queries: real queries that are near to a query and yet ask for something else."""

import random
from collections import Counter, defaultdict
from collections.abc import Sequence

from finegrade.records import Seed
from finegrade.text import content_words

MIN_JACCARD, MAX_JACCARD, MIN_DIFFERENT = 0.25, 0.8, 2
"""Of content words. Nearer ones are the same question in other words, farther ones another topic."""


def to_change(query: str, positive: str, sibling: str) -> frozenset[str]:
    """Words of a positive that belong to its query and not to the sibling: what a rewritten text must not say."""
    return (content_words(query) & content_words(positive)) - content_words(sibling)


class Siblings:
    """Finds the nearest sibling of a seed's query.

    Args:
        seeds: The training seeds; those without a query are passed over.
        within_groups: Whether a sibling must be of the same group. Seeds that are alone in theirs look among each
            other.
    """

    def __init__(self, seeds: Sequence[Seed], within_groups: bool = True) -> None:
        seeds = [seed for seed in seeds if seed.query]
        sizes = Counter(seed.group for seed in seeds)
        self._pool = {seed.id: seed.group if within_groups and sizes[seed.group] > 1 else "" for seed in seeds}
        self._positives = {seed.id: frozenset(seed.positives) for seed in seeds}
        self._words = {seed.id: content_words(seed.query) for seed in seeds}
        self._queries = {seed.id: seed.query for seed in seeds}
        self._places: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for seed in seeds:
            for word in self._words[seed.id]:
                self._places[self._pool[seed.id], word].append(seed.id)

    def nearest(self, seed: Seed) -> str | None:
        """The query of highest Jaccard within bounds that another text answers; None where there is none."""
        own = self._words[seed.id]
        shared = Counter(other for word in own for other in self._places[self._pool[seed.id], word])
        del shared[seed.id]
        best = (0.0, "")
        for other, both in shared.items():
            union = len(own) + len(self._words[other]) - both
            near = both / union
            if self._positives[other] & self._positives[seed.id]:
                continue
            if MIN_JACCARD <= near <= MAX_JACCARD and union - both >= MIN_DIFFERENT:
                best = max(best, (near, self._queries[other]))
        return best[1] or None


def find_siblings(
    seeds: Sequence[Seed], max_chars: int, seed: int, within_groups: bool = True
) -> list[tuple[Seed, str]]:
    """Seeds worth rewriting, each with the real query that the text shall answer, in the order to ask for them.

    The positive must hold words that belong to the query and not to the sibling: else there is
    nothing in it to change, and a small model copies. Those that hold most come first.

    Args:
        seeds: All train seeds; siblings are found among them.
        max_chars: Of a positive that is rewritten.
        seed: Of the order among equals.
        within_groups: Whether a sibling must be of the same group.
    """
    seeds = [seed for seed in seeds if seed.query]
    siblings = Siblings(seeds, within_groups)
    order = random.Random(seed).sample(list(seeds), len(seeds))
    found = []
    for one in order:
        positive = one.positives[0]
        sibling = siblings.nearest(one) if len(positive) <= max_chars else None
        if sibling is not None:
            words = to_change(one.query, positive, sibling)
            if words:
                found.append((len(words), one, sibling))
    found.sort(key=lambda entry: -entry[0])
    return [(one, sibling) for _, one, sibling in found]
