"""The evaluate stage: six rows on held-out groups, STS-B beside them, an interval for every difference."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
from numpy.typing import NDArray
from transformers.utils import logging as transformers_logging

from finegrade.config import Config, EvaluationConfig
from finegrade.evaluation.judged_queries import judge_own
from finegrade.evaluation.metrics import METRICS, mean_interval, spearman_interval
from finegrade.evaluation.row_scores import STS, load_test_set, score_base, score_bm25, score_trained
from finegrade.evaluation.sts import load_stsb
from finegrade.machine import keep_freed_memory
from finegrade.storage.atomic import write_json
from finegrade.storage.run_folder import SCORES, RunFolder
from finegrade.training.variants import FINEGRADE, TRAINED_ROWS


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
    titles = [score_bm25(config, run), score_base(config, run)]
    titles += [score_trained(row, config, run) for row in sorted(rows, key=lambda row: not row.is_control)]
    names = [name for name, _ in titles]
    own = judge_own(dict(titles), config, run)
    settings = {
        "evaluation": config.evaluation.model_dump(mode="json"),
        "rows": titles,
        "seed": config.seed,
        "own": own,
    }
    with run.stage("evaluate", settings, after=[f"score-{name}" for name in names]) as stage:
        if not stage.done:
            seeds = run.record("seeds")["details"]
            documents = len(load_test_set(config, run).documents)
            scores = _compare(dict(titles), documents, run, config.evaluation, config.seed)
            scores |= {key: seeds[key] for key in ("corpus_hash", "test_groups", "test_queries")}
            trained = run.record(FINEGRADE.stage)["details"]
            scores |= {"seed": config.seed, "steps": len(trained["steps"]), "batch_size": trained["batch_size"]}
            scores |= {"max_length": trained["max_length"], "own": own}
            write_json(run.path(SCORES), scores)
            stage.finish([run.path(SCORES)], {"rows": len(titles)})


def _compare(
    titles: dict[str, str], documents: int, run: RunFolder, config: EvaluationConfig, seed: int
) -> dict[str, Any]:
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
        scores = {m: asdict(mean_interval(own[m], *draws)) for m in METRICS}
        change = {m: asdict(mean_interval(ours[m] - own[m], *draws)) for m in METRICS}
        if name in similarity:
            scores[STS] = asdict(spearman_interval([similarity[name]], gold, *draws))
            change[STS] = asdict(spearman_interval([similarity[FINEGRADE.name], similarity[name]], gold, *draws))
        rows.append({"name": name, "title": title, "scores": scores})
        if name != FINEGRADE.name:
            differences.append({"name": name, "title": f"finegrade − {title}", "scores": change})
    return {
        "metrics": [*METRICS, *([STS] if similarity else [])],
        "queries": len(next(iter(retrieval.values()))[METRICS[0]]),
        "documents": documents,
        "confidence": config.confidence,
        "resamples": config.resamples,
        "rows": rows,
        "differences": differences,
    }


def _read_columns(path: Path) -> dict[str, NDArray[np.float64]]:
    table = pq.read_table(path)
    return {name: table[name].to_numpy() for name in table.column_names}
