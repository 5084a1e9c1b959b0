"""One scale for all scorers: 0 as a random text, 1 as a query's own positive, and the order kept."""

import random
from math import nan

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from finegrade.errors import InputError
from finegrade.records import Sample
from finegrade.verification.calibration import FEWEST, calibrate, calibration_pairs, fit, try_judge

scores = st.floats(-20, 20)


def samples(number, groups=2):
    return [
        Sample(id=str(i), query=f"q{i}", positive=f"p{i}", negatives=(), group=str(i % groups)) for i in range(number)
    ]


class Answers:
    """Gives a positive its number, a random text less; counts what it is asked."""

    def __init__(self, scale=1.0, offset=0.0):
        self.scale, self.offset, self.asked = scale, offset, []

    def scores(self, pairs):
        self.asked += pairs
        return iter([self.scale * (10 + int(q[1:]) % 5 if q[1:] == p[1:] else int(p[1:]) % 3) + self.offset
                     for q, p in pairs])  # fmt: skip


def test_typical_texts_are_at_0_and_1():
    scale = fit([8.0] * 4 + [10.0] * 5 + [30.0], [-4.0] * 5 + [-2.0] * 5)
    assert scale.of(10.0) == 1
    assert scale.of(-3.0) == 0
    assert scale.told_apart == 1


@given(
    st.lists(st.tuples(st.floats(-1, 20), st.floats(-20, 1)), min_size=FEWEST, max_size=30),
    scores, scores, st.floats(0.1, 5), scores,
)  # fmt: skip
def test_the_order_stays_and_the_scorer_s_own_units_go(pairs, left, right, factor, offset):
    positives, randoms = map(list, zip(*pairs, strict=True))
    moved = [[factor * score + offset for score in side] for side in (positives, randoms)]
    try:
        scale, other = fit(positives, randoms), fit(*moved)
    except InputError:
        assume(False)
    assume(scale.one - scale.zero > 1e-3)
    assert (scale.of(left) < scale.of(right)) == (left < right) or left == pytest.approx(right)
    assert other.of(factor * left + offset) == pytest.approx(scale.of(left), rel=1e-4, abs=1e-4)


def test_a_scorer_of_other_units_gives_the_same_scale():
    made = samples(60)
    plain, other = calibrate(Answers(), made, 0), calibrate(Answers(scale=0.01, offset=0.5), made, 0)
    assert other.of(0.01 * 7 + 0.5) == pytest.approx(plain.of(7))
    assert plain.told_apart == 1


def test_random_texts_are_of_another_group_and_the_same_for_the_same_seed():
    made = samples(60)
    pairs, others = calibration_pairs(made, 3)
    assert len(pairs) == len(others) == 60
    assert all(q[1:] == p[1:] for q, p in pairs)
    assert all((int(q[1:]) - int(p[1:])) % 2 for q, p in others)
    assert calibration_pairs(made, 3) == (pairs, others) != calibration_pairs(made, 4)


def test_where_there_is_one_group_only_another_positive_is_taken():
    _, others = calibration_pairs(samples(20, groups=1), 0)
    assert all(q[1:] != p[1:] for q, p in others)


@pytest.mark.parametrize("number", [0, FEWEST - 1])
def test_too_few_samples_are_told(number):
    with pytest.raises(InputError, match=f"got {number} samples; wanted at least {FEWEST}"):
        calibrate(Answers(), samples(number), 0)


@pytest.mark.parametrize("scale", [-1.0, 0.0])
def test_a_scorer_that_tells_nothing_apart_is_refused(scale):
    with pytest.raises(InputError, match="wanted a scorer that tells them apart, in 60% at least"):
        calibrate(Answers(scale=scale), samples(60), 0)


def test_noise_is_refused():
    dice = random.Random(0)
    noise = [[dice.gauss(0, 1) for _ in range(300)] for _ in range(2)]
    with pytest.raises(InputError, match="of the pairs in order"):
        fit(*noise)


@given(st.permutations([*range(10), nan, nan]))
def test_scores_that_are_no_numbers_count_for_nothing(randoms):
    scale = fit([100.0] * len(randoms), randoms)
    assert (scale.zero, scale.one, scale.told_apart) == (4.5, 100.0, 1.0)


def test_too_few_numbers_are_told():
    with pytest.raises(InputError, match="got 7 of 12 pairs with a number"):
        fit([1.0] * 12, [0.0] * 7 + [nan] * 5)


class Grades:
    """A judge: 3 for a text that holds one that it knows, a grade for others; what it knows it is not asked."""

    best = 3.0

    def __init__(self, same=3.0, other=0.0):
        self.same, self.other, self.asked = same, other, []

    def know(self, answers):
        self.answers = answers

    def scores(self, pairs):
        for query, text in pairs:
            if text in self.answers[query]:
                yield self.best
            else:
                self.asked.append((query, text))
                yield self.same if any(known in text for known in self.answers[query]) else self.other

    def reason(self, pair):
        return ""


def spoken(number, a_query=1, name="p"):
    return [
        Sample(id=str(i), query=f"q{i // a_query}", positive=f"{name}{i}.", negatives=(), group=str(i // a_query))
        for i in range(number)
    ]


def test_a_judge_has_a_scale_of_its_own_and_is_tried_on_what_it_does_not_know_and_random_texts():
    judge = Grades(other=1.0)
    scale = try_judge(judge, spoken(60), 0, "llm")
    assert (scale.zero, scale.one, scale.told_apart) == (0.0, 3.0, 1.0)
    assert len(judge.asked) == 16
    assert not any(text in judge.answers[query] for query, text in judge.asked)
    assert [query for query, _ in judge.asked] != [f"q{i}" for i in range(8)] * 2


def test_queries_with_many_positives_are_tried_once_and_against_others_texts():
    judge = Grades()
    assert try_judge(judge, spoken(80, a_query=10), 0, "llm").told_apart == 1.0
    assert len({query for query, _ in judge.asked}) == 8
    assert {len(texts) for texts in judge.answers.values()} == {10}


@pytest.mark.parametrize("name", ["P", "p", "答案"])
def test_a_judge_that_calls_everything_unrelated_is_refused_in_every_script(name):
    with pytest.raises(InputError, match="tells them apart"):
        try_judge(Grades(same=0.0), spoken(60, name=name), 0, "llm")


def test_a_judge_needs_samples_to_be_tried_on():
    with pytest.raises(InputError, match="got 0 samples"):
        try_judge(Grades(), [], 0, "llm")


@pytest.mark.parametrize(
    ("judge", "message"),
    [(Grades(same=0.0), "tells them apart"), (Grades(same=nan), "0 replies of 8 that can be read")],
)
def test_a_judge_that_tells_nothing_apart_or_says_nothing_is_refused(judge, message):
    with pytest.raises(InputError, match=message):
        try_judge(judge, spoken(60), 0, "llm")
