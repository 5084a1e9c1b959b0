"""Retrieval metrics per query, and paired bootstrap intervals. The definitions."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from finegrade.evaluation.sts import spearman

Scores = NDArray[np.float64]
"""One value a query: [queries]."""

METRICS = ("nDCG@10", "Recall@1", "MRR")
DEPTH = 100
"""Ranks looked at; a positive further down counts as not found."""

JUDGED_DEPTH = 10
"""Ranks that are judged for the user's unlabelled queries."""


def retrieval_metrics(rankings: Sequence[Sequence[int]], relevant: Sequence[frozenset[int]]) -> dict[str, Scores]:
    """nDCG@10, Recall@1 and MRR of every query, [queries], with binary relevance.

    A ranking has indices of documents, best first; 100 of them count. Each query has at least one relevant document.
    Recall@1 is the share of a query's positives at rank 1, so 1/n at best where it has n.
    """
    values: dict[str, list[float]] = {name: [] for name in METRICS}
    for ranking, positives in zip(rankings, relevant, strict=True):
        ranks = [rank for rank, document in enumerate(ranking[:DEPTH], 1) if document in positives]
        gain = sum(1 / np.log2(rank + 1) for rank in ranks if rank <= 10)
        ideal = sum(1 / np.log2(rank + 1) for rank in range(1, min(10, len(positives)) + 1))
        values["nDCG@10"].append(float(gain / ideal))
        values["Recall@1"].append((ranks[:1] == [1]) / len(positives))
        values["MRR"].append(1 / ranks[0] if ranks else 0.0)
    return {name: np.array(column) for name, column in values.items()}


@dataclass(frozen=True)
class Interval:
    """An estimate with its bootstrap interval."""

    value: float
    low: float
    high: float


class Bootstrap(NamedTuple):
    """How intervals are drawn: the number of draws, the confidence (0.95), the seed."""

    resamples: int
    confidence: float
    seed: int


def bootstrap_interval(statistic: Callable[[NDArray[np.int64]], float], size: int, bootstrap: Bootstrap) -> Interval:
    """Percentile bootstrap interval of a statistic over ``size`` resampled items.

    The statistic takes the indices of the drawn items, [size]. For a paired difference it reads both sides there.
    """
    generator = np.random.default_rng(bootstrap.seed)
    drawn = [statistic(generator.integers(0, size, size)) for _ in range(bootstrap.resamples)]
    tail = (1 - bootstrap.confidence) / 2
    low, high = np.quantile(drawn, [tail, 1 - tail])
    return Interval(statistic(np.arange(size)), float(low), float(high))


def mean_interval(values: Scores, bootstrap: Bootstrap) -> Interval:
    """The mean of one value a query, with its interval."""
    return bootstrap_interval(lambda drawn: float(values[drawn].mean()), len(values), bootstrap)


def spearman_interval(
    sides: Sequence[NDArray[np.float64]], gold: NDArray[np.float64], bootstrap: Bootstrap
) -> Interval:
    """One model's correlation, or the difference of two on the same pairs, with its interval."""

    def statistic(drawn: NDArray[np.int64]) -> float:
        values = [spearman(side[drawn], gold[drawn]) for side in sides]
        return values[0] - values[1] if len(values) == 2 else values[0]

    return bootstrap_interval(statistic, len(gold), bootstrap)
