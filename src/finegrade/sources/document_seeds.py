"""From chunks and queries to seeds: written queries and the user's own, each on its chunk's side."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from finegrade.config import SourceConfig
from finegrade.errors import InputError
from finegrade.records import Chunk, Seed, WrittenQuery
from finegrade.sources.own_queries import OwnQuery, Side
from finegrade.sources.pairs import Pair
from finegrade.sources.splitting import NearDuplicates, Split, cap_train, merge, without_test_data
from finegrade.text import content_hash, normalised

HOLDS, HOLDS_A_PART = 0.8, 0.2
"""A chunk that has this share of a text's 5-word shingles holds the text, or a part of it."""


def seeds_from_documents(
    chunks: Sequence[Chunk], written: Sequence[WrittenQuery], own: Sequence[OwnQuery], source: SourceConfig, seed: int
) -> Split:
    """Seeds of both sides; those without a query carry the chunks that are only searched and mined.

    The user's labelled queries of the test side are the test where there are any; else the written ones are. Test
    queries search every chunk, those of the train side too. Negatives are mined from the train side alone.

    Args:
        chunks: The working set.
        written: What the LLM wrote.
        own: The user's queries; the labelled ones are used here.
        source: Says how many queries to train on.
        seed: Of the draws.

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
    train = cap_train(train, source.max_train, seed, counts)
    counts |= {"train": len(train), "test": len(test)}
    if not train or not test:
        remedy = "Raise queries.chunks, or give more documents."
        raise InputError("the source", got=f"{len(train)} train, {len(test)} test", wanted="both", remedy=remedy)
    groups = sorted({one.group for one in test})
    answers = {text for one in test for text in one.positives}
    train += _only_searched((c for c in chunks if c.side == "train" and c.text not in answers), train)
    test += _only_searched(chunks, test)
    digest = content_hash(*(s.id for s in train), "|", *(s.id for s in test))
    return Split(train, test, counts, digest, groups, "labelled" if own_tests else "synthetic")


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
    side too. A text that stands whole in no chunk is one more text to search: on the side of the chunks that hold parts
    of it, else on a side drawn by the text, the same for all queries that it answers.
    """
    by_path: defaultdict[str, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        by_path[chunk.path].append(chunk)
    index = NearDuplicates(chunk.text for chunk in chunks) if any(one.positive for one in own) else NearDuplicates()
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
            side = one.side or _side_of_text(one.positive, parts, test_share, seed)
            pairs.append((side, Pair(query=one.query, positive=one.positive, group=content_hash(one.positive))))
        else:
            lost += 1
    return pairs, lost


def _side_of_text(text: str, parts: Sequence[Chunk], test_share: float, seed: int) -> Side:
    if parts:
        return "test" if any(chunk.side == "test" for chunk in parts) else "train"
    return "test" if int(content_hash(str(seed), normalised(text)), 16) / 16**16 < test_share else "train"
