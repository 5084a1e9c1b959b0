"""Negatives from the corpus: graded by rank, never an answer to the query."""

from fractions import Fraction

import bm25s
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.config import MAX_LEVELS, MIN_LEVELS
from finegrade.errors import InputError
from finegrade.records import Seed
from finegrade.retrieval.bm25 import BM25
from finegrade.retrieval.dense import DenseIndex
from finegrade.retrieval.mining import LAST_RANKS, Fused, Miner, Wanted, fused, index_of, mine_negatives
from finegrade.retrieval.shingle_index import NEAR_COPY
from finegrade.text import jaccard, normalised, shingles, words
from helpers.families import classifier

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


@pytest.mark.slow
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
            assert all(jaccard(shingles(negative.text), shingles(own)) < NEAR_COPY.similarity for own in one.positives)
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
    seeds = [seed(i, f"text {i}", f"{WORDS[i]} text") for i in range(count)]
    assert len(Miner(seeds, 0).negatives(seeds[0])) == min(count - 1, 2 if count < 7 else 3)


@pytest.mark.parametrize("query", ["???", "unheard of", ""])
def test_queries_without_a_word_of_the_corpus_get_a_random_text_only(query):
    seeds = [seed(0, query, "alpha beta"), seed(1, "c", "gamma delta"), seed(2, "d", "epsilon zeta", group="h")]
    assert [(n.level, n.source) for n in Miner(seeds, 0).negatives(seeds[0])] == [(1, "random")]


def test_no_band_has_a_text_that_shares_no_word_with_the_query():
    """Their order says nothing: the hardest level would be a text like any other, and the near one another level's."""
    texts = [f"{WORDS[i % 10]} text of number {i}" for i in range(300)] + ["zebra in the herd", "stripes of a zebra"]
    seeds = [seed(i, f"query {i}", text) for i, text in enumerate(texts)]
    asked = seed(302, "zebra stripes", texts[300], group="h")
    for turn in range(20):
        found = Miner([*seeds, asked], 0).negatives(asked, dict.fromkeys((4, 3, 2, 1), "mined"), turn)
        assert [(n.text, n.level) for n in found] == [(texts[301], 4)]


@settings(max_examples=60, deadline=None)
@given(corpora)
def test_what_is_mined_by_words_shares_one_with_the_query(seeds):
    for one in seeds:
        mined = [n.text for n in Miner(seeds, 0).negatives(one) if n.source == "mined"]
        assert all(set(words(text)) & set(words(one.query)) for text in mined)


def test_texts_without_a_word_do_no_harm():
    seeds = [seed(0, "a", "!!!"), seed(1, "b", "→"), seed(2, "c", "???", group="h")]
    assert isinstance(Miner(seeds, 0).negatives(seeds[0]), list)


def test_what_stands_in_the_positive_s_own_section_is_no_negative():
    seeds = [seed(i, f"common query {i}", f"common words and unique{i}") for i in range(40)]
    own = [one.model_copy(update={"section": "doc > A" if i < 20 else "doc > B"}) for i, one in enumerate(seeds)]
    miner = Miner(own, 0)
    drawn = {negative.text for negative in miner.negatives(own[0])}
    assert drawn
    assert drawn <= {one.positives[0] for one in own[20:]}
    assert miner.set_aside["mined: from the positive's own section"] > 0
    assert {n.text for n in Miner(seeds, 0).negatives(seeds[0])} - drawn  # without sections any of them may be drawn


# many at a time, and other rankings


class ByNumber:
    """Ranks texts by how near the number at their end is to the query's; queries are asked for once in a block."""

    def __init__(self, texts):
        self.texts, self.asked = list(texts), []

    def rank(self, queries, depth):
        self.asked.append(list(queries))
        assert len(set(queries)) == len(queries)
        return [sorted(range(len(self.texts)), key=lambda i: (abs(i - _number(query)), i))[:depth] for query in queries]


def _number(text):
    return int(text.split()[-1])


def numbered(count):
    return [seed(i, f"query {i}", f"{WORDS[i % 10]} text number {i}", group="ab"[i % 2]) for i in range(count)]


