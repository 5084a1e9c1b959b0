"""Negatives from the corpus: bands of ranks for the harder levels, another group at random for the easiest."""

import random
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import count, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple, Protocol, get_args

from finegrade.errors import InputError, unknown_name
from finegrade.models.resolve import model_identity
from finegrade.models.scorers import SCORING, load_bi_encoder
from finegrade.records import LeftOut, Negative, Sample, Seed, Source
from finegrade.retrieval.bm25 import BM25
from finegrade.retrieval.dense import DenseIndex
from finegrade.retrieval.shingle_index import ShingleIndex, are_nearly_the_same
from finegrade.rows import Result, Rows, as_samples, as_texts
from finegrade.text import content_hash, normalised

MinerName = Literal["bm25", "dense", "both"]

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

LOOKED_AHEAD = 2_000  # queries that are searched together: a bi-encoder's file is read once for all of them
MAX_LENGTH = 192  # tokens of a text that the bi-encoder reads
RANK_CONSTANT = 60
"""Of reciprocal rank fusion (Cormack et al., 2009): how little the first ranks count above those behind them."""


class Ranking(Protocol):
    """An index of texts that can be searched."""

    def rank(self, queries: Sequence[str], depth: int) -> Sequence[Sequence[int]]:
        """Numbers of at most ``depth`` texts that share something with each query, best first."""


Index = Callable[[Sequence[str]], Ranking]
"""Texts -> what searches them; what it finds for a query does not depend on the others."""


