"""Queries without labels: the texts that the rows find are pooled, and a cross-encoder judges the pool."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from finegrade.console import progress
from finegrade.evaluation.metrics import JUDGED_DEPTH, Scores
from finegrade.models.scorers import Scorer

JUDGED_METRIC = "judged nDCG@10"
ANSWERED = 0.1
"""A query counts as answered if some text of the pool has this relevance, of 1; the others say nothing about rows."""

Rankings = Mapping[str, Sequence[Sequence[int]]]
"""Row -> for each query the indices of the texts, best first."""


def pool(rankings: Rankings, queries: int) -> list[list[int]]:
    """For each query the indices of the texts that any row has among its first ten, sorted."""
    return [
        sorted({text for ranked in rankings.values() for text in ranked[query][:JUDGED_DEPTH]})
        for query in range(queries)
    ]


def judge_pool(
    pooled: Sequence[Sequence[int]], queries: Sequence[str], texts: Sequence[str], judge: Scorer
) -> list[dict[int, float]]:
    """For each query: index of a pooled text -> its relevance, 0 to 1, by a cross-encoder that gives logits."""
    pairs = [(query, texts[text]) for query, found in zip(queries, pooled, strict=True) for text in found]
    with progress("judging your own queries", len(pairs)) as meter:
        logits = []
        for logit in judge.scores(pairs):
            logits.append(logit)
            meter.advance()
    rest = iter(logits)
    return [{text: relevance(next(rest)) for text in found} for found in pooled]


def relevance(logit: float) -> float:
    """A cross-encoder's logit as a probability."""
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, logit))))


def judged_ndcg(rankings: Rankings, judged: Sequence[Mapping[int, float]]) -> dict[str, Scores]:
    """Row -> nDCG@10 of each answered query, the judge's relevance as gain; ideal is the best order of the pool."""
    answered = [query for query, gains in enumerate(judged) if max(gains.values(), default=0.0) >= ANSWERED]
    result = {}
    for name, ranked in rankings.items():
        values = []
        for query in answered:
            gains = judged[query]
            ideal = _dcg(sorted(gains.values(), reverse=True))
            values.append(_dcg([gains[text] for text in ranked[query][:JUDGED_DEPTH]]) / ideal)
        result[name] = np.array(values, dtype=np.float64)
    return result


def _dcg(gains: Sequence[float]) -> float:
    return float(sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains[:JUDGED_DEPTH], start=1)))
