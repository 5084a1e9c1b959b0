"""The evaluate stage: the rows on held-out queries, STS-B beside them, an interval for every difference."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from transformers.utils import logging as transformers_logging

from finegrade.config import EvaluationConfig, SourceConfig, TrainingConfig, VerificationConfig
from finegrade.console import say
from finegrade.data.user_queries import read_own_queries
from finegrade.evaluation.comparison import BM25_MODEL, Model, ModelScores, TestSet, compare, rank
from finegrade.evaluation.judged_queries import JUDGED_METRIC, judge_pool, judged_ndcg, pool
from finegrade.evaluation.metrics import (
    JUDGED_DEPTH,
    METRICS,
    Bootstrap,
    mean_interval,
    retrieval_metrics,
    spearman_interval,
)
from finegrade.evaluation.sts import STS, load_stsb, sts_similarities
from finegrade.machine import keep_freed_memory
from finegrade.models.encoder import load_backbone, load_encoder
from finegrade.models.resolve import model_identity
from finegrade.models.scorers import SCORING, load_cross_encoder
from finegrade.records import Seed
from finegrade.storage.atomic import read_json, replacing, write_json
from finegrade.storage.run_folder import SCORES, TEST_SEEDS, RunFolder
from finegrade.storage.tables import read_rows
from finegrade.training.variants import FINEGRADE, TrainedRow, trained_rows


@dataclass(frozen=True)
class ScoredRow:
    """A row of the score table: ``name`` in file names, ``title`` in tables.

    Its scores depend on ``settings`` and on the stages in ``after``; ``load`` gives the model.
    """

    name: str
    title: str
    settings: Mapping[str, Any]
    after: Sequence[str]
    load: Callable[[], Model]

    @property
    def stage(self) -> str:
        """Its stage's name."""
        return f"score-{self.name}"


def evaluate_rows(
    run: RunFolder, source: SourceConfig, training: TrainingConfig, verification: VerificationConfig,
    evaluation: EvaluationConfig, seed: int,
) -> None:  # fmt: skip
    """Writes ``scores.json``: every row's metrics, and finegrade's difference to every other row, with intervals.

    The corpus is every text of the held-out groups. Each row is a stage of its own, so that finished rows are kept.
    """
    for trained in trained_rows(training.controls):
        run.record(trained.stage)  # before any work: without a model there is nothing to compare
    keep_freed_memory()
    transformers_logging.disable_progress_bar()
    unlabelled = [own.query for own in read_own_queries(source) if not own.labelled]
    rows = _rows(run, training, evaluation, unlabelled)
    test = TestSet.of_seeds(read_rows(run.path(TEST_SEEDS), Seed))
    for row in rows:
        _score_row(row, run, test, unlabelled, evaluation)
    judged = _judge(rows, run, test, unlabelled, verification, evaluation, seed) if unlabelled else None
    settings = {
        "evaluation": evaluation.model_dump(mode="json"),
        "rows": [(row.name, row.title) for row in rows],
        "seed": seed,
        "own": judged,
    }
    with run.stage("evaluate", settings, after=[row.stage for row in rows]) as stage:
        if not stage.done:
            seeds, trained = run.record("seeds")["details"], run.record(FINEGRADE.stage)["details"]
            scores = _compare(rows, run, len(test.documents), evaluation, seed)
            scores |= {key: seeds[key] for key in ("corpus_hash", "test_groups", "test_queries")}
            scores |= {"seed": seed, "steps": training.steps, "batch_size": training.batch_size}
            scores |= {"max_length": trained["max_length"], "own": judged}
            write_json(run.path(SCORES), scores)
            stage.finish([run.path(SCORES)], {"rows": len(rows)})


def _rows(
    run: RunFolder, training: TrainingConfig, evaluation: EvaluationConfig, unlabelled: Sequence[str]
) -> list[ScoredRow]:
    """BM25, the backbone as it was published, the controls, and finegrade."""
    queries = {"unlabelled": unlabelled}
    models = {"sts": model_identity(evaluation.sts_data) if evaluation.sts else None, **queries}
    backbone, length = training.backbone, training.max_length
    base = {"backbone": model_identity(backbone), "max_length": length, **models}

    def trained(row: TrainedRow) -> ScoredRow:
        title = row.titled(training.pooling)
        return ScoredRow(row.name, title, models, ["seeds", row.stage], lambda: load_encoder(run.path(row.folder)))

    return [
        ScoredRow("bm25", "BM25", queries, ["seeds"], lambda: BM25_MODEL),
        ScoredRow("base", f"base model ({backbone})", base, ["seeds"], lambda: load_backbone(backbone, length)),
        *map(trained, sorted(trained_rows(training.controls), key=lambda row: not row.is_control)),
    ]


