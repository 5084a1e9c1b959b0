"""From pairs to seeds: equal queries become one, groups are split, and what test holds leaves train.

Order matters: groups are split first, so that near-duplicates can only cross the border between train and test in
one direction, and it is always train that gives way.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from finegrade.config import SourceConfig
from finegrade.data.pairs import Pair
from finegrade.data.user_queries import OwnQuery
from finegrade.errors import InputError
from finegrade.records import Chunk, Seed, Side, WrittenQuery
from finegrade.retrieval.shingle_index import ShingleIndex
from finegrade.text import content_hash, normalised


@dataclass(frozen=True)
class Split:
    """Train and test seeds, and how many pairs went where.

    Attributes:
        train: Seeds to write samples from.
        test: Seeds of other groups; the corpus they search is all of their positives.
        counts: Pairs read, merged, dropped (by reason) and kept.
        corpus_hash: Names the texts of both sides; tables carry it.
        test_groups: What is held out.
        test_queries: Where the test queries come from, if every score has to name it.
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
        pairs: In any order.
        test_groups: Groups to hold out; empty draws groups until ``test_share`` of the queries is held out.
        test_share: In (0, 1).
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
    remedy = "Give pairs of at least two groups, with different texts, or hold out fewer (source.test_share)."
    train = _capped(train, test, max_train, seed, counts, remedy)
    return Split(train, test, counts, _corpus_hash(train, test), sorted(held_out))


def choose_groups(sizes: Mapping[str, int], named: Sequence[str], share: float, seed: int) -> set[str]:
    """The groups to hold out, by their sizes: those the user named, else groups drawn until they hold ``share`` of all.

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


def _capped(
    train: list[Seed], test: Sequence[Seed], limit: int, seed: int, counts: dict[str, int], remedy: str
) -> list[Seed]:
    """At most ``limit`` train seeds, drawn, and counts; InputError where one side is empty."""
    if len(train) > limit:
        counts["over max_train"] = len(train) - limit
        train = sorted(random.Random(seed).sample(train, limit), key=lambda s: s.id)
    counts |= {"train": len(train), "test": len(test)}
    if not train or not test:
        raise InputError("the source", got=f"{len(train)} train, {len(test)} test", wanted="both", remedy=remedy)
    return train


def _corpus_hash(train: Sequence[Seed], test: Sequence[Seed]) -> str:
    return content_hash(*(s.id for s in train), "|", *(s.id for s in test))


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
    """The train seeds without those whose query, or nearly whose text, is tested with; how many went, by reason."""
    queries = {normalised(seed.query) for seed in test} | {normalised(query) for query in more_queries}
    index = ShingleIndex(text for seed in test for text in seed.positives)
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


HOLDS, HOLDS_A_PART = 0.8, 0.2
"""A chunk that has this share of a text's 5-word shingles holds the text, or a part of it."""


def seeds_from_documents(
    chunks: Sequence[Chunk], written: Sequence[WrittenQuery], own: Sequence[OwnQuery], source: SourceConfig, seed: int
) -> Split:
    """Seeds of both sides; those without a query carry the chunks that are only searched and mined.

    The user's labelled queries of the test side are the test where there are any; else the written ones are. Test
    queries search every chunk, those of the train side too. Negatives are mined from the train side alone.

    Raises:
        InputError: One side is left without queries.
    """
    pairs: dict[Side, list[Pair]] = {"train": [], "test": []}
    labelled, lost = labelled_pairs(own, chunks, source.test_share, seed)
    by_id = {chunk.id: chunk for chunk in chunks}
    for side, pair in labelled:
        pairs[side].append(pair)
    own_tests = bool(pairs["test"])
    for query in written:
        chunk = by_id[query.chunk]
        if chunk.side == "train" or not own_tests:
            pairs[chunk.side].append(_pair(query.query, chunk))
    test, train = merge(pairs["test"]), merge(pairs["train"])
    counts = {"chunks": len(chunks), "written queries": len(written), "own queries": len(own)}
    counts["own queries whose answer is not there"] = lost
    train, dropped = without_test_data(train, test, [one.query for one in own if not one.labelled])
    counts |= dropped
    train = _capped(train, test, source.max_train, seed, counts, "Raise queries.chunks, or give more documents.")
    groups = sorted({one.group for one in test})
    answers = {text for one in test for text in one.positives}
    train += _only_searched((c for c in chunks if c.side == "train" and c.text not in answers), train)
    test += _only_searched(chunks, test)
    test_queries = "labelled" if own_tests else "synthetic"
    return Split(train, test, counts, _corpus_hash(train, test), groups, test_queries)


def _only_searched(chunks: Iterable[Chunk], seeds: Sequence[Seed]) -> list[Seed]:
    there = {text for seed in seeds for text in seed.positives}
    return [
        Seed(
            id=content_hash("", chunk.text), query="", positives=(chunk.text,), group=chunk.group, section=chunk.section
        )
        for chunk in chunks
        if chunk.text not in there
    ]


def _pair(query: str, chunk: Chunk) -> Pair:
    return Pair(query=query, positive=chunk.text, group=chunk.group, section=chunk.section)


def labelled_pairs(
    own: Sequence[OwnQuery], chunks: Sequence[Chunk], test_share: float, seed: int
) -> tuple[list[tuple[Side, Pair]], int]:
    """The labelled queries as pairs, with their sides, and how many have an answer that is not there.

    A query with an answer on the test side is a test query, and all its answers are right ones, those of the train
    side too. A text that is whole in no chunk is one more text to search: on the side of the chunks that hold parts
    of it, else on a side drawn by the text, the same for all queries that it answers.
    """
    by_path: defaultdict[str, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        by_path[chunk.path].append(chunk)
    index = ShingleIndex(chunk.text for chunk in chunks) if any(one.positive for one in own) else ShingleIndex()
    pairs: list[tuple[Side, Pair]] = []
    lost = 0
    for one in own:
        if not one.labelled:
            continue
        answers = [chunk for path in sorted(one.paths) for chunk in by_path.get(path, ())]
        if one.positive:
            answers += [chunks[number] for number in index.holding(one.positive, HOLDS)]
        held_out = any(chunk.side == "test" for chunk in answers)
        side: Side = one.side or ("test" if held_out else "train")
        if answers and (side == "test" or not held_out):
            answers.sort(key=lambda chunk: chunk.side != "test")  # the seed has group and section of the first
            pairs += [(side, _pair(one.query, chunk)) for chunk in answers]
        elif not answers and one.positive:
            parts = [chunks[number] for number in index.holding(one.positive, HOLDS_A_PART)]
            drawn = int(content_hash(str(seed), normalised(one.positive)), 16) / 16**16 < test_share
            held_out = any(chunk.side == "test" for chunk in parts) if parts else drawn
            side = one.side or ("test" if held_out else "train")
            pairs.append((side, Pair(query=one.query, positive=one.positive, group=content_hash(one.positive))))
        else:
            lost += 1
    return pairs, lost