@pytest.mark.parametrize("looked_ahead", [1, 7, 1_000])
@pytest.mark.parametrize("index", [BM25, ByNumber])
def test_many_at_a_time_get_what_each_gets_alone(monkeypatch, looked_ahead, index):
    seeds = graded_corpus(60) if index is BM25 else numbered(60)
    sources = {4: "mined", 3: "random", 2: "mined", 1: "mined"}
    wanted = [Wanted(one, sources if turn else None, turn) for one in seeds[:20] for turn in range(3)]
    alone = [Miner(seeds, 0, index=index).negatives(*one) for one in wanted]
    monkeypatch.setattr("finegrade.retrieval.mining.LOOKED_AHEAD", looked_ahead)
    miner = Miner(seeds, 0, index=index)
    assert list(miner.negatives_of(wanted)) == alone
    assert list(miner.negatives_of(wanted[::-1])) == alone[::-1]
    assert list(miner.negatives_of([])) == []


def test_no_more_is_looked_ahead_than_the_limit(monkeypatch):
    monkeypatch.setattr("finegrade.retrieval.mining.LOOKED_AHEAD", 4)
    read = []
    found = Miner(numbered(30), 0).negatives_of(Wanted(one) for one in numbered(30) if not read.append(one))
    for given_out in range(1, 31):
        next(found)
        assert len(read) <= given_out + 3


def test_each_level_is_drawn_from_its_band_of_whatever_ranking(monkeypatch):
    seeds = numbered(900)
    (found,) = Miner(seeds, 0, index=ByNumber).negatives_of([Wanted(seeds[450])])
    for negative, before, last in zip(found, (0, 5, 30), (5, 30, 200), strict=False):
        distance = abs(_number(negative.text) - 450)
        assert before // 2 <= distance <= last // 2


class Angles:
    """An embedder of texts that end in a number: degrees."""

    def embed_documents(self, texts):
        angles = np.radians([_number(text) / 5 for text in texts])
        return np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)

    embed_queries = embed_documents


@pytest.mark.slow
def test_mining_by_meaning_draws_from_the_bands_of_the_vectors(tmp_path):
    seeds = numbered(900)
    miner = Miner(seeds, 0, index=lambda texts: DenseIndex(texts, Angles(), tmp_path, "angles", len(texts)))
    alone = miner.negatives(seeds[450])
    for negative, before, last in zip(alone, (0, 5, 30), (5, 30, 200), strict=False):
        assert before // 2 <= abs(_number(negative.text) - 450) <= last // 2
    assert list(miner.negatives_of(map(Wanted, seeds)))[450] == alone


rankings = st.lists(st.permutations(range(12)).flatmap(lambda r: st.integers(0, 12).map(lambda n: r[:n])), max_size=3)


@settings(max_examples=200, deadline=None)
@given(rankings, st.integers(1, 15))
def test_fusion_orders_by_the_sums_of_reciprocal_ranks(rankings, depth):
    sums = {
        number: sum(Fraction(1, 60 + ranking.index(number) + 1) for ranking in rankings if number in ranking)
        for number in range(12)
    }
    expected = sorted((number for number in sums if sums[number]), key=lambda number: (-sums[number], number))
    found = fused(rankings, depth)
    assert len(set(found)) == len(found) == min(depth, len(expected))
    if len(rankings) < 3:  # of three, equal sums may differ in the last digit
        assert found == expected[:depth]


def test_both_rankings_count_and_a_text_without_a_word_of_the_query_has_no_lexical_rank(tmp_path):
    texts = ["alpha 1", "beta 2", "gamma 3", "delta 300", "alpha and more words 310"]
    dense = DenseIndex(texts, Angles(), tmp_path, "angles", len(texts))
    both = Fused(BM25(texts), dense)
    assert dense.rank(["alpha 4"], 5) == [[2, 1, 0, 3, 4]]
    assert both.rank(["alpha 4"], 5) == [[0, 4, 2, 1, 3]]
    assert both.rank(["nothing 300"], 5) == dense.rank(["nothing 300"], 5)
    assert both.rank([], 5) == []