def _score_row(
    row: ScoredRow, run: RunFolder, test: TestSet, unlabelled: Sequence[str], evaluation: EvaluationConfig
) -> None:
    """Writes ``scores/NAME.parquet``, ``NAME-sts.parquet`` and ``NAME-own.json``, unless they are there."""
    with run.stage(row.stage, row.settings, after=row.after) as stage:
        if stage.done:
            return
        model, size, number = row.load(), evaluation.batch_size, len(test.queries)
        rankings = rank(model, [*test.queries, *unlabelled], test.documents, size, f"embedding test texts: {row.title}")
        metrics = retrieval_metrics(rankings[:number], test.relevant)
        outputs = [_write_columns(run.path("scores", f"{row.name}.parquet"), metrics)]
        has_sts = evaluation.sts and not isinstance(model, str)
        if has_sts:
            similarities = sts_similarities(model, evaluation.sts_data, size, f"embedding STS-B: {row.title}")
            outputs.append(_write_columns(run.path("scores", f"{row.name}-sts.parquet"), {STS: similarities}))
        if unlabelled:
            outputs.append(run.path("scores", f"{row.name}-own.json"))
            write_json(outputs[-1], [ranking[:JUDGED_DEPTH] for ranking in rankings[number:]])
        stage.finish(outputs, {"title": row.title, "sts": has_sts})
        means = ", ".join(f"{metric} {values.mean():.3f}" for metric, values in metrics.items())
        say(f"{row.title}: {means}")


def _judge(
    rows: Sequence[ScoredRow], run: RunFolder, test: TestSet, queries: Sequence[str],
    verification: VerificationConfig, evaluation: EvaluationConfig, seed: int,
) -> dict[str, Any]:  # fmt: skip
    """nDCG@10 of every row on the user's unlabelled queries, judged by the cross-encoder."""
    settings = {
        "scorers": [SCORING, *(model_identity(name) for name in verification.models)],
        "length": verification.max_length,
        "queries": queries,
        "evaluation": evaluation.model_dump(mode="json"),
        "seed": seed,
    }
    with run.stage("score-own", settings, after=["seeds", *(row.stage for row in rows)]) as stage:
        if not stage.done:
            rankings = {row.name: read_json(run.path("scores", f"{row.name}-own.json")) for row in rows}
            judge = load_cross_encoder(verification.models, verification.max_length)
            values = judged_ndcg(rankings, judge_pool(pool(rankings, len(queries)), queries, test.documents, judge))
            bootstrap = Bootstrap(evaluation.resamples, evaluation.confidence, seed)
            answered = len(values[FINEGRADE.name])
            judged = {name: {JUDGED_METRIC: mean_interval(own, bootstrap)} for name, own in values.items() if answered}
            details = {"queries": len(queries), "answered": answered, "rows": _table_rows(rows, judged)}
            stage.finish([], details)
    return dict(run.record("score-own")["details"])


def _compare(
    rows: Sequence[ScoredRow], run: RunFolder, documents: int, evaluation: EvaluationConfig, seed: int
) -> dict[str, Any]:
    bootstrap = Bootstrap(evaluation.resamples, evaluation.confidence, seed)
    retrieval = {row.name: _read_columns(run.path("scores", f"{row.name}.parquet")) for row in rows}
    scores, differences = compare(retrieval, FINEGRADE.name, bootstrap)
    with_sts = [row.name for row in rows if run.record(row.stage)["details"]["sts"]]
    if with_sts:
        gold = load_stsb(evaluation.sts_data)[2]
        similarity = {name: _read_columns(run.path("scores", f"{name}-sts.parquet"))[STS] for name in with_sts}
        ours = similarity[FINEGRADE.name]
        for name, theirs in similarity.items():
            scores[name][STS] = spearman_interval([theirs], gold, bootstrap)
            if name in differences:
                differences[name][STS] = spearman_interval([ours, theirs], gold, bootstrap)

    return {
        "metrics": [*METRICS, *([STS] if with_sts else [])],
        "queries": len(retrieval[FINEGRADE.name][METRICS[0]]),
        "documents": documents,
        "confidence": evaluation.confidence,
        "resamples": evaluation.resamples,
        "rows": _table_rows(rows, scores),
        "differences": _table_rows(rows, differences, "finegrade − "),
    }


def _table_rows(rows: Sequence[ScoredRow], found: ModelScores, prefix: str = "") -> list[dict[str, Any]]:
    return [
        {
            "name": row.name,
            "title": f"{prefix}{row.title}",
            "scores": {metric: asdict(interval) for metric, interval in found[row.name].items()},
        }
        for row in rows
        if row.name in found
    ]


def _write_columns(path: Path, columns: dict[str, NDArray[np.float64]]) -> Path:
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary)
    return path


def _read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}
