"""Near copies are found as comparing each with each finds them."""

from hypothesis import given
from hypothesis import strategies as st

from finegrade.retrieval.shingle_index import NearCopies, are_nearly_the_same

texts = st.lists(st.sampled_from(["red", "green", "blue", "cyan"]), max_size=30).map(" ".join) | st.text(max_size=12)


@given(st.lists(texts, max_size=6), texts)
def test_they_are_those_of_the_definition(added, text):
    copies = NearCopies()
    for one in added:
        copies.add(one)
    assert copies.has_one_of(text) == any(are_nearly_the_same(text, one) for one in added)
