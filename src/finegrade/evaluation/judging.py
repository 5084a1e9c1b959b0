"""The user's own queries without labels: what each row finds is pooled, and a cross-encoder judges the pool."""

import math
from collections.abc import Mapping, Sequence

import numpy as np

from finegrade.evaluation.metrics import Scores

DEPTH = 10
ANSWERED = 0.1
"""A query counts as answered if some text of the pool has this relevance, of 1; the others say nothing about rows."""

Rankings = Mapping[str, Sequence[Sequence[int]]]
"""Row -> for each query the numbers of the texts, best first."""


def pool(rankings: Rankings, queries: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
    """For each query the texts that any row has among its first ten, sorted."""
    return [
        sorted({number for ranked in rankings.values() for number in ranked[place][:DEPTH]})
        for place in range(len(queries))
    ]


def relevance(logit: float) -> float:
    """A cross-encoder's logit as a probability."""
    return 1 / (1 + math.exp(-max(-50.0, min(50.0, logit))))


def judged_ndcg(rankings: Rankings, judged: Sequence[Mapping[int, float]]) -> dict[str, Scores]:
    """nDCG@10 with the judge's relevance as gain; the ideal is the best order of the pool.

    Args:
        rankings: Of every row.
        judged: For each query, relevance by text number.

    Returns:
        Row -> [answered queries].
    """
    answered = [place for place, gains in enumerate(judged) if max(gains.values(), default=0.0) >= ANSWERED]
    result = {}
    for name, ranked in rankings.items():
        values = []
        for place in answered:
            gains = judged[place]
            ideal = _dcg(sorted(gains.values(), reverse=True))
            values.append(_dcg([gains[number] for number in ranked[place][:DEPTH]]) / ideal)
        result[name] = np.array(values, dtype=np.float64)
    return result


def _dcg(gains: Sequence[float]) -> float:
    return float(sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains[:DEPTH], start=1)))
