"""Negatives from the corpus: bands of ranks for the harder levels, another group at random for the easiest."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import count, islice
from pathlib import Path
from typing import Literal, NamedTuple, Protocol

from finegrade.errors import InputError
from finegrade.models.resolve import model_identity
from finegrade.models.scorers import SCORING, OnnxBiEncoder, TorchBiEncoder, load_scorer
from finegrade.records import Negative, Seed, Source
from finegrade.retrieval.bm25 import BM25
from finegrade.retrieval.dense import DenseIndex
from finegrade.text import jaccard, normalised, shingles

LAST_RANKS = {
    2: (5,),
    3: (5, 200),
    4: (5, 30, 200),
    5: (5, 15, 60, 200),
    6: (5, 12, 30, 80, 200),
    7: (5, 10, 20, 40, 90, 200),
    8: (5, 9, 16, 30, 55, 100, 200),
}
"""Number of levels -> last rank of each band that mined negatives are drawn from, hardest level first; no band is
left for level 1."""

NEAR_COPY = 0.5
"""Jaccard of 5-word shingles with a positive from which a corpus text is no negative but a copy."""

LOOKED_AHEAD = 2_000
"""Negatives are asked for so many at a time: a bi-encoder's file is read once for all of their queries."""


class Ranking(Protocol):
    """An index of texts that can be searched."""

    def rank(self, queries: Sequence[str], depth: int) -> Sequence[Sequence[int]]:
        """Numbers of at most ``depth`` texts for each query, best first; the same whatever else is asked.

        A text that the index knows no more of than that it is there has no rank.
        """


Index = Callable[[Sequence[str]], Ranking]
"""Texts -> what searches them."""


class Wanted(NamedTuple):
    """What negatives are wanted for.

    Attributes:
        seed: Whose query they are negatives for.
        sources: Level -> "random", or else mined in the level's rank band (level 1: in the farthest one). None: level 1
            random, all others mined.
        turn: Draws others: a seed with several positives is several samples.
    """

    seed: Seed
    sources: Mapping[int, Source] | None = None
    turn: int = 0


class Miner:
    """Draws graded negatives for a seed from the positives of all the other seeds.

    What is drawn for a seed depends on nothing that was drawn before, nor on what is asked beside it.

    Args:
        seeds: The training seeds, with and without a query; their texts are the corpus.
        seed: Of the draws within a band.
        levels: How many there are.
        index: What the corpus is searched with.

    Attributes:
        set_aside: Why texts in a band were passed over, counted.
    """

    def __init__(self, seeds: Iterable[Seed], seed: int, levels: int = 4, index: Index = BM25) -> None:
        seeds = list(seeds)
        self._texts = [text for one in seeds for text in one.positives]
        self._owners = [one for one in seeds for _ in one.positives]  # of each text its seed
        self._seed, self._levels = seed, levels
        lasts = LAST_RANKS[levels]
        self._bands = {levels - i: ((0, *lasts)[i], last) for i, last in enumerate(lasts)}
        self._ranking = index(self._texts)
        self.set_aside: Counter[str] = Counter()

    def negatives(self, seed: Seed, sources: Mapping[int, Source] | None = None, turn: int = 0) -> list[Negative]:
        """Those of one seed. See `negatives_of`."""
        return next(self.negatives_of([Wanted(seed, sources, turn)]))

    def negatives_of(self, wanted: Iterable[Wanted]) -> Iterator[list[Negative]]:
        """For each of them one negative a level, where the corpus has one, hardest first.

        A level stays empty whose band has no text: where the query shares words with a few texts only, or with none,
        what is left is no harder than a random one.

        A text of the same query, of the positive's own section of a document, or nearly equal to one of the query's
        positives, is never drawn.

        Args:
            wanted: What for; read some thousand at a time.
        """
        left = iter(wanted)
        while some := list(islice(left, LOOKED_AHEAD)):
            queries = list(dict.fromkeys(one.seed.query for one in some))
            rankings = self._ranking.rank(queries, LAST_RANKS[self._levels][-1])
            ranked = dict(zip(queries, rankings, strict=True))
            yield from (self._drawn(*one, ranked[one.seed.query]) for one in some)

    def _drawn(
        self, seed: Seed, sources: Mapping[int, Source] | None, turn: int, ranked: Sequence[int]
    ) -> list[Negative]:
        dice = random.Random(f"{self._seed}/{seed.id}/{turn}")
        own = [shingles(text) for text in seed.positives]
        taken: set[str] = set()
        negatives = []
        for level in range(self._levels, 0, -1):
            source: Source = "random" if (sources or {1: "random"}).get(level) == "random" else "mined"
            numbers = self._elsewhere(seed.group, dice) if source == "random" else self._band(ranked, level, dice)
            text = self._draw(numbers, seed, own, taken)
            if text:
                negatives.append(Negative(text=text, level=level, source=source))
        return negatives

    def _band(self, ranked: Sequence[int], level: int, dice: random.Random) -> list[int]:
        before, last = self._bands[max(level, 2)]
        band = list(ranked[before:last])
        return dice.sample(band, len(band))

    def _elsewhere(self, group: str, dice: random.Random, tries: int = 50) -> list[int]:
        drawn = [dice.randrange(len(self._texts)) for _ in range(tries)]
        return [number for number in drawn if self._owners[number].group != group] or drawn

    def _draw(
        self, numbers: Sequence[int], seed: Seed, own: list[frozenset[tuple[str, ...]]], taken: set[str]
    ) -> str | None:
        """The first of the texts that is no positive, no copy of one, and not taken by another level."""
        query = normalised(seed.query)
        for number in numbers:
            text, owner = self._texts[number], self._owners[number]
            if normalised(owner.query) == query or text in taken:
                continue
            if owner.section and owner.section == seed.section:
                self.set_aside["mined: from the positive's own section"] += 1
                continue
            if any(jaccard(shingles(text), positive) >= NEAR_COPY for positive in own):
                self.set_aside["mined: near-copy of the positive"] += 1
                continue
            taken.add(text)
            return text
        return None


