"""From pairs to seeds: equal queries become one, groups are split, and what test holds leaves train.

Order matters: groups are split first, so that near-duplicates can only cross the border between train and test in
one direction, and it is always train that gives way.
"""

import random
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
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
        test_groups: What is held out.
        test_queries: Where the test queries come from, if it must be told with every score.
    """

    train: list[Seed]
    test: list[Seed]
    counts: dict[str, int]
    corpus_hash: str
    test_groups: list[str] = field(default_factory=list)
    test_queries: str = ""


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
    sizes = {group: len(members) for group, members in by_group.items()}
    held_out = choose_groups(sizes, test_groups, test_share, seed)
    test = merge([pair for pair in unique if pair.group in held_out])
    train = merge([pair for pair in unique if pair.group not in held_out])
    merged = len(read) - sum(len(s.positives) for s in (*test, *train))
    counts = {"pairs": len(read), "queries": len(train) + len(test), "repeats": merged}
    train, dropped = without_test_data(train, test)
    counts |= dropped
    train = cap_train(train, max_train, seed, counts)
    counts |= {"train": len(train), "test": len(test)}
    if not train or not test:
        remedy = "Give pairs of at least two groups, with different texts, or hold out fewer (source.test_share)."
        raise InputError("the source", got=f"{len(train)} train, {len(test)} test", wanted="both", remedy=remedy)
    digest = content_hash(*(s.id for s in train), "|", *(s.id for s in test))
    return Split(train, test, counts, digest, sorted(held_out))


def choose_groups(sizes: Mapping[str, int], named: Sequence[str], share: float, seed: int) -> set[str]:
    """The groups to hold out: those that are named, else groups drawn until they hold ``share`` of all.

    Args:
        sizes: Group -> number of its members.
        named: The user's choice; empty to draw.
        share: In (0, 1).
        seed: Of the draw.

    Raises:
        InputError: A named group is not there.
    """
    for group in named:
        if group not in sizes:
            some = ", ".join(sorted(sizes, key=lambda g: -sizes[g])[:10])
            wanted = f"a group that is there ({some}, …)"
            raise InputError("source.test_groups", got=group, wanted=wanted, remedy="Name another.")
    if named:
        return set(named)
    order = sorted(sizes)
    random.Random(seed).shuffle(order)
    wanted_size = share * sum(sizes.values())
    drawn: set[str] = set()
    taken = 0
    for group in order:
        if taken < wanted_size and taken + sizes[group] <= 2 * wanted_size:  # one that takes far too much stays
            drawn.add(group)
            taken += sizes[group]
    return drawn or set(sorted(order, key=lambda group: sizes[group])[:1])


def cap_train(train: list[Seed], limit: int, seed: int, counts: dict[str, int]) -> list[Seed]:
    """At most ``limit`` seeds, drawn; how many went is counted."""
    if len(train) <= limit:
        return train
    counts["over max_train"] = len(train) - limit
    return sorted(random.Random(seed).sample(train, limit), key=lambda s: s.id)


def merge(pairs: Sequence[Pair]) -> list[Seed]:
    """Equal queries become one seed with all their positives; equal texts count once."""
    merged: dict[str, tuple[Pair, dict[str, str]]] = {}
    for pair in pairs:
        _, positives = merged.setdefault(normalised(pair.query), (pair, {}))
        positives.setdefault(normalised(pair.positive), pair.positive)
    seeds = []
    for first, positives in merged.values():
        texts = tuple(positives.values())
        number = content_hash(first.query, *texts)
        seeds.append(Seed(id=number, query=first.query, positives=texts, group=first.group, section=first.section))
    return sorted(seeds, key=lambda s: s.id)


def without_test_data(
    train: Sequence[Seed], test: Sequence[Seed], more_queries: Iterable[str] = ()
) -> tuple[list[Seed], dict[str, int]]:
    """The train seeds without those whose query, or nearly whose text, is in test; and how many went, by reason.

    Args:
        train: What gives way.
        test: What stays.
        more_queries: Others that are tested with.
    """
    queries = {normalised(seed.query) for seed in test} | {normalised(query) for query in more_queries}
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
    """Answers whether a text is nearly one of a set of texts: Jaccard of 5-word shingles.

    Args:
        texts: The set.
        threshold: Jaccard from which two texts count as near-duplicates.
    """

    def __init__(self, texts: Iterable[str] = (), threshold: float = NEAR_DUPLICATE) -> None:
        self._threshold = threshold
        self._sizes: list[int] = []
        self._places: defaultdict[int, list[int]] = defaultdict(list)  # by hash: the words would fill the memory
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Puts one more text into the set."""
        own = shingles(text)
        for shingle in own:
            self._places[hash(shingle)].append(len(self._sizes))
        self._sizes.append(len(own))

    def contains(self, text: str) -> bool:
        """Whether any text of the set is a near-duplicate of this one."""
        own = shingles(text)
        shared = self._shared(own)
        return any(both / (len(own) + self._sizes[number] - both) >= self._threshold for number, both in shared.items())

    def holding(self, text: str, share: float) -> list[int]:
        """Numbers of the texts that have at least this share of the text's shingles."""
        own = shingles(text)
        return sorted(number for number, both in self._shared(own).items() if both >= share * len(own))

    def _shared(self, own: Iterable[tuple[str, ...]]) -> Counter[int]:
        """Text -> how many of these shingles it has."""
        return Counter(number for shingle in own for number in self._places.get(hash(shingle), ()))
