"""What samples are to be like: drawn by weight, the same for the same seed and number."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finegrade.config import MAX_LEVELS, MAX_TEXT_WORDS, DrawsConfig
from finegrade.config.toml import parse_config
from finegrade.errors import InputError
from finegrade.llm.structured import MAX_CHARS
from finegrade.synthesis.filters import MAX_TEXT_CHARS
from finegrade.synthesis.prompts.sample import MOST_CHARS_A_WORD
from finegrade.synthesis.requests import chosen, draw, topics

SKEWED = DrawsConfig(
    languages={"en": 3, "de": 1},
    query_types={"common": 1, "rare": 0},
    query_lengths={"short": 1},
    clarities={"clear": 1, "ambiguous": 1},
    difficulties={"college": 9, "PhD": 1},
    text_words={"50": 1, "400": 3},
)


@given(st.integers(0, 2**32 - 1), st.text(), st.integers(0, 10_000))
def test_the_same_seed_and_number_draw_the_same_whatever_else_is_drawn(seed, task, turn):
    before = draw(SKEWED, seed, task, turn)
    draw(SKEWED, seed + 1, "another")
    random.seed(0)
    assert draw(SKEWED, seed, task, turn) == before


def test_seeds_tasks_and_turns_each_draw_anew():
    base = DrawsConfig()
    many = [[draw(base, *of) for of in kind] for kind in (
        [(seed, "task", 0) for seed in range(50)],
        [(0, f"task {i}", 0) for i in range(50)],
        [(0, "task", turn) for turn in range(50)],
    )]  # fmt: skip
    assert all(len({one.model_dump_json() for one in drawn}) > 45 for drawn in many)


def test_every_property_is_drawn_as_often_as_its_weight_says():
    number = 4_000
    drawn = [draw(SKEWED, 0, "task", turn) for turn in range(number)]
    for name, weights in SKEWED.model_dump().items():
        field = {"text_words": "words"}.get(name) or name.replace("ies", "y").removesuffix("s")
        counts = Counter(str(getattr(one, field)) for one in drawn)
        total = sum(weights.values())
        assert set(counts) == {name for name, weight in weights.items() if weight}
        for value, count in counts.items():
            assert count / number == pytest.approx(weights[value] / total, abs=0.04)


@pytest.mark.slow
def test_topics_are_many_and_different_and_all_of_them_are_drawn():
    assert len(topics()) > 200
    assert len({topic.lower() for topic in topics()}) == len(topics())
    assert {draw(DrawsConfig(), 0, i).topic for i in range(4_000)} == set(topics())


@given(st.dictionaries(st.text(min_size=1), st.floats(0, 1e9), min_size=1).filter(lambda w: sum(w.values()) > 0))
def test_what_has_no_weight_is_never_chosen(weights):
    dice = random.Random(0)
    assert all(weights[chosen(weights, dice)] > 0 for _ in range(20))


WRONG = (
    {}, {"en": 0}, {"en": -1, "de": 2}, {"en": float("nan")}, {"en": float("inf")}, {"en": 1e308, "de": 1e308},
)  # fmt: skip


@pytest.mark.parametrize("weights", WRONG, ids=str)
@pytest.mark.parametrize("where", ["draws.languages", "tasks.kinds", "synthesis.sources"])
def test_weights_that_nothing_can_be_drawn_from_are_told(where, weights):
    names = {"languages": ("en", "de"), "kinds": ("sts", "long-long"), "sources": ("llm", "mined")}
    section, key = where.split(".")
    weights = dict(zip(names[key], weights.values(), strict=False))
    value = {"4": weights} if key == "sources" else weights
    with pytest.raises(InputError, match=r"weight|finite number"):
        parse_config({"source": {"kind": "python-docs"}, section: {key: value}}, "test")


@pytest.mark.parametrize("words", ["x", "0", "-5", "4001", "1.5", "²", ""])
def test_lengths_that_are_no_numbers_of_words_are_told(words):
    with pytest.raises(InputError, match=r"draws\.text_words"):
        parse_config({"source": {"kind": "python-docs"}, "draws": {"text_words": {words: 1}}}, "test")


@pytest.mark.parametrize("code", ["English", "DE", "de-DE", "", "d"])
def test_languages_that_are_no_codes_are_told(code):
    with pytest.raises(InputError, match=r"draws\.languages.*ISO 639-1"):
        parse_config({"source": {"kind": "python-docs"}, "draws": {"languages": {"en": 1, code: 1}}}, "test")


@given(st.dictionaries(st.text(max_size=3), st.integers(1, 9), min_size=1), st.integers())
def test_the_order_in_which_names_are_written_does_not_count(weights, seed):
    turned = dict(reversed(weights.items()))
    assert chosen(weights, random.Random(seed)) == chosen(turned, random.Random(seed))


def test_what_may_be_drawn_may_be_written():
    """The longest texts, in as many levels as there can be, are neither too long for a gate nor for a reply."""
    longest = MAX_TEXT_WORDS * MOST_CHARS_A_WORD
    assert longest <= MAX_TEXT_CHARS
    assert longest * (MAX_LEVELS + 2) <= MAX_CHARS  # with query and positive
