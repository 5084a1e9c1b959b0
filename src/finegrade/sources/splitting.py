"""From pairs to seeds: equal queries become one, groups are split, and what test holds leaves train.

Order matters: groups are split first, so that near-duplicates can only cross the border between train and test in
one direction, and it is always train that gives way.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from finegrade.errors import InputError
from finegrade.records import Seed
from finegrade.sources.pairs import Pair
from finegrade.text import content_hash, normalised, shingles

NEAR_DUPLICATE = 0.5
"""Jaccard of 5-word shingles from which two texts count as near-duplicates."""


@dataclass(frozen=True)
class Split:
    """Train and test seeds, and how many pairs went where.

    Attributes:
        train: Seeds to write samples from.
        test: Held-out seeds, of other groups; the corpus they search is all of their positives.
        counts: Pairs read, merged, dropped (by reason) and kept.
        corpus_hash: Names the texts of both sides; tables carry it.
    """

    train: list[Seed]
    test: list[Seed]
    counts: dict[str, int]
    corpus_hash: str
    test_groups: list[str] = field(default_factory=list)


def split_pairs(
    pairs: Iterable[Pair], test_groups: Sequence[str], test_share: float, max_train: int, seed: int
) -> Split:
    """Splits pairs by group, then takes from train what is equal or nearly equal to something in test.

    Args:
        pairs: The pairs, in any order.
        test_groups: Groups to hold out; empty draws groups until ``test_share`` of the queries is held out.
        test_share: Share of the queries to hold out, in (0, 1).
        max_train: At most this many train seeds, drawn with the seed.
        seed: Of the draws.

    Raises:
        InputError: A named group has no pairs, or one side is left empty.
    """
    read = list(pairs)
    unique = list(dict.fromkeys(read))
    by_group: defaultdict[str, list[Pair]] = defaultdict(list)
    for pair in unique:
        by_group[pair.group].append(pair)
    held_out = set(test_groups) or _draw_groups(by_group, test_share, seed)
    for group in held_out:
        if group not in by_group:
            some = ", ".join(sorted(by_group, key=lambda g: -len(by_group[g]))[:10])
            raise InputError(
                "source.test_groups", got=group, wanted=f"a group that has pairs ({some}, …)", remedy="Name another."
            )
    test = _merge([pair for pair in unique if pair.group in held_out])
    train = _merge([pair for pair in unique if pair.group not in held_out])
    merged = len(read) - sum(len(s.positives) for s in (*test, *train))
    counts = {"pairs": len(read), "queries": len(train) + len(test), "repeats": merged}
    train, dropped = _without_test_data(train, test)
    counts |= dropped
    if len(train) > max_train:
        counts["over max_train"] = len(train) - max_train
        train = sorted(random.Random(seed).sample(train, max_train), key=lambda s: s.id)
    counts |= {"train": len(train), "test": len(test)}
    if not train or not test:
        remedy = "Give pairs of at least two groups, with different texts."
        raise InputError("the source", got=f"{len(train)} train, {len(test)} test", wanted="both", remedy=remedy)
    digest = content_hash(*(s.id for s in train), "|", *(s.id for s in test))
    return Split(train, test, counts, digest, sorted(held_out))


def _draw_groups(by_group: dict[str, list[Pair]], share: float, seed: int) -> set[str]:
    order = sorted(by_group)
    random.Random(seed).shuffle(order)
    wanted = share * sum(map(len, by_group.values()))
    drawn: set[str] = set()
    taken = 0
    for group in order:
        size = len(by_group[group])
        if taken < wanted and taken + size <= 2 * wanted:  # a group that would take far too much stays in train
            drawn.add(group)
            taken += size
    return drawn or set(sorted(order, key=lambda group: len(by_group[group]))[:1])


def _merge(pairs: Sequence[Pair]) -> list[Seed]:
    """Equal queries become one seed with all their positives; equal texts count once."""
    merged: dict[str, tuple[Pair, dict[str, str]]] = {}
    for pair in pairs:
        _, positives = merged.setdefault(normalised(pair.query), (pair, {}))
        positives.setdefault(normalised(pair.positive), pair.positive)
    seeds = []
    for first, positives in merged.values():
        texts = tuple(positives.values())
        seeds.append(Seed(id=content_hash(first.query, *texts), query=first.query, positives=texts, group=first.group))
    return sorted(seeds, key=lambda s: s.id)


def _without_test_data(train: Sequence[Seed], test: Sequence[Seed]) -> tuple[list[Seed], dict[str, int]]:
    queries = {normalised(seed.query) for seed in test}
    index = NearDuplicates(text for seed in test for text in seed.positives)
    kept = []
    counts = {"query also in test": 0, "text nearly in test": 0}
    for seed in train:
        if normalised(seed.query) in queries:
            counts["query also in test"] += 1
        elif any(index.contains(text) for text in seed.positives):
            counts["text nearly in test"] += 1
        else:
            kept.append(seed)
    return kept, counts


class NearDuplicates:
    """Answers whether a text is nearly one of a set of texts: Jaccard of 5-word shingles, exact.

    Args:
        texts: The set.
        threshold: Jaccard from which two texts count as near-duplicates.
    """

    def __init__(self, texts: Iterable[str], threshold: float = NEAR_DUPLICATE) -> None:
        self._threshold = threshold
        self._sizes: list[int] = []
        self._places: defaultdict[tuple[str, ...], list[int]] = defaultdict(list)
        for number, text in enumerate(texts):
            own = shingles(text)
            self._sizes.append(len(own))
            for shingle in own:
                self._places[shingle].append(number)

    def contains(self, text: str) -> bool:
        """Whether any text of the set is a near-duplicate of this one."""
        own = shingles(text)
        shared: defaultdict[int, int] = defaultdict(int)
        for shingle in own:
            for number in self._places.get(shingle, ()):
                shared[number] += 1
        return any(both / (len(own) + self._sizes[number] - both) >= self._threshold for number, both in shared.items())
