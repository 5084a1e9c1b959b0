"""Negatives from the corpus: graded by rank, never an answer to the query."""

import bm25s
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.mining import NEAR_COPY, RANK_BANDS, Miner
from finegrade.records import Seed
from finegrade.text import jaccard, normalised, shingles, words

WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa"]


def seed(number, query, *positives, group="g"):
    return Seed(id=str(number), query=query, positives=positives, group=group)


def graded_corpus(count=300):
    """Seed 0's query shares fewer and fewer words with the texts of the others."""
    seeds = [seed(0, "common rare query", "its very own answer text", group="a")]
    for i in range(1, count):
        text = " ".join(["common"] * (count - i) + ["filler"] * i + [f"unique{i}"])
        seeds.append(seed(i, f"query {i}", text, group="a" if i % 2 else "b"))
    return seeds


def test_bands_are_the_documented_ranks():
    assert RANK_BANDS == {4: (1, 5), 3: (6, 30), 2: (31, 200)}


def test_levels_are_drawn_from_their_rank_bands_and_the_easiest_from_another_group():
    seeds = graded_corpus()
    index = bm25s.BM25()
    index.index([words(s.positives[0]) for s in seeds], show_progress=False)
    ranked, _ = index.retrieve([words(seeds[0].query)], k=200, show_progress=False)
    rank = {seeds[number].positives[0]: i + 1 for i, number in enumerate(ranked[0])}
    groups = {s.positives[0]: s.group for s in seeds}
    found = Miner(seeds, 0).negatives(seeds[0])
    assert [(n.level, n.source) for n in found] == [(4, "mined"), (3, "mined"), (2, "mined"), (1, "random")]
    for negative in found[:3]:
        first, last = RANK_BANDS[negative.level]
        assert first <= rank[negative.text] <= last
    assert groups[found[3].text] == "b"


@pytest.mark.slow
def test_equal_seeds_give_equal_negatives_and_others_give_others():
    seeds = graded_corpus()
    draws = [[Miner(seeds, number).negatives(s) for s in seeds[:5]] for number in (0, 0, 1)]
    assert draws[0] == draws[1] != draws[2]


few_words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=12).map(" ".join)
corpora = st.lists(
    st.builds(
        lambda query, positives, group: (query, tuple(positives), group),
        few_words,
        st.lists(few_words, min_size=1, max_size=3, unique=True),
        st.sampled_from("ab"),
    ),
    min_size=1,
    max_size=25,
).map(lambda rows: [seed(i, query, *positives, group=group) for i, (query, positives, group) in enumerate(rows)])


@settings(max_examples=60, deadline=None)
@given(corpora)
def test_no_negative_is_an_answer_or_nearly_one(seeds):
    miner = Miner(seeds, 0)
    corpus = {text for s in seeds for text in s.positives}
    for one in seeds:
        answers = [t for s in seeds if normalised(s.query) == normalised(one.query) for t in s.positives]
        found = miner.negatives(one)
        for negative in found:
            assert negative.text in corpus
            assert negative.text not in one.positives
            assert all(jaccard(shingles(negative.text), shingles(own)) < NEAR_COPY for own in one.positives)
            assert negative.text not in answers or [s for s in seeds if negative.text in s.positives][1:]
        assert len({n.text for n in found}) == len(found)
        assert len({n.level for n in found}) == len(found)


def test_texts_of_an_equal_query_are_never_drawn():
    seeds = [seed(0, "What is it?", "one answer"), seed(1, "what IS it", "quite other words"), seed(2, "b", "third")]
    assert [n.text for n in Miner(seeds, 0).negatives(seeds[0])] == ["third"]


def test_near_copies_are_counted():
    text = "one two three four five six seven eight nine ten"
    seeds = [seed(0, "one two", text), seed(1, "three", f"{text} eleven"), seed(2, "b", "other text here")]
    miner = Miner(seeds, 0)
    miner.negatives(seeds[0])
    assert miner.set_aside["mined: near-copy of the positive"] >= 1


def test_one_group_alone_still_gets_an_easiest_level():
    seeds = [seed(i, f"query {i}", f"text number {i} {WORDS[i % 10]} of its own kind {i}") for i in range(40)]
    assert 1 in {n.level for n in Miner(seeds, 0).negatives(seeds[0])}


@pytest.mark.parametrize("count", [1, 2, 3, 7])
def test_small_corpora_give_what_they_have(count):
    seeds = [seed(i, f"query {i}", f"{WORDS[i]} text") for i in range(count)]
    assert len(Miner(seeds, 0).negatives(seeds[0])) == min(count - 1, 2 if count < 7 else 3)


@pytest.mark.parametrize("query", ["???", "unheard of", ""])
def test_queries_without_a_word_of_the_corpus_get_negatives(query):
    seeds = [seed(0, query, "alpha beta"), seed(1, "c", "gamma delta"), seed(2, "d", "epsilon zeta", group="h")]
    assert Miner(seeds, 0).negatives(seeds[0])


def test_texts_without_a_word_do_no_harm():
    seeds = [seed(0, "a", "!!!"), seed(1, "b", "→"), seed(2, "c", "???", group="h")]
    assert isinstance(Miner(seeds, 0).negatives(seeds[0]), list)


def test_what_stands_in_the_positive_s_own_section_is_no_negative():
    seeds = [seed(i, f"query {i}", f"common words and unique{i}") for i in range(40)]
    own = [one.model_copy(update={"section": "doc > A" if i < 20 else "doc > B"}) for i, one in enumerate(seeds)]
    miner = Miner(own, 0)
    drawn = {negative.text for negative in miner.negatives(own[0])}
    assert drawn
    assert drawn <= {one.positives[0] for one in own[20:]}
    assert miner.set_aside["mined: from the positive's own section"] > 0
    assert {n.text for n in Miner(seeds, 0).negatives(seeds[0])} - drawn  # without sections any of them may be drawn
