"""The user's own queries without labels: what each row finds is pooled, and a cross-encoder judges the pool."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np

from finegrade.config import Config
from finegrade.console import progress
from finegrade.evaluation.metrics import JUDGED_DEPTH, Scores, mean_interval
from finegrade.evaluation.row_scores import load_test_set, unlabelled_queries
from finegrade.models.resolve import model_identity
from finegrade.models.scorers import SCORING, load_cross_encoder
from finegrade.storage.atomic import read_json
from finegrade.storage.run_folder import RunFolder

ANSWERED = 0.1
"""A query counts as answered if some text of the pool has this relevance, of 1; the others say nothing about rows."""

Rankings = Mapping[str, Sequence[Sequence[int]]]
"""Row -> for each query the numbers of the texts, best first."""


def pool(rankings: Rankings, queries: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
    """For each query the texts that any row has among its first ten, sorted."""
    return [
        sorted({number for ranked in rankings.values() for number in ranked[place][:JUDGED_DEPTH]})
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
            values.append(_dcg([gains[number] for number in ranked[place][:JUDGED_DEPTH]]) / ideal)
        result[name] = np.array(values, dtype=np.float64)
    return result


def _dcg(gains: Sequence[float]) -> float:
    return float(sum(gain / math.log2(rank + 1) for rank, gain in enumerate(gains[:JUDGED_DEPTH], start=1)))


JUDGED = "judged nDCG@10"


def judge_own(titles: dict[str, str], config: Config, run: RunFolder) -> dict[str, Any] | None:
    """nDCG@10 of every row on the user's unlabelled queries, judged by the cross-encoder; None where there are none."""
    queries = unlabelled_queries(config)
    if not queries:
        return None
    scorer = config.verification
    settings = {
        "scorers": [SCORING, *(model_identity(name) for name in scorer.models)],
        "length": scorer.max_length,
        "queries": queries,
    }
    settings |= {"evaluation": config.evaluation.model_dump(mode="json"), "seed": config.seed}
    with run.stage("score-own", settings, after=["seeds", *(f"score-{name}" for name in titles)]) as stage:
        if not stage.done:
            rankings = {name: read_json(run.path("scores", f"{name}-own.json")) for name in titles}
            texts = load_test_set(config, run).documents
            pooled = pool(rankings, queries, texts)
            pairs = [
                (query, texts[number]) for query, numbers in zip(queries, pooled, strict=True) for number in numbers
            ]
            judge = load_cross_encoder(scorer.models, scorer.max_length)
            with progress("judging your own queries", len(pairs)) as meter:
                logits = []
                for logit in judge.scores(pairs):
                    logits.append(logit)
                    meter.advance()
            left = iter(logits)
            judged = [{number: relevance(next(left)) for number in numbers} for numbers in pooled]
            values = judged_ndcg(rankings, judged)
            draws = (config.evaluation.resamples, config.evaluation.confidence, config.seed)
            answered = len(next(iter(values.values())))
            rows = [
                {"name": name, "title": titles[name], "scores": {JUDGED: asdict(mean_interval(found, *draws))}}
                for name, found in values.items()
                if answered
            ]
            stage.finish([], {"queries": len(queries), "answered": answered, "rows": rows})
    return dict(run.record("score-own")["details"])
