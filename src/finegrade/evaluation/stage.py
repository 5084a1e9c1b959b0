"""The evaluate stage: six rows on held-out groups, STS-B beside them, an interval for every difference."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from transformers.utils import logging as transformers_logging

from finegrade.config import Config, EvaluationConfig
from finegrade.console import say
from finegrade.encoder import load_backbone, load_encoder
from finegrade.evaluation.metrics import METRICS, Scores, bootstrap, retrieval_metrics
from finegrade.evaluation.rankers import embed, rank_with_bm25, rank_with_model
from finegrade.evaluation.sts import load_stsb, spearman
from finegrade.fetching import model_identity
from finegrade.machine import keep_freed_memory
from finegrade.records import Seed
from finegrade.rows import FINEGRADE, TRAINED_ROWS, TrainedRow
from finegrade.store import SCORES, TEST_SEEDS, RunFolder, read_rows, replacing, write_json

STS = "STS-B"
_BM25, _BASE = "bm25", "base"


class _TestSet:
    """Held-out queries, the corpus they search, and which documents answer them."""

    def __init__(self, seeds: Sequence[Seed]) -> None:
        self.documents = list(dict.fromkeys(text for seed in seeds for text in seed.positives))
        number = {text: i for i, text in enumerate(self.documents)}
        asked = [seed for seed in seeds if seed.query]
        self.queries = [seed.query for seed in asked]
        self.relevant = [frozenset(number[text] for text in seed.positives) for seed in asked]


def evaluate(config: Config, run: RunFolder) -> None:
    """Writes ``scores.json``: every row's metrics, and finegrade's difference to every other row, with intervals.

    The corpus is every text of the held-out groups. Each row is a stage of its own, so that what is scored stays.

    Raises:
        InputError: The train stage has not run.
    """
    rows = [row for row in TRAINED_ROWS if config.training.controls or not row.is_control]
    for row in rows:
        run.record(row.stage)  # before any work: without a model there is nothing to compare
    keep_freed_memory()
    transformers_logging.disable_progress_bar()
    titles = [_score_bm25(config, run), _score_base(config, run)]
    titles += [_score_trained(row, config, run) for row in sorted(rows, key=lambda row: not row.is_control)]
    names = [name for name, _ in titles]
    settings = {"evaluation": config.evaluation.model_dump(mode="json"), "rows": titles, "seed": config.seed}
    with run.stage("evaluate", settings, after=[f"score-{name}" for name in names]) as stage:
        if not stage.done:
            seeds = run.record("seeds")["details"]
            scores = _compare(dict(titles), run, config.evaluation, config.seed)
            scores |= {key: seeds[key] for key in ("corpus_hash", "test_groups")}
            trained = run.record(FINEGRADE.stage)["details"]
            scores |= {"seed": config.seed, "steps": len(trained["steps"]), "batch_size": trained["batch_size"]}
            scores |= {"max_length": config.training.max_length}
            write_json(run.path(SCORES), scores)
            stage.finish([run.path(SCORES)], {"rows": len(titles)})


def _score_bm25(config: Config, run: RunFolder) -> tuple[str, str]:
    def work(test: _TestSet) -> tuple[dict[str, Scores], NDArray[np.float64] | None]:
        return retrieval_metrics(rank_with_bm25(test.queries, test.documents), test.relevant), None

    return _score(_BM25, "BM25", {}, ["seeds"], work, run)


def _score_base(config: Config, run: RunFolder) -> tuple[str, str]:
    backbone = config.training.backbone
    settings = {"backbone": model_identity(backbone), "max_length": config.training.max_length}

    def work(test: _TestSet) -> tuple[dict[str, Scores], NDArray[np.float64] | None]:
        model = load_backbone(backbone, config.training.max_length)
        return _score_model(model, test, config.evaluation, "base model")

    title = f"base model ({backbone})"
    return _score(_BASE, title, settings | _sts_setting(config), ["seeds"], work, run)


def _score_trained(row: TrainedRow, config: Config, run: RunFolder) -> tuple[str, str]:
    title = row.titled(config.training.pooling)

    def work(test: _TestSet) -> tuple[dict[str, Scores], NDArray[np.float64] | None]:
        return _score_model(load_encoder(run.path(row.folder)), test, config.evaluation, title)

    return _score(row.name, title, _sts_setting(config), ["seeds", row.stage], work, run)


def _sts_setting(config: Config) -> dict[str, Any]:
    return {"sts": model_identity(config.evaluation.sts_data) if config.evaluation.sts else None}


_Work = Callable[[_TestSet], tuple[dict[str, Scores], NDArray[np.float64] | None]]


def _score(
    name: str, title: str, settings: dict[str, Any], after: Sequence[str], work: _Work, run: RunFolder
) -> tuple[str, str]:
    """Scores one row, or keeps what is there: ``scores/NAME.parquet`` and ``scores/NAME-sts.parquet``."""
    with run.stage(f"score-{name}", settings, after=after) as stage:
        if not stage.done:
            metrics, similarities = work(_TestSet(read_rows(run.path(TEST_SEEDS), Seed)))
            outputs = [_write_columns(run.path("scores", f"{name}.parquet"), metrics)]
            if similarities is not None:
                outputs.append(_write_columns(run.path("scores", f"{name}-sts.parquet"), {STS: similarities}))
            stage.finish(outputs, {"title": title, "sts": similarities is not None})
            told = ", ".join(f"{metric} {values.mean():.3f}" for metric, values in metrics.items())
            say(f"{title}: {told}")
    return name, title


def _score_model(
    model: SentenceTransformer, test: _TestSet, config: EvaluationConfig, title: str
) -> tuple[dict[str, Scores], NDArray[np.float64] | None]:
    what = f"embedding test texts: {title}"
    rankings = rank_with_model(model, test.queries, test.documents, config.batch_size, what)
    metrics = retrieval_metrics(rankings, test.relevant)
    if not config.sts:
        return metrics, None
    left, right, _ = load_stsb(config.sts_data)
    vectors = embed(model, [*left, *right], config.batch_size, f"embedding STS-B: {title}")
    return metrics, np.asarray((vectors[: len(left)] * vectors[len(left) :]).sum(1), dtype=np.float64)


def _write_columns(path: Path, columns: dict[str, NDArray[np.float64]]) -> Path:
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary)
    return path


def _read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}


def _compare(titles: dict[str, str], run: RunFolder, config: EvaluationConfig, seed: int) -> dict[str, Any]:
    retrieval = {name: _read_columns(run.path("scores", f"{name}.parquet")) for name in titles}
    similarity = {
        name: _read_columns(run.path("scores", f"{name}-sts.parquet"))[STS]
        for name in titles
        if run.record(f"score-{name}")["details"]["sts"]
    }
    gold = load_stsb(config.sts_data)[2] if similarity else np.empty(0)
    draws = (config.resamples, config.confidence, seed)
    rows, differences = [], []
    for name, title in titles.items():
        own, ours = retrieval[name], retrieval[FINEGRADE.name]
        scores = {m: asdict(_mean_interval(own[m], *draws)) for m in METRICS}
        change = {m: asdict(_mean_interval(ours[m] - own[m], *draws)) for m in METRICS}
        if name in similarity:
            scores[STS] = asdict(_spearman_interval([similarity[name]], gold, *draws))
            change[STS] = asdict(_spearman_interval([similarity[FINEGRADE.name], similarity[name]], gold, *draws))
        rows.append({"name": name, "title": title, "scores": scores})
        if name != FINEGRADE.name:
            differences.append({"name": name, "title": f"finegrade − {title}", "scores": change})
    return {
        "metrics": [*METRICS, *([STS] if similarity else [])],
        "queries": len(next(iter(retrieval.values()))[METRICS[0]]),
        "documents": len(_TestSet(read_rows(run.path(TEST_SEEDS), Seed)).documents),
        "confidence": config.confidence,
        "resamples": config.resamples,
        "rows": rows,
        "differences": differences,
    }


def _mean_interval(values: Scores, resamples: int, confidence: float, seed: int) -> Any:
    return bootstrap(lambda drawn: float(values[drawn].mean()), len(values), resamples, confidence, seed)


def _spearman_interval(
    sides: list[NDArray[np.float64]], gold: NDArray[np.float64], resamples: int, confidence: float, seed: int
) -> Any:
    """Of one model's correlation, or of the difference of two on the same pairs."""

    def statistic(drawn: NDArray[np.int64]) -> float:
        values = [spearman(side[drawn], gold[drawn]) for side in sides]
        return values[0] - values[1] if len(values) == 2 else values[0]

    return bootstrap(statistic, len(gold), resamples, confidence, seed)
