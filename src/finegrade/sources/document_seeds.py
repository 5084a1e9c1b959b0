"""From chunks and queries to seeds: written queries and the user's own, each on its chunk's side."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from finegrade.config import SourceConfig
from finegrade.errors import InputError
from finegrade.records import Chunk, Seed, WrittenQuery
from finegrade.sources.own_queries import OwnQuery, Side
from finegrade.sources.pairs import Pair
from finegrade.sources.splitting import NearDuplicates, Split, cap_train, merge
from finegrade.text import content_hash, normalised

HOLDS = 0.8
"""A chunk that has this share of a text's 5-word shingles holds the text."""


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
    asked = {normalised(query.query) for query in test} | {normalised(one.query) for one in own if not one.labelled}
    kept = [one for one in train if normalised(one.query) not in asked]
    counts = {"chunks": len(chunks), "written queries": len(written), "own queries": len(own)}
    counts |= {"own queries whose answer is not there": lost, "query also in test": len(train) - len(kept)}
    train = cap_train(kept, source.max_train, seed, counts)
    counts |= {"train": len(train), "test": len(test)}
    if not train or not test:
        remedy = "Raise queries.chunks, or give more documents."
        raise InputError("the source", got=f"{len(train)} train, {len(test)} test", wanted="both", remedy=remedy)
    groups = sorted({one.group for one in test})
    train += _only_searched((chunk for chunk in chunks if chunk.side == "train"), train)
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

    A query whose answer stands on both sides is a test query: the side decides for what it is used. A text that stands
    in no chunk is one more text to search.
    """
    by_path: defaultdict[str, list[Chunk]] = defaultdict(list)
    for chunk in chunks:
        by_path[chunk.path].append(chunk)
    index = NearDuplicates(chunk.text for chunk in chunks if any(one.positive for one in own))
    pairs: list[tuple[Side, Pair]] = []
    lost = 0
    for one in own:
        if not one.labelled:
            continue
        answers = [chunk for path in sorted(one.paths) for chunk in by_path.get(path, ())]
        if one.positive:
            answers += [chunks[number] for number in index.holding(one.positive, HOLDS)]
        if answers:
            # one answer that is held out holds the query out
            side: Side = one.side or ("test" if any(chunk.side == "test" for chunk in answers) else "train")
            pairs += [(side, _pair(one.query, chunk)) for chunk in answers if chunk.side == side]
        elif one.positive:
            drawn = int(content_hash(str(seed), one.query), 16) / 16**16
            side = one.side or ("test" if drawn < test_share else "train")
            pairs.append((side, Pair(query=one.query, positive=one.positive, group=one.query)))
        else:
            lost += 1
    return pairs, lost
