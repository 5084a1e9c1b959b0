"""Scores of one row: what it finds, on disk, as a stage of its own."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer

from finegrade.config import Config, EvaluationConfig
from finegrade.console import say
from finegrade.data.user_queries import read_own_queries
from finegrade.evaluation.metrics import DEPTH, JUDGED_DEPTH, retrieval_metrics
from finegrade.evaluation.sts import load_stsb
from finegrade.models.encoder import embed, load_backbone, load_encoder, rank_with_model
from finegrade.models.resolve import model_identity
from finegrade.records import Seed
from finegrade.retrieval.bm25 import BM25
from finegrade.storage.atomic import replacing, write_json
from finegrade.storage.run_folder import TEST_SEEDS, RunFolder
from finegrade.storage.tables import read_rows
from finegrade.training.variants import TrainedRow


class TestSet:
    """Held-out queries, the corpus they search, which documents answer them, and queries of which nobody knows."""

    def __init__(self, seeds: Sequence[Seed], unlabelled: Sequence[str] = ()) -> None:
        self.unlabelled = list(unlabelled)
        self.documents = list(dict.fromkeys(text for seed in seeds for text in seed.positives))
        number = {text: i for i, text in enumerate(self.documents)}
        asked = [seed for seed in seeds if seed.query]
        self.queries = [seed.query for seed in asked]
        self.relevant = [frozenset(number[text] for text in seed.positives) for seed in asked]


def load_test_set(config: Config, run: RunFolder) -> TestSet:
    """The test set of a run."""
    return TestSet(read_rows(run.path(TEST_SEEDS), Seed), unlabelled_queries(config))


def unlabelled_queries(config: Config) -> list[str]:
    """The user's own queries of which nobody knows what answers them."""
    return [own.query for own in read_own_queries(config.source) if not own.labelled]


STS = "STS-B"
_BM25, _BASE = "bm25", "base"


def score_bm25(config: Config, run: RunFolder) -> tuple[str, str]:
    """BM25, which is not trained. Returns the row's name and title, as the others do."""

    def work(test: TestSet) -> _Scored:
        rankings = BM25(test.documents).rank([*test.queries, *test.unlabelled], DEPTH, matching=False)
        return _Scored(rankings, None)

    return _score(_BM25, "BM25", {"unlabelled": unlabelled_queries(config)}, ["seeds"], work, config, run)


def score_base(config: Config, run: RunFolder) -> tuple[str, str]:
    """The backbone as it was published, reading as much of a text as the trained rows."""
    backbone = config.training.backbone
    settings = {"backbone": model_identity(backbone), "max_length": config.training.max_length}

    def work(test: TestSet) -> _Scored:
        model = load_backbone(backbone, config.training.max_length)
        return _score_model(model, test, config.evaluation, "base model")

    title = f"base model ({backbone})"
    return _score(_BASE, title, settings | _setting(config), ["seeds"], work, config, run)


def score_trained(row: TrainedRow, config: Config, run: RunFolder) -> tuple[str, str]:
    """A model of the train stage."""
    title = row.titled(config.training.pooling)

    def work(test: TestSet) -> _Scored:
        return _score_model(load_encoder(run.path(row.folder)), test, config.evaluation, title)

    return _score(row.name, title, _setting(config), ["seeds", row.stage], work, config, run)


def _setting(config: Config) -> dict[str, Any]:
    return {
        "sts": model_identity(config.evaluation.sts_data) if config.evaluation.sts else None,
        "unlabelled": unlabelled_queries(config),
    }


@dataclass(frozen=True)
class _Scored:
    """What a row finds for labelled and then for unlabelled queries, and its similarities on STS-B."""

    rankings: list[list[int]]
    similarities: NDArray[np.float64] | None


_Work = Callable[[TestSet], _Scored]


def _score(
    name: str, title: str, settings: dict[str, Any], after: Sequence[str], work: _Work, config: Config, run: RunFolder
) -> tuple[str, str]:
    """Scores one row, or keeps what is there: ``scores/NAME.parquet``, ``NAME-sts.parquet`` and ``NAME-own.json``."""
    with run.stage(f"score-{name}", settings, after=after) as stage:
        if not stage.done:
            test = load_test_set(config, run)
            scored = work(test)
            number = len(test.queries)
            metrics = retrieval_metrics(scored.rankings[:number], test.relevant)
            outputs = [_write_columns(run.path("scores", f"{name}.parquet"), metrics)]
            if scored.similarities is not None:
                outputs.append(_write_columns(run.path("scores", f"{name}-sts.parquet"), {STS: scored.similarities}))
            if test.unlabelled:
                own = run.path("scores", f"{name}-own.json")
                write_json(own, [ranking[:JUDGED_DEPTH] for ranking in scored.rankings[number:]])
                outputs.append(own)
            stage.finish(outputs, {"title": title, "sts": scored.similarities is not None})
            told = ", ".join(f"{metric} {values.mean():.3f}" for metric, values in metrics.items())
            say(f"{title}: {told}")
    return name, title


def _score_model(model: SentenceTransformer, test: TestSet, config: EvaluationConfig, title: str) -> _Scored:
    what = f"embedding test texts: {title}"
    queries = [*test.queries, *test.unlabelled]
    rankings = rank_with_model(model, queries, test.documents, config.batch_size, what, DEPTH)
    if not config.sts:
        return _Scored(rankings, None)
    left, right, _ = load_stsb(config.sts_data)
    vectors = embed(model, [*left, *right], config.batch_size, f"embedding STS-B: {title}")
    return _Scored(rankings, np.asarray((vectors[: len(left)] * vectors[len(left) :]).sum(1), dtype=np.float64))


def _write_columns(path: Path, columns: dict[str, NDArray[np.float64]]) -> Path:
    with replacing(path) as temporary:
        pq.write_table(pa.table(columns), temporary)
    return path