@pytest.mark.parametrize("kind", ["dense", "both"])
@pytest.mark.slow
def test_an_index_is_made_with_the_model_that_is_named_and_its_vectors_are_kept(tiny_encoder, tmp_path, kind):
    texts = ["sort the list", "open the socket", "parse the file", "train the model"]
    for _ in range(2):
        index = index_of(kind, str(tiny_encoder), tmp_path)
        assert [ranking[0] for ranking in index(texts).rank(texts, 3)] == [0, 1, 2, 3]
        assert [ranking[0] for ranking in index(texts[::-1]).rank(texts, 3)] == [3, 2, 1, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["0", "1"]
    assert index_of("bm25", "no such model", tmp_path) is BM25


def test_what_is_no_bi_encoder_is_refused(tiny_encoder, tmp_path, monkeypatch):
    monkeypatch.setattr("finegrade.retrieval.mining.MAX_LENGTH", 64)
    folder = classifier(tmp_path / "one", tiny_encoder, 1)
    with pytest.raises(InputError, match=r"the miner's model .*got a cross-encoder; wanted a bi-encoder"):
        index_of("dense", str(folder), tmp_path)


# rows in memory


def rows_of(count):
    return [{"query": f"common words {i}", "positive": f"common words of unique{i} text {i}"} for i in range(count)]


def test_rows_get_what_the_stage_draws_for_the_same_seeds():
    rows = rows_of(60)
    mined = mine_negatives(rows, seed=3)
    seeds = [seed(one.id, one.query, one.positive, group=one.group) for one in mined.kept]
    expected = [Miner(seeds, 3).negatives(one)[::-1] for one in seeds]
    assert [one.query for one in mined.kept] == [row["query"] for row in rows]
    assert [list(one.negatives) for one in mined.kept] == expected
    assert mined.left_out == []
    assert mined.empty_levels == {4: 0, 3: 0, 2: 0, 1: 0}
    assert mine_negatives(rows[:20]).empty_levels == {4: 0, 3: 0, 2: 20, 1: 0}  # ranks from 31 on


def test_a_corpus_is_drawn_from_in_place_of_the_positives():
    corpus = [f"common text {i} of the corpus" for i in range(20)]
    mined = mine_negatives(rows_of(5), iter(corpus), levels=2)
    assert {negative.text for one in mined.kept for negative in one.negatives} <= set(corpus)
    assert [[negative.level for negative in one.negatives] for one in mined.kept] == [[1, 2]] * 5


def test_no_answer_of_an_equal_query_is_drawn_and_repeats_are_left_out():
    rows = [
        {"query": "What is it?", "positive": "one answer to that"},
        {"query": "what IS it", "positive": "another answer to that"},
        {"query": "What is it?", "positive": "one answer to that"},
        {"query": "what is another", "positive": "that answer is quite other words"},
    ]
    mined = mine_negatives(rows)
    assert [[negative.text for negative in one.negatives] for one in mined.kept[:2]] == [[rows[3]["positive"]]] * 2
    assert mined.reasons == {"repeats an earlier row": 1}
    with_corpus = mine_negatives(rows[:2], [row["positive"] for row in rows])
    assert [[negative.text for negative in one.negatives] for one in with_corpus.kept] == [[rows[3]["positive"]]] * 2
    assert with_corpus.passed_over["mined: near-copy of the positive"] > 0


def test_rows_without_a_negative_are_left_out_with_the_reason():
    mined = mine_negatives([{"query": "alone", "positive": "one text"}])
    assert mined.kept == []
    assert [(one.query, one.reason) for one in mined.left_out] == [("alone", "no negative in the corpus")]


def test_negatives_that_a_row_has_stay_and_their_levels_are_not_mined():
    corpus = [f"common text {i} of the corpus" for i in range(20)]
    rows = [
        {"query": "common", "positive": "alpha", "negatives": [{"text": "own text", "level": 4}, {"text": "no level"}]}
    ]
    (one,) = mine_negatives(rows, corpus, levels=4).kept
    assert [(n.level, n.text) for n in one.negatives if n.source == "external"] == [(None, "no level"), (4, "own text")]
    assert {n.level for n in one.negatives if n.source == "mined"} == {3}


def test_vectors_of_a_kept_folder_are_used_again(tiny_encoder, tmp_path):
    rows = [{"query": text, "positive": f"{text} now"} for text in ("sort the list", "open a socket", "parse a file")]
    first = mine_negatives(rows, miner="dense", model=str(tiny_encoder), folder=tmp_path)
    assert mine_negatives(rows, miner="dense", model=str(tiny_encoder), folder=tmp_path) == first
    assert (tmp_path / "0" / "manifest.json").is_file()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"miner": "bm52"}, "miner: got bm52; wanted one of .*bm25"),
        ({"levels": 1}, "levels: got 1; wanted 2 to 8"),
        ({"corpus": []}, "the corpus: got no text"),
        ({"corpus": ["", " "]}, "the corpus: got no text"),
        ({"corpus": "one text"}, "rows: got str; wanted a list"),
        ({"corpus": ["one text", 3]}, r"corpus\[1\]: got int"),
    ],
)
def test_arguments_of_mine_negatives_that_make_no_sense(given, message):
    with pytest.raises(InputError, match=message):
        mine_negatives(rows_of(3), **given)
