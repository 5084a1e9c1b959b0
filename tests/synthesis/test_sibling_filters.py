"""Why a text that was rewritten for a sibling is set aside."""

import pytest

from finegrade.synthesis.filters import is_near_miss, sibling_refusal
from finegrade.synthesis.prompts.sibling import SIBLING_EXAMPLES

SIBLING = "Count duplicate keys of the mapping."
POSITIVE = (
    "The mapping is walked once from its first entry to the last. Every duplicate that is met is removed on the spot, "
    "and the entry that came first stays where it was."
)
GOOD = (
    "The mapping is walked once from its first entry to the last. Every duplicate that is met is counted on the spot, "
    "and the total count is returned at the end."
)


def test_good_rewrite_passes():
    assert sibling_refusal(POSITIVE, SIBLING, GOOD) is None


def test_another_text_is_no_near_miss():
    assert not is_near_miss(POSITIVE, "Nothing at all of this has anything to do with counts.")
    assert is_near_miss(POSITIVE, POSITIVE.replace("count", "name"))


def test_nothing_of_the_sibling():
    text = GOOD.replace("counted", "printed").replace("count is returned", "number is printed")
    assert sibling_refusal(POSITIVE, SIBLING, text) == "brings in nothing of the sibling query"


def test_one_and_many_are_the_same_word():
    text = GOOD.replace("counted", "printed").replace("count is returned", "total of the keys is returned")
    assert sibling_refusal(POSITIVE, "Return a key.", text) is None


@pytest.mark.parametrize("example", [example[3] for example in SIBLING_EXAMPLES])
def test_copied_example(example):
    run = " ".join(example.split()[3:9])
    assert sibling_refusal(POSITIVE, SIBLING, GOOD[:-1] + f" as {run}.") == "copies the prompt's example"


def test_words_of_an_example_that_the_positive_holds_too_are_no_copy():
    run = "is returned as a string"  # four words of the first example
    assert sibling_refusal(POSITIVE[:-1] + f" and {run}.", SIBLING, GOOD[:-1] + f" and {run}.") is None
