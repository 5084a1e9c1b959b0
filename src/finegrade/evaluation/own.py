"""The user's unlabelled queries: pooled over the rows, judged by the cross-encoder, kept as a stage of its own."""

from dataclasses import asdict
from typing import Any

from finegrade.config import Config
from finegrade.console import progress
from finegrade.evaluation.intervals import mean_interval
from finegrade.evaluation.judging import judged_ndcg, pool, relevance
from finegrade.evaluation.test_set import load_test_set, unlabelled_queries
from finegrade.models.resolve import model_identity
from finegrade.models.scorers import SCORING, load_cross_encoder
from finegrade.storage.atomic import read_json
from finegrade.storage.run_folder import RunFolder

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