class Wanted(NamedTuple):
    """What negatives are wanted for.

    Attributes:
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

    The texts of ``seeds`` are the corpus; those without a query are only searched. ``seed`` is that of the draws.
    """

    def __init__(self, seeds: Iterable[Seed], seed: int, levels: int = 4, index: Index = BM25) -> None:
        seeds = list(seeds)
        self._texts = [text for one in seeds for text in one.positives]
        self._owners = [one for one in seeds for _ in one.positives]  # of each text its seed
        self._seed, self._levels = seed, levels
        lasts = LAST_RANKS[levels]
        self._bands = {levels - i: ((0, *lasts)[i], last) for i, last in enumerate(lasts)}
        self._ranking = index(self._texts)
        self.set_aside: Counter[str] = Counter()  # texts in a band that were passed over, by reason

    def negatives(self, seed: Seed, sources: Mapping[int, Source] | None = None, turn: int = 0) -> list[Negative]:
        """The negatives of one seed. See `negatives_of`."""
        return next(self.negatives_of([Wanted(seed, sources, turn)]))

    def negatives_of(self, wanted: Iterable[Wanted]) -> Iterator[list[Negative]]:
        """Yields for each of them one negative a level, hardest first; a level whose band has no text stays empty.

        Never drawn: a text of the same query, of the positive's own section of a document, or one that is nearly one of
        the query's positives. ``wanted`` is read some thousand at a time.
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
        own = ShingleIndex(seed.positives)
        taken: set[str] = set()
        negatives = []
        for level in range(self._levels, 0, -1):
            source: Source = "random" if (sources or {1: "random"}).get(level) == "random" else "mined"
            if source == "random":
                drawn = [dice.randrange(len(self._texts)) for _ in range(50)]
                numbers = [number for number in drawn if self._owners[number].group != seed.group] or drawn
            else:
                before, last = self._bands[max(level, 2)]
                numbers = dice.sample(band := list(ranked[before:last]), len(band))
            text = self._draw(numbers, seed, own, taken)
            if text:
                negatives.append(Negative(text=text, level=level, source=source))
        return negatives

    def _draw(self, numbers: Sequence[int], seed: Seed, own: ShingleIndex, taken: set[str]) -> str | None:
        """The first of the texts that is no positive, no copy of one, and not taken by another level."""
        query = normalised(seed.query)
        for number in numbers:
            text, owner = self._texts[number], self._owners[number]
            if normalised(owner.query) == query or text in taken:
                continue
            if owner.section and owner.section == seed.section:
                self.set_aside["mined: from the positive's own section"] += 1
            elif own.contains(text):
                self.set_aside["mined: near-copy of the positive"] += 1
            else:
                taken.add(text)
                return text
        return None


class Fused:
    """BM25 and a bi-encoder over the same texts, as one ranking."""

    def __init__(self, lexical: BM25, dense: DenseIndex) -> None:
        self._both = lexical, dense

    def rank(self, queries: Sequence[str], depth: int) -> list[list[int]]:
        """Numbers of at most ``depth`` texts for each query, best first, from as many of each of the two."""
        rankings = [index.rank(queries, depth) for index in self._both] if queries else []
        return [fused(pair, depth) for pair in zip(*rankings, strict=True)]


def fused(rankings: Iterable[Sequence[int]], depth: int) -> list[int]:
    """The ``depth`` numbers with the highest sums of 1 / (60 + rank), of equal sums the lower number."""
    sums: defaultdict[int, float] = defaultdict(float)
    for ranking in rankings:
        for rank, number in enumerate(ranking, start=1):
            sums[number] += 1 / (RANK_CONSTANT + rank)
    return sorted(sums, key=lambda number: (-sums[number], number))[:depth]


def index_identity(kind: MinerName, model: str) -> str:
    """Names what an index finds: one that may find other texts has another name."""
    return "matching texts" if kind == "bm25" else f"{model_identity(model)} {MAX_LENGTH} {SCORING}"


def index_of(kind: MinerName, model: str, folder: Path) -> Index:
    """What makes an index of texts.

    A bi-encoder's vectors of the n-th corpus that is indexed are in ``folder/n``, where the next run finds them.
    """
    if kind == "bm25":
        return BM25
    embedder = load_bi_encoder(model, MAX_LENGTH)
    made_for, numbers = index_identity(kind, model), count()

    def dense(texts: Sequence[str]) -> DenseIndex:
        return DenseIndex(texts, embedder, folder / str(next(numbers)), made_for, len(texts))

    return dense if kind == "dense" else lambda texts: Fused(BM25(texts), dense(texts))


@dataclass(frozen=True)
class Mined(Result[Sample]):
    """Samples with mined negatives.

    Attributes:
        passed_over: How many texts that the search found were no negatives, by reason.
        empty_levels: Level -> how many of the samples have no negative of it.
    """

    passed_over: Mapping[str, int]
    empty_levels: Mapping[int, int]


def mine_negatives(
    rows: Rows,
    corpus: Any = None,
    *,
    miner: MinerName = "bm25",
    model: str = "bge-small-en",
    levels: int = 4,
    seed: int = 0,
    folder: Path | str | None = None,
) -> Mined:
    """Gives each (query, positive) negatives at graded levels, from bands of ranks of a search for the query.

    Level 1 is a random text. Negatives that a row has already stay; only levels that it lacks are mined.

    Args:
        rows: Queries with positives; see `finegrade.rows.Rows`.
        corpus: Texts to draw from: a list, id -> text, or rows with a column "text". None: all positives.
        miner: "bm25", by words; "dense", by the vectors of a bi-encoder; "both", by the sum of reciprocal ranks.
        model: The bi-encoder: a catalogue name, a local folder or a Hugging Face id.
        levels: How many, 2 to 8; the highest is the hardest.
        seed: Of the draws.
        folder: For the bi-encoder's vectors, where the next call finds them; temporary by default.

    Returns:
        A sample a row, and what was left out: repeated rows, and rows for which the corpus has no negative.

    Raises:
        InputError: A row has no query or positive, an argument makes no sense, or the model cannot be had.

    Examples:
        >>> from finegrade import mine_negatives
        >>> rows = [{"query": "capital of France", "positive": "Paris, on the Seine, is the capital."}]
        >>> mined = mine_negatives(rows, corpus=["Lyon is a city in France.", "Bread is baked."], levels=2)
        >>> [(negative.level, negative.text) for negative in mined.kept[0].negatives]
        [(1, 'Bread is baked.'), (2, 'Lyon is a city in France.')]
    """
    if miner not in get_args(MinerName):
        raise unknown_name("miner", miner, get_args(MinerName))
    if levels not in LAST_RANKS:
        known = f"{min(LAST_RANKS)} to {max(LAST_RANKS)}"
        raise InputError("levels", got=levels, wanted=known, remedy="Give another number.")
    left_out: list[LeftOut] = []
    samples: dict[str, Sample] = {}
    for sample in as_samples(rows):
        if sample.id in samples:
            left_out.append(_left_out(sample, "repeats an earlier row"))
        samples.setdefault(sample.id, sample)
    wanted = _wanted(samples.values())
    searched = [one.seed for one in wanted if not one.turn] if corpus is None else _text_seeds(corpus)
    if not searched:
        raise InputError("the corpus", got="no text", wanted="texts to draw from", remedy="Give rows, or a corpus.")
    kept = []
    with TemporaryDirectory() as temporary:
        drawer = Miner(searched, seed, levels, index_of(miner, model, Path(folder or temporary)))
        for sample, mined in zip(samples.values(), drawer.negatives_of(wanted), strict=True):
            negatives = fill_levels(sample.negatives, mined)
            if negatives:
                kept.append(sample.model_copy(update={"negatives": negatives}))
            else:
                left_out.append(_left_out(sample, "no negative in the corpus"))
    filled = Counter(level for one in kept for level in {negative.level for negative in one.negatives})
    empty = {level: len(kept) - filled[level] for level in range(levels, 0, -1)}
    return Mined(kept, left_out, dict(drawer.set_aside), empty)


def fill_levels(own: Sequence[Negative], mined: Iterable[Negative]) -> tuple[Negative, ...]:
    """Negatives, and mined ones of the levels that they lack, as far as those are other texts; easiest first."""
    taken = {negative.level for negative in own}
    lacking = (one for one in mined if one.level not in taken)
    filled = (one for one in lacking if not any(are_nearly_the_same(one.text, other.text) for other in own))
    return tuple(sorted((*filled, *own), key=lambda negative: negative.rank))


def _wanted(samples: Iterable[Sample]) -> list[Wanted]:
    """One for each sample, in order; those of equal queries are turns of one seed with all their positives."""
    samples = list(samples)
    of_query: defaultdict[str, list[Sample]] = defaultdict(list)
    turns = []
    for sample in samples:
        alike = of_query[normalised(sample.query)]
        turns.append(len(alike))
        alike.append(sample)
    seeds = {}
    for key, alike in of_query.items():
        query, positives = alike[0].query, tuple(one.positive for one in alike)
        number = content_hash(query, *positives)
        seeds[key] = Seed(id=number, query=query, positives=positives, group=alike[0].group)
    return [Wanted(seeds[normalised(one.query)], None, turn) for one, turn in zip(samples, turns, strict=True)]


def _text_seeds(corpus: Any) -> list[Seed]:
    """Texts that are only searched; each is a group of its own."""
    texts = dict.fromkeys(as_texts(corpus, "corpus"))
    ids = ((content_hash("", text), text) for text in texts if text.strip())
    return [Seed(id=number, query="", positives=(text,), group=number) for number, text in ids]


def _left_out(sample: Sample, reason: str) -> LeftOut:
    return LeftOut(sample=sample.id, query=sample.query, positive=sample.positive, reason=reason, evidence="")
