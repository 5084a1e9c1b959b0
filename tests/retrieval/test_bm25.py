"""BM25 of single pairs: the same order as bm25s gives over the same texts."""

import bm25s
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finegrade.retrieval.bm25 import LexicalScorer
from finegrade.text import words

texts = st.lists(st.lists(st.sampled_from(["ab", "cd", "ef", "gh", "ij", "kl"]), min_size=1, max_size=9).map(" ".join),
                 min_size=2, max_size=9, unique=True)  # fmt: skip


@given(texts, st.lists(st.sampled_from(["ab", "cd", "ef"]), min_size=1, max_size=3, unique=True))
def test_scores_are_those_of_bm25s(corpus, query):
    index = bm25s.BM25()
    index.index([list(words(text)) for text in corpus], show_progress=False)
    known = [word for word in query if any(word in text for text in corpus)]
    expected = index.get_scores(known) if known else [0.0] * len(corpus)
    found = list(LexicalScorer(corpus).scores([(" ".join(query), text) for text in corpus]))
    assert found == pytest.approx(list(expected), abs=1e-5)


def test_a_word_that_is_twice_in_the_query_counts_once_and_unknown_words_count():
    scorer = LexicalScorer(["one two", "three four"])
    once, twice, unknown, none = scorer.scores(
        [("two", "two one"), ("two two", "two one"), ("new", "a new text"), ("two", "five")]
    )
    assert once == twice > 0
    assert unknown > once  # rarer
    assert none == 0


def test_without_texts_and_words_there_is_no_crash():
    assert list(LexicalScorer([]).scores([("", ""), ("a", ""), ("", "a")])) == [0, 0, 0]
