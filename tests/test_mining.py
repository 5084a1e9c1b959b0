"""Negatives from the corpus: graded by rank, never an answer to the query."""

import bm25s
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.levels import MAX_LEVELS, MIN_LEVELS
from finegrade.mining import LAST_RANKS, NEAR_COPY, Miner
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


def test_every_number_of_levels_has_a_band_for_each_but_the_easiest():
    assert sorted(LAST_RANKS) == list(range(MIN_LEVELS, MAX_LEVELS + 1))
    assert LAST_RANKS[4] == (5, 30, 200)
    for levels, lasts in LAST_RANKS.items():
        assert len(lasts) == levels - 1
        assert list(lasts) == sorted(set(lasts))


@pytest.mark.parametrize("levels", [2, 4, 8])
def test_levels_are_drawn_from_their_rank_bands_and_the_easiest_from_another_group(levels):
    seeds = graded_corpus()
    index = bm25s.BM25()
    index.index([list(words(s.positives[0])) for s in seeds], show_progress=False)
    ranked, _ = index.retrieve([list(words(seeds[0].query))], k=200, show_progress=False)
    rank = {seeds[number].positives[0]: i + 1 for i, number in enumerate(ranked[0])}
    groups = {s.positives[0]: s.group for s in seeds}
    found = Miner(seeds, 0, levels).negatives(seeds[0])
    assert [n.level for n in found] == list(range(levels, 0, -1))
    assert [n.source for n in found] == ["mined"] * (levels - 1) + ["random"]
    bands = zip((0, *LAST_RANKS[levels]), LAST_RANKS[levels], found[:-1], strict=False)
    assert all(before < rank[negative.text] <= last for before, last, negative in bands)
    assert groups[found[-1].text] == "b"


def test_the_sources_that_are_asked_for_are_drawn_from():
    """Random texts are of another group; what is mined for level 1 comes from the farthest band."""
    seeds = graded_corpus()
    miner, groups = Miner(seeds, 0), {s.positives[0]: s.group for s in seeds}
    found = miner.negatives(seeds[0], {4: "random", 3: "random", 2: "mined", 1: "mined"})
    assert {n.level: n.source for n in found} == {4: "random", 3: "random", 2: "mined", 1: "mined"}
    assert {groups[n.text] for n in found if n.source == "random"} == {"b"}
    easiest, usual = found[-1], miner.negatives(seeds[0])
    farthest = [n.text for turn in range(400) for n in miner.negatives(seeds[0], turn=turn) if n.level == 2]
    assert easiest.text in farthest
    assert easiest.text not in {n.text for n in usual if n.level > 2}


def test_what_is_drawn_for_a_seed_depends_on_nothing_that_was_drawn_before():
    seeds = graded_corpus(60)
    forwards, backwards = Miner(seeds, 0), Miner(seeds, 0)
    found = [forwards.negatives(one) for one in seeds[:20]]
    assert found == [backwards.negatives(one) for one in reversed(seeds[:20])][::-1]


def test_every_turn_draws_anew():
    seeds = graded_corpus(60)
    miner = Miner(seeds, 0)
    turns = [miner.negatives(seeds[0], turn=turn) for turn in range(5)]
    assert len({tuple(n.text for n in found) for found in turns}) > 1
    assert miner.negatives(seeds[0], turn=3) == turns[3]


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
