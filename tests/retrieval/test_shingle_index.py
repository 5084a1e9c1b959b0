"""Near copies are found as comparing each with each finds them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finegrade.retrieval.shingle_index import (
    NEAR_COPY,
    SAME_NEGATIVE,
    NearCopy,
    ShingleIndex,
    are_nearly_the_same,
)
from finegrade.text import shingles

texts = st.lists(st.sampled_from(["red", "green", "blue", "cyan"]), max_size=30).map(" ".join) | st.text(max_size=12)
rules = st.sampled_from([NEAR_COPY, SAME_NEGATIVE, NearCopy(5, 0.3), NearCopy(5, 1.0)])


@given(st.lists(texts, max_size=6), texts, rules)
def test_the_index_finds_what_comparing_each_with_each_finds(added, text, rule):
    index = ShingleIndex(added[:2], rule)
    for one in added[2:]:
        index.add(one)
    assert index.contains(text) == any(are_nearly_the_same(text, one, rule) for one in added)


@given(st.lists(texts, max_size=6), texts, st.sampled_from([0.2, 0.8]))
def test_texts_that_hold_another_are_found(added, text, share):
    own = shingles(text)
    holding = [
        number
        for number, one in enumerate(added)
        if own & shingles(one) and len(own & shingles(one)) >= share * len(own)
    ]
    assert ShingleIndex(added).holding(text, share) == holding


@pytest.mark.parametrize(("changed", "loose", "strict"), [(0, True, True), (1, True, False), (6, False, False)])
def test_an_answer_is_guarded_more_loosely_than_a_negative(changed, loose, strict):
    words = [f"word{number}" for number in range(20)]
    other = [f"other{number}" if number in range(7, 7 + changed) else word for number, word in enumerate(words)]
    assert are_nearly_the_same(" ".join(words), " ".join(other), NEAR_COPY) is loose
    assert are_nearly_the_same(" ".join(words), " ".join(other), SAME_NEGATIVE) is strict
