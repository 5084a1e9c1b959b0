"""Words, shingles, overlaps and hashes."""

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.text import (
    content_hash,
    content_words,
    ends_a_sentence,
    jaccard,
    normalised,
    shingles,
    whole_sentences,
    word_count,
    words,
)

texts = st.text(max_size=60)
sets = st.frozensets(st.integers(0, 9))


@settings(deadline=None)
@given(texts)
def test_normalising_twice_changes_nothing_more(text):
    assert normalised(normalised(text)) == normalised(text)


@settings(deadline=None)
@given(texts)
def test_case_and_spacing_do_not_count(text):
    assert normalised(f"  {text}\n\t") == normalised(text)
    assert normalised("A  Tree\nof nodes.") == normalised("a tree, of NODES")


@settings(deadline=None)
@given(texts)
def test_content_words_are_words_of_the_text(text):
    assert content_words(text) <= set(words(text))


def test_content_words_leave_out_stop_words_and_single_letters():
    assert content_words("The list of a x and its Values") == {"list", "values"}


def test_digits_carry_meaning():
    assert content_words("3 of 4 x") == {"3", "4"}


def test_signs_of_scripts_without_spaces_are_words_and_two_count_as_one():
    assert words("Python编程很好") == ("python", "编", "程", "很", "好")
    assert word_count("Python编程很好") == 3
    assert content_words("编程") == {"编", "程"}
    assert normalised("编程") in normalised("学习编程很好。")
    assert shingles("编程语言很", 2) == {tuple("编程语言"), tuple("程语言很")}
    assert shingles("Python 编 is a language", 2) == shingles("python 编 IS a language!", 2)


def test_vowel_signs_and_accents_are_no_borders():
    assert words("हिन्दी में सवाल।") == ("हिन्दी", "में", "सवाल")
    assert words("cafe\u0301") == ("cafe\u0301",)


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_is_read_as_all_else_is(text):
    assert words(text) == words(text + " é")[:-1]  # é: the other way of reading


@settings(deadline=None)
@given(st.lists(st.sampled_from("abcdef"), max_size=12), st.integers(1, 6))
def test_shingles_are_the_runs_of_words(tokens, size):
    runs = {tuple(tokens[i : i + size]) for i in range(len(tokens) - size + 1)} or {tuple(tokens)}
    assert shingles(" ".join(tokens), size) == runs


@pytest.mark.parametrize(
    ("text", "whole"),
    [
        ("It is so. Use small units, e.g. tea", "It is so."),
        ("It is so. Steps: 1. Open the lid 2.", "It is so."),
        ("It is so. According to Dr. Who", "It is so."),
        ("It ends (here.) And then", "It ends (here.)"),
        ("ऐसा है। और फिर", "ऐसा है।"),
        ("هل هذا صحيح؟ ثم", "هل هذا صحيح؟"),
        ("No end e.g.", ""),
    ],
)
def test_the_whole_sentences_of_a_cut_text(text, whole):
    assert whole_sentences(text) == whole
    assert not whole or ends_a_sentence(whole)


def test_many_sentences_take_no_longer_than_their_number():
    began = time.perf_counter()
    assert len(whole_sentences("e.g. " * 40_000 + "x")) == 0
    assert time.perf_counter() - began < 5  # it was a minute when each was looked for from the beginning


@settings(deadline=None)
@given(sets, sets)
def test_jaccard_is_symmetric_and_one_only_for_equal_sets(left, right):
    value = jaccard(left, right)
    assert value == jaccard(right, left)
    assert 0 <= value <= 1
    assert (value == 1) == (left == right and bool(left))
    assert (value > 0) == bool(left & right)


def test_jaccard_of_a_known_pair():
    assert jaccard([1, 2, 3], [2, 3, 4]) == 0.5


@settings(deadline=None)
@given(st.lists(texts, max_size=4), st.lists(texts, max_size=4))
def test_content_hash_names_the_parts_and_their_borders(left, right):
    assert (content_hash(*left) == content_hash(*right)) == (left == right)


@settings(deadline=None)
@given(st.text(st.characters(), max_size=20))
def test_content_hash_takes_any_text(text):
    assert len(content_hash(text, "\ud800")) == 16


def test_content_hash_is_the_same_in_every_process():
    assert content_hash("a", "b") == "3c9d591045bc8876"  # run folders of earlier versions carry it
