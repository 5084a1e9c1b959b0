"""Metrics equal sentence-transformers' own; intervals cover what they promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sentence_transformers.sentence_transformer.evaluation import InformationRetrievalEvaluator

from finegrade.evaluation.metrics import DEPTH, METRICS, Bootstrap, bootstrap_interval, retrieval_metrics


@pytest.mark.parametrize("documents", [30, 150])
def test_metrics_are_those_of_sentence_transformers(documents: int) -> None:
    """Random rankings, one to fourteen positives a query."""
    generator = np.random.default_rng(documents)
    queries = 40
    relevant = [
        frozenset(map(int, generator.choice(documents, generator.integers(1, 15), replace=False)))
        for _ in range(queries)
    ]
    scores = generator.normal(size=(queries, documents))
    for row, positives in zip(scores, relevant, strict=True):
        row[list(positives)] += generator.uniform(0, 3)
    rankings = np.argsort(-scores)[:, :DEPTH]
    theirs = InformationRetrievalEvaluator(
        queries={str(q): "q" for q in range(queries)},
        corpus={str(d): "d" for d in range(documents)},
        relevant_docs={str(q): {str(d) for d in positives} for q, positives in enumerate(relevant)},
        mrr_at_k=[100], ndcg_at_k=[10], accuracy_at_k=[1], precision_recall_at_k=[1], map_at_k=[1],
    ).compute_metrics(
        [[{"corpus_id": str(d), "score": float(scores[q, d])} for d in rankings[q]] for q in range(queries)]
    )  # fmt: skip
    ours = {name: values.mean() for name, values in retrieval_metrics(rankings.tolist(), relevant).items()}
    assert ours["nDCG@10"] == pytest.approx(theirs["ndcg@k"][10])
    assert ours["Recall@1"] == pytest.approx(theirs["recall@k"][1])
    assert ours["MRR"] == pytest.approx(theirs["mrr@k"][100])


@settings(max_examples=100, deadline=None)
@given(
    ranking=st.permutations(range(20)), positives=st.frozensets(st.integers(0, 19), min_size=1), cut=st.integers(0, 20)
)
def test_metrics_lie_between_0_and_1_and_are_1_only_at_the_top(
    ranking: list[int], positives: frozenset[int], cut: int
) -> None:
    found = {name: values[0] for name, values in retrieval_metrics([ranking[:cut]], [positives]).items()}
    assert all(0 <= value <= 1 for value in found.values())
    assert (found["MRR"] == 1) == (cut > 0 and ranking[0] in positives)
    assert found["Recall@1"] == pytest.approx((cut > 0 and ranking[0] in positives) / len(positives))
    perfect = sorted(range(20), key=lambda document: document not in positives)
    best = retrieval_metrics([perfect], [positives])
    assert best["nDCG@10"][0] == pytest.approx(1)
    assert best["MRR"][0] == 1
    assert found["nDCG@10"] <= best["nDCG@10"][0] + 1e-12


def test_each_query_has_its_own_value_in_order() -> None:
    found = retrieval_metrics([[3, 1], [1, 3], [0, 2]], [frozenset({3})] * 3)
    assert list(found) == list(METRICS)
    assert found["MRR"].tolist() == [1, 0.5, 0]


def test_a_positive_below_rank_100_counts_as_not_found() -> None:
    found = retrieval_metrics([list(range(1, 102)), [*range(1, 100), 0]], [frozenset({101}), frozenset({0})])
    assert found["MRR"].tolist() == [0, pytest.approx(1 / 100)]


def test_a_ranking_without_its_positives_is_no_match() -> None:
    with pytest.raises(ValueError):
        retrieval_metrics([[1]], [])


def interval_of(values: np.ndarray, seed: int = 0, confidence: float = 0.95) -> tuple[float, float, float]:
    draws = Bootstrap(400, confidence, seed)
    found = bootstrap_interval(lambda drawn: float(values[drawn].mean()), len(values), draws)
    return found.value, found.low, found.high


@pytest.mark.slow
def test_95_percent_intervals_cover_the_true_mean_about_that_often() -> None:
    generator = np.random.default_rng(0)
    covered = 0
    for trial in range(200):
        value, low, high = interval_of(generator.normal(0.3, 1, size=80), seed=trial)
        assert low <= value <= high
        covered += low <= 0.3 <= high
    assert 0.89 <= covered / 200 <= 0.99


def test_intervals_are_decided_by_the_seed() -> None:
    values = np.random.default_rng(1).normal(size=50)
    assert interval_of(values) == interval_of(values)
    assert interval_of(values)[1:] != interval_of(values, seed=1)[1:]


def test_more_confidence_gives_a_wider_interval() -> None:
    values = np.random.default_rng(1).normal(size=50)
    (_, low, high), (_, lower, higher) = interval_of(values, confidence=0.8), interval_of(values, confidence=0.99)
    assert lower < low < high < higher


def test_the_difference_of_equal_sides_is_exactly_0() -> None:
    values = np.random.default_rng(1).normal(size=50)
    assert interval_of(values - values.copy()) == (0, 0, 0)