RANK_CONSTANT = 60
"""The authors' own: how little the first ranks count above those behind them."""


class Fused:
    """BM25 and a bi-encoder over the same texts.

    Args:
        lexical: The one.
        dense: The other.
    """

    def __init__(self, lexical: BM25, dense: DenseIndex) -> None:
        self._lexical, self._dense = lexical, dense

    def rank(self, queries: Sequence[str], depth: int) -> list[list[int]]:
        """Numbers of the texts for each query, best first; texts without a word of the query have no lexical rank.

        Args:
            queries: What is searched for.
            depth: At most so many for each, and of each of the two.
        """
        if not queries:
            return []
        by_words = self._lexical.rank(queries, depth)
        return [fused(pair, depth) for pair in zip(by_words, self._dense.rank(queries, depth), strict=True)]


def fused(rankings: Iterable[Sequence[int]], depth: int) -> list[int]:
    """The numbers with the highest sums of 1 / (60 + rank), of equal sums the lower number.

    Args:
        rankings: Of numbers, best first, each at most once.
        depth: At most so many.
    """
    sums: defaultdict[int, float] = defaultdict(float)
    for ranking in rankings:
        for rank, number in enumerate(ranking, start=1):
            sums[number] += 1 / (RANK_CONSTANT + rank)
    return sorted(sums, key=lambda number: (-sums[number], number))[:depth]


MAX_LENGTH = 192
"""Tokens of a text that the bi-encoder reads."""


Kind = Literal["bm25", "dense", "both"]


def index_identity(kind: Kind, model: str) -> str:
    """Names what an index finds: one that may find other texts has another.

    Args:
        kind, model: As ``index_of`` takes them.
    """
    return "matching texts" if kind == "bm25" else f"{model_identity(model)} {MAX_LENGTH} {SCORING}"


def index_of(kind: Kind, model: str, folder: Path) -> Index:
    """What makes an index of texts.

    Args:
        kind: Search by words, by meaning, or by both, as one ranking.
        model: The bi-encoder's name: of the catalogue, a local folder, or a Hugging Face id.
        folder: For its vectors: of the n-th corpus that is indexed in ``folder/n``, where the next run finds them.

    Raises:
        InputError: There is no such model, or it is no bi-encoder.
    """
    if kind == "bm25":
        return BM25
    embedder = load_bi_encoder(model)
    made_for, numbers = index_identity(kind, model), count()

    def dense(texts: Sequence[str]) -> DenseIndex:
        return DenseIndex(texts, embedder, folder / str(next(numbers)), made_for, len(texts))

    if kind == "dense":
        return dense
    return lambda texts: Fused(BM25(texts), dense(texts))


def load_bi_encoder(name: str) -> OnnxBiEncoder | TorchBiEncoder:
    """Loads what embeds the corpus.

    Args:
        name: Of the catalogue, a local folder, or a Hugging Face id.

    Raises:
        InputError: There is no such model, or it is no bi-encoder.
    """
    model = load_scorer(name, MAX_LENGTH)
    if isinstance(model, OnnxBiEncoder | TorchBiEncoder):
        return model
    remedy = 'Name a bi-encoder, or set synthesis.miner = "bm25".'
    raise InputError(f"synthesis.miner_model {name}", got="a cross-encoder", wanted="a bi-encoder", remedy=remedy)
