"""From pairs to seeds: nothing that test holds is trained on, whatever the pairs are."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.data.pairs import Pair
from finegrade.data.splitting import Split, split_pairs
from finegrade.errors import InputError
from finegrade.retrieval.shingle_index import NEAR_COPY
from finegrade.text import jaccard, normalised, shingles

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon"]
few_words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=9).map(" ".join)
queries = st.builds(lambda text, mark: text + mark, few_words, st.sampled_from(["", "?", " !"]))
pairs_of = st.lists(
    st.builds(Pair, query=queries, positive=few_words, group=st.sampled_from("abcd")), min_size=2, max_size=30
)


def split(pairs, test_groups=(), share=0.3, max_train=1000, seed=0) -> Split | None:
    """The split, or None where one side would be empty."""
    try:
        return split_pairs(pairs, test_groups, share, max_train, seed)
    except InputError as error:
        assert "\n" not in str(error)
        return None


@settings(deadline=None)
@given(pairs_of, st.integers(0, 3))
def test_groups_are_never_on_both_sides(pairs, seed):
    result = split(pairs, seed=seed)
    if result:
        held_out = set(result.test_groups)
        assert {seed.group for seed in result.test} <= held_out
        assert not {seed.group for seed in result.train} & held_out


@settings(deadline=None)
@given(pairs_of)
def test_no_train_seed_repeats_a_test_query_or_nearly_a_test_text(pairs):
    result = split(pairs)
    if result:
        test_queries = {normalised(seed.query) for seed in result.test}
        test_texts = [shingles(text) for seed in result.test for text in seed.positives]
        for seed in result.train:
            assert normalised(seed.query) not in test_queries
            for text in seed.positives:
                assert all(jaccard(shingles(text), other) < NEAR_COPY.similarity for other in test_texts)


@settings(deadline=None)
@given(pairs_of)
def test_equal_queries_are_one_seed_with_all_their_positives(pairs):
    result = split(pairs)
    if result:
        for side in (result.train, result.test):
            names = [normalised(seed.query) for seed in side]
            assert len(names) == len(set(names))
        for seed in result.test:
            answers = {p.positive for p in pairs if p.group in result.test_groups and same_query(p, seed)}
            assert set(seed.positives) == answers


def same_query(pair, seed):
    return normalised(pair.query) == normalised(seed.query)


@settings(deadline=None)
@given(pairs_of, st.integers(1, 5))
def test_counts_add_up(pairs, max_train):
    result = split(pairs, max_train=max_train)
    if result:
        counts = result.counts
        assert counts["pairs"] == len(pairs)
        assert counts["train"] == len(result.train) <= max_train
        assert counts["test"] == len(result.test)
        away = counts["query also in test"] + counts["text nearly in test"] + counts.get("over max_train", 0)
        assert counts["queries"] == counts["train"] + counts["test"] + away
        assert counts["repeats"] >= 0


@settings(deadline=None)
@given(pairs_of, st.integers(0, 3))
def test_same_pairs_and_seed_give_the_same_split(pairs, seed):
    assert split(pairs, seed=seed, max_train=3) == split(list(pairs), seed=seed, max_train=3)


@settings(deadline=None)
@given(pairs_of)
def test_seeds_are_made_of_the_pairs_and_ids_are_unique(pairs):
    result = split(pairs)
    if result:
        known = {(normalised(p.query), p.positive) for p in pairs}
        seeds = [*result.train, *result.test]
        assert all((normalised(seed.query), text) in known for seed in seeds for text in seed.positives)
        assert len({seed.id for seed in result.train}) == len(result.train)


def some(group, count, start=0):
    return [
        Pair(query=f"question {group} {i}", positive=f"answer {group} {i} on its own", group=group)
        for i in range(start, start + count)
    ]


def test_named_groups_are_held_out():
    result = split_pairs(some("a", 5) + some("b", 5) + some("c", 5), ["b"], 0.2, 100, 0)
    assert result.test_groups == ["b"]
    assert {seed.group for seed in result.test} == {"b"}
    assert {seed.group for seed in result.train} == {"a", "c"}


@pytest.mark.parametrize("share", [0.1, 0.3, 0.6])
def test_share_of_the_pairs_is_held_out_when_groups_are_small(share):
    pairs = [pair for group in range(100) for pair in some(f"g{group}", 3)]
    result = split_pairs(pairs, (), share, 1000, 0)
    assert len(result.test) == pytest.approx(share * 300, abs=3)


def test_another_seed_draws_other_groups():
    pairs = [pair for group in range(30) for pair in some(f"g{group}", 3)]
    drawn = {tuple(split_pairs(pairs, (), 0.2, 1000, seed).test_groups) for seed in range(5)}
    assert len(drawn) > 1


def test_max_train_draws_and_counts():
    result = split_pairs(some("a", 50) + some("b", 5), ["b"], 0.2, 10, 0)
    assert len(result.train) == 10
    assert result.counts["over max_train"] == 40


def test_hash_names_texts_and_sides():
    pairs = some("a", 5) + some("b", 5)
    one = split_pairs(pairs, ["a"], 0.2, 100, 0)
    assert one.corpus_hash == split_pairs(pairs[::-1], ["a"], 0.2, 100, 0).corpus_hash
    assert one.corpus_hash != split_pairs(pairs, ["b"], 0.2, 100, 0).corpus_hash
    changed = [pairs[0].model_copy(update={"positive": "another"}), *pairs[1:]]
    assert one.corpus_hash != split_pairs(changed, ["a"], 0.2, 100, 0).corpus_hash


def test_unknown_test_group_lists_the_largest_ones():
    with pytest.raises(InputError, match=r"source.test_groups: got z; wanted a group that is there \(b, a"):
        split_pairs(some("a", 2) + some("b", 3), ["z"], 0.2, 100, 0)


@pytest.mark.parametrize("pairs", [some("a", 5), [], some("a", 1)])
def test_one_group_leaves_nothing_to_train_or_test_on(pairs):
    with pytest.raises(InputError, match="at least two groups"):
        split_pairs(pairs, (), 0.2, 100, 0)


def test_train_gives_way_wholly_when_test_holds_everything():
    pairs = [p for group in "ab" for p in (Pair(query="the same question", positive="the same answer", group=group),)]
    with pytest.raises(InputError, match="got 0 train, 1 test"):
        split_pairs(pairs, ["b"], 0.2, 100, 0)


@pytest.mark.parametrize(("left", "right"), [("Sort a list in C", "Sort a list in C++"), ("→", "←")])
def test_queries_that_differ_in_signs_only_stay_two(left, right):
    pairs = [Pair(query=left, positive="One.", group="a"), Pair(query=right, positive="Other.", group="a")]
    result = split_pairs(pairs + some("b", 3), ["b"], 0.2, 100, 0)
    assert {seed.query for seed in result.train} == {left, right}
