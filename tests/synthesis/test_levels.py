"""The ladder of flaws: the ends stay where they are, and every rung between is harder than the one before."""

import pytest

from finegrade.config import MAX_LEVELS, MIN_LEVELS
from finegrade.synthesis.levels import LADDER, flaws

EVERY = range(MIN_LEVELS, MAX_LEVELS + 1)


@pytest.mark.parametrize("levels", EVERY)
def test_the_ends_are_fixed_and_the_order_is_that_of_the_ladder(levels):
    found = flaws(levels)
    assert list(found) == list(range(1, levels + 1))
    assert found[1] == LADDER[0]
    assert found[levels] == LADDER[-1]
    rungs = [LADDER.index(flaw) for flaw in found.values()]
    assert rungs == sorted(set(rungs))


def test_more_levels_keep_the_flaws_of_fewer():
    for levels in range(MIN_LEVELS, MAX_LEVELS):
        assert {flaw.name for flaw in flaws(levels).values()} < {flaw.name for flaw in flaws(levels + 1).values()}


def test_the_most_levels_take_the_whole_ladder():
    assert tuple(flaws(MAX_LEVELS).values()) == LADDER


def test_every_flaw_has_a_name_and_says_what_is_wrong_in_words_of_its_own():
    assert len({flaw.name for flaw in LADDER}) == len({flaw.description for flaw in LADDER}) == len(LADDER)
    assert all(len(flaw.description.split()) >= 10 for flaw in LADDER)
    assert not [flaw for flaw in LADDER if "harder" in flaw.description]
