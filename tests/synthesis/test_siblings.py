"""Siblings: near, of the same group, and never the same question."""

from hypothesis import given
from hypothesis import strategies as st

from finegrade.records import Seed
from finegrade.synthesis.requests import MAX_JACCARD, MIN_DIFFERENT, MIN_JACCARD, Siblings
from finegrade.text import content_words, jaccard


def make(number: int, query: str, group: str) -> Seed:
    return Seed(id=str(number), query=query, positives=(f"Text {number}.",), group=group)


QUERIES = st.lists(
    st.sampled_from(["rotate", "sort", "read", "close", "key", "file", "list", "row", "table", "socket"]),
    min_size=1,
    max_size=5,
)


@given(st.lists(st.tuples(QUERIES, st.sampled_from("ab")), min_size=2, max_size=12))
def test_the_nearest_within_bounds_is_found(drawn: list[tuple[list[str], str]]) -> None:
    seeds = [make(i, " ".join(query), group) for i, (query, group) in enumerate(drawn)]
    for seed in seeds:
        mates = [other for other in seeds if other.group == seed.group and other is not seed]
        alone = not mates
        if alone:
            mates = []  # the other group is a pair or more, or alone itself
            others = [s for s in seeds if sum(t.group == s.group for t in seeds) == 1 and s is not seed]
            mates = others
        own = content_words(seed.query)
        near = {}
        for other in mates:
            theirs = content_words(other.query)
            value = jaccard(own, theirs)
            if MIN_JACCARD <= value <= MAX_JACCARD and len(own ^ theirs) >= MIN_DIFFERENT:
                near[other.query] = value
        found = Siblings(seeds).nearest(seed)
        if not near:
            assert found is None
        else:
            assert near[found] == max(near.values())


def test_pairs_without_a_group_find_siblings_among_each_other() -> None:
    queries = ["rotate the signing key", "rotate the access key", "close a socket", "rotate a large table"]
    seeds = [make(i, query, query) for i, query in enumerate(queries)]
    assert Siblings(seeds).nearest(seeds[0]) == "rotate the access key"


def test_a_query_with_the_same_answer_is_no_sibling() -> None:
    seeds = [make(i, query, "g") for i, query in enumerate(["rotate the signing key", "rotate the access key"])]
    same = [seed.model_copy(update={"positives": ("One text.",)}) for seed in seeds]
    assert Siblings(seeds).nearest(seeds[0]) == "rotate the access key"
    assert Siblings(same).nearest(same[0]) is None


def test_siblings_of_other_groups_where_groups_are_small() -> None:
    seeds = [make(0, "rotate the signing key", "a"), make(1, "rotate the access key", "b"), make(2, "sort", "a")]
    assert Siblings(seeds).nearest(seeds[0]) is None
    assert Siblings(seeds, within_groups=False).nearest(seeds[0]) == "rotate the access key"


def test_seeds_without_a_query_are_no_siblings() -> None:
    seeds = [make(0, "rotate the signing key", "a"), make(1, "", "a")]
    assert Siblings(seeds).nearest(seeds[0]) is None
