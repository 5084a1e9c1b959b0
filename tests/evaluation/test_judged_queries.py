"""Judged scores: the pool is what any row found, the ideal its best order."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finegrade.evaluation.judged_queries import judged_ndcg, pool, relevance


def test_the_pool_is_what_any_row_has_among_its_first_ten():
    rankings = {"a": [list(range(20))], "b": [[5, 30, 31]]}
    assert pool(rankings, 1) == [[*range(10), 30, 31]]


def test_the_best_order_of_the_pool_is_one():
    judged = [{0: 0.9, 1: 0.5, 2: 0.0}]
    scores = judged_ndcg({"best": [[0, 1, 2]], "worst": [[2, 1, 0]], "part": [[0]]}, judged)
    assert scores["best"][0] == pytest.approx(1)
    ideal = 0.9 + 0.5 / np.log2(3)
    assert scores["worst"][0] == pytest.approx((0.5 / np.log2(3) + 0.9 / 2) / ideal)
    assert scores["part"][0] == pytest.approx(0.9 / ideal)


def test_queries_that_nothing_answers_do_not_count():
    scores = judged_ndcg({"a": [[0], [1]]}, [{0: 0.01}, {1: 0.8}])
    assert list(scores["a"]) == [pytest.approx(1)]


@given(st.lists(st.dictionaries(st.integers(0, 30), st.floats(0, 1), min_size=1), min_size=1, max_size=5))
def test_scores_lie_between_none_and_all(judged):
    rankings = {"up": [sorted(gains) for gains in judged], "down": [sorted(gains, reverse=True) for gains in judged]}
    for values in judged_ndcg(rankings, judged).values():
        assert ((values >= 0) & (values <= 1 + 1e-9)).all()


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_relevance_is_a_share(logit):
    assert 0 <= relevance(logit) <= 1
