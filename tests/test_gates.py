"""Why a rewritten text is set aside."""

import pytest

from finegrade.gates import is_near_miss, refusal
from finegrade.prompts import SIBLING_EXAMPLES
from finegrade.records import Seed
from finegrade.writing_config import SynthesisConfig

QUERY, SIBLING = "Remove duplicate keys from the mapping.", "Count duplicate keys of the mapping."
POSITIVE = (
    "The mapping is walked once from its first entry to the last. Every duplicate that is met is removed on the spot, "
    "and the entry that came first stays where it was."
)
GOOD = (
    "The mapping is walked once from its first entry to the last. Every duplicate that is met is counted on the spot, "
    "and the total count is returned at the end."
)
SEED = Seed(id="1", query=QUERY, positives=(POSITIVE, "Another answer to it."), group="g")


def reason(text, sibling=SIBLING, seed=SEED, **settings):
    return refusal(seed, sibling, text, SynthesisConfig(**settings))


def test_good_rewrite_passes():
    count = "Count the keys of the mapping that are duplicate."
    assert reason(GOOD, sibling=count.replace("Count", "Returned total count")) is None
    assert reason(GOOD.replace("counted", "count")) is None


@pytest.mark.parametrize("end", [",", "", " and", ";", "…'", "..."])
def test_unfinished_sentence(end):
    assert reason(GOOD.rstrip(".") + end) == "ends in the middle of a sentence"


@pytest.mark.parametrize("end", [".", "!", "?", ".'", '."', ".)", ".**", "?`"])
def test_finished_sentence(end):
    assert reason(GOOD.rstrip(".") + end, sibling="Total count?") is None


@pytest.mark.parametrize("text", [POSITIVE, POSITIVE.upper(), POSITIVE.replace(",", ""), "Another answer, to it!"])
def test_copy_of_any_positive(text):
    assert reason(text) == "copy of the positive"


def test_near_copy():
    one_more = POSITIVE.replace("once", "once quickly")
    assert reason(one_more) == "near-copy of the positive"
    assert reason(one_more, sibling="Walk quickly.", min_changed=1) is None


@pytest.mark.parametrize("text", [f"{POSITIVE} In total count them too.", f"To count, note this. {POSITIVE}"])
def test_positive_with_something_put_on(text):
    assert reason(text) == "keeps the whole positive"


def test_another_text_is_no_near_miss():
    assert not is_near_miss(POSITIVE, "Nothing at all of this has anything to do with counts.")
    assert is_near_miss(POSITIVE, POSITIVE.replace("count", "name"))


def test_nothing_of_the_sibling():
    text = GOOD.replace("counted", "printed").replace("count is returned", "number is printed")
    assert reason(text) == "brings in nothing of the sibling query"


def test_query_in_the_text():
    seed = SEED.model_copy(update={"query": "total count is returned"})
    assert reason(GOOD, seed=seed, sibling="Counted on the spot.") == "holds the query verbatim"


@pytest.mark.parametrize("example", [example[3] for example in SIBLING_EXAMPLES])
def test_copied_example(example):
    run = " ".join(example.split()[3:9])
    text = GOOD[:-1] + f" as {run}."
    assert reason(text, sibling="Total count.") == "copies the prompt's example"


def test_words_of_an_example_that_the_positive_holds_too_are_no_copy():
    run = "is returned as a string"  # four words of the first example
    positive = POSITIVE[:-1] + f" and {run}."
    seed = SEED.model_copy(update={"positives": (positive,)})
    assert reason(GOOD[:-1] + f" and {run}.", seed=seed, sibling="Total count.") is None
