"""Models compared on the same queries: the scores of each with intervals, and paired differences."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from sentence_transformers import SentenceTransformer

from finegrade.config import EvaluationConfig
from finegrade.config.toml import parse_section
from finegrade.errors import InputError
from finegrade.evaluation.metrics import DEPTH, Bootstrap, Interval, Scores, mean_interval, retrieval_metrics
from finegrade.models.encoder import load_backbone, rank_with_model
from finegrade.records import LeftOut, Seed
from finegrade.retrieval.bm25 import BM25
from finegrade.rows import Rows, as_samples, as_texts

BM25_MODEL = "bm25"
Model: TypeAlias = str | Path | SentenceTransformer
"""Catalogue name, local folder, Hugging Face id, "bm25", or a loaded model."""


@dataclass(frozen=True)
class TestSet:
    """Queries, the different texts that they search, and for each query the indices of the texts that answer it."""

    queries: Sequence[str]
    documents: Sequence[str]
    relevant: Sequence[frozenset[int]]

    @classmethod
    def of_seeds(cls, seeds: Sequence[Seed], more: Iterable[str] = ()) -> "TestSet":
        """The queries of seeds over all their texts and some more; a seed without a query only adds its texts."""
        documents = list(dict.fromkeys([*(text for seed in seeds for text in seed.positives), *more]))
        index = {text: i for i, text in enumerate(documents)}
        asked = [seed for seed in seeds if seed.query]
        return cls(
            queries=[seed.query for seed in asked],
            documents=documents,
            relevant=[frozenset(index[text] for text in seed.positives) for seed in asked],
        )


def rank(model: Model, queries: Sequence[str], documents: Sequence[str], batch_size: int, what: str) -> list[list[int]]:
    """For each query the indices of at most 100 documents, best first; ``model`` is "bm25" or loaded already."""
    if isinstance(model, str):
        return BM25(documents).rank(queries, DEPTH, matching=False)
    return rank_with_model(model, queries, documents, batch_size, what, DEPTH)


ModelScores = dict[str, dict[str, Interval]]
"""Model -> metric -> value with interval."""


def compare(
    per_query: Mapping[str, Mapping[str, Scores]], reference: str, bootstrap: Bootstrap
) -> tuple[ModelScores, ModelScores]:
    """Mean of each metric, and the reference's paired difference to each other model, with intervals.

    ``per_query`` is model -> metric -> [queries]; a difference is reference minus model.
    """
    ours = per_query[reference]
    scores = {
        name: {metric: mean_interval(values, bootstrap) for metric, values in own.items()}
        for name, own in per_query.items()
    }
    differences = {
        name: {metric: mean_interval(ours[metric] - values, bootstrap) for metric, values in own.items()}
        for name, own in per_query.items()
        if name != reference
    }
    return scores, differences


@dataclass(frozen=True)
class EvaluationResult:
    """The scores of several models on the same queries.

    Attributes:
        scores: Model -> metric (nDCG@10, Recall@1, MRR) -> value with interval.
        differences: The first model minus each other model, paired on the same queries; an interval that holds 0
            means that the two cannot be distinguished.
        per_query: Model -> metric -> [queries].
        test: The queries that were scored, and the texts that they searched.
        left_out: Queries without a text that answers them, each with its reason.
    """

    scores: ModelScores
    differences: ModelScores
    per_query: Mapping[str, Mapping[str, Scores]]
    test: TestSet
    left_out: Sequence[LeftOut]

    @property
    def reasons(self) -> dict[str, int]:
        """How many queries were left out for which reason, most first."""
        return dict(Counter(row.reason for row in self.left_out).most_common())

    def to_dicts(self) -> list[dict[str, Any]]:
        """One row for each model, the metrics as columns: for a pandas frame."""
        return [
            {"model": name, **{metric: found.value for metric, found in metrics.items()}}
            for name, metrics in self.scores.items()
        ]


def evaluate(
    models: Model | Sequence[Model] | Mapping[str, Model],
    rows: Rows | None = None,
    *,
    queries: Mapping[str, str] | None = None,
    corpus: Any = None,
    qrels: Mapping[str, Iterable[str] | Mapping[str, float]] | None = None,
    max_length: int = 512,
    batch_size: int = 32,
    resamples: int = 1_000,
    confidence: float = 0.95,
    seed: int = 0,
) -> EvaluationResult:
    """Scores models on retrieval: each query searches the same texts, exactly, by cosine similarity.

    Give either ``rows``, or ``queries``, ``corpus`` and ``qrels``.

    Args:
        models: One model, several, or names with models. A model is a catalogue name, a local folder, a Hugging Face
            id, "bm25", or a SentenceTransformer. The first one is compared with the others.
        rows: Queries with a text that answers each ("query" and "positive"; a query may have several rows). All these
            texts are searched. See ``finegrade.rows.as_samples``.
        queries: Id -> text.
        corpus: Id -> text. With ``rows``: more texts that are searched, with or without ids.
        qrels: Query id -> ids of the texts that answer it, or -> {text id: grade}. A grade above 0 counts.
        max_length: Tokens of a text that a model reads, if it reads as many; a SentenceTransformer keeps its own.
        batch_size: Texts that are embedded at once.
        resamples: Bootstrap resamples of the queries.
        confidence: Of the intervals.
        seed: Of the resamples.

    Returns:
        Scores and paired differences with intervals, and the queries that were left out.

    Raises:
        InputError: A row or value is wrong, a model cannot be had, or no query has a text that answers it.

    Examples:
        >>> import finegrade
        >>> rows = [
        ...     {"query": "open a file", "positive": "open() opens a file and returns a file object."},
        ...     {"query": "copy a list", "positive": "list.copy() returns a shallow copy of the list."},
        ... ]
        >>> result = finegrade.evaluate("bm25", rows)
        >>> result.scores["bm25"]["nDCG@10"].value
        1.0
    """
    checked = {"batch_size": batch_size, "resamples": resamples, "confidence": confidence}
    parse_section(EvaluationConfig, checked, "evaluate")
    if rows is not None and (queries is not None or qrels is not None):
        raise InputError("evaluate", got="rows, and queries or qrels", wanted="either", remedy="Leave one of them out.")
    named = _named(models)
    test, left_out = _test_set(queries, corpus, qrels) if rows is None else (_test_set_of_rows(rows, corpus), [])
    if not test.queries:
        remedy = "Give rows with query and positive, or queries, corpus and qrels whose ids agree."
        raise InputError("evaluate", got="none", wanted="a query with a text that answers it", remedy=remedy)
    per_query = {}
    for name, model in named.items():
        loaded = load_backbone(model, max_length) if isinstance(model, str) and model != BM25_MODEL else model
        rankings = rank(loaded, test.queries, test.documents, batch_size, f"embedding texts: {name}")
        per_query[name] = retrieval_metrics(rankings, test.relevant)
    scores, differences = compare(per_query, next(iter(named)), Bootstrap(resamples, confidence, seed))
    return EvaluationResult(scores, differences, per_query, test, left_out)


def _named(models: Model | Sequence[Model] | Mapping[str, Model]) -> dict[str, Model]:
    if not isinstance(models, Mapping):
        several = [models] if isinstance(models, str | Path | SentenceTransformer) else list(models)
        models = {str(one) if isinstance(one, str | Path) else f"model {i}": one for i, one in enumerate(several, 1)}
    named = {name: str(model) if isinstance(model, Path) else model for name, model in models.items()}
    wrong = [model for model in named.values() if not isinstance(model, str | SentenceTransformer)]
    if not named or wrong:
        wanted = 'names, folders, "bm25" or SentenceTransformer objects'
        got = type(wrong[0]).__name__ if wrong else "none"
        raise InputError("models", got=got, wanted=wanted, remedy="Load a model with finegrade.load_encoder.")
    return named


def _test_set_of_rows(rows: Rows, corpus: Any) -> TestSet:
    answers: dict[str, list[str]] = {}
    for sample in as_samples(rows):
        answers.setdefault(sample.query, []).append(sample.positive)
    seeds = [Seed(id=query, query=query, positives=tuple(texts), group="") for query, texts in answers.items()]
    return TestSet.of_seeds(seeds, [] if corpus is None else as_texts(corpus, "corpus"))


def _test_set(queries: Any, corpus: Any, qrels: Any) -> tuple[TestSet, list[LeftOut]]:
    for name, value in (("queries", queries), ("corpus", corpus), ("qrels", qrels)):
        if not isinstance(value, Mapping):
            got = f"no {name}" if value is None else f"{type(value).__name__} for {name}"
            remedy = "Give rows, or queries, corpus and qrels by id."
            raise InputError("evaluate", got=got, wanted="id -> text, or id -> ids", remedy=remedy)
    seeds, left_out = [], []
    for name, query in queries.items():
        answers = qrels.get(name, ())
        judged = [one for one in answers if not isinstance(answers, Mapping) or answers[one] > 0]
        found = tuple(corpus[document] for document in judged if document in corpus)
        if found:
            seeds.append(Seed(id=name, query=query, positives=found, group=""))
        else:
            reason, evidence = "its texts are not in the corpus" if judged else "no judgement", ", ".join(judged[:3])
            left_out.append(LeftOut(sample=name, query=query, positive="", reason=reason, evidence=evidence))
    return TestSet.of_seeds(seeds, corpus.values()), left_out
