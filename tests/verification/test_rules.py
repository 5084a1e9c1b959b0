"""The rules of verification, one by one, and what they never do."""

from itertools import pairwise
from math import nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.config import VerificationConfig
from finegrade.records import Negative, Sample, ScorerResult
from finegrade.verification.rules import (
    ANSWERS,
    CONTRADICTS,
    FALSE_NEGATIVE,
    NO_GAP,
    NO_SCORE,
    NOT_FOR_SIBLING,
    OUT_OF_ORDER,
    REPEATS,
    THE_POSITIVE,
    THE_QUERY,
    Scores,
    apply_verdicts,
    excess,
    is_in_doubt,
    is_weak,
    judge_sample,
    level_of,
    why_false,
)

LEVELS = 4
WORDS = {"a": "apples ripen early", "b": "buses run late", "c": "cups break", "d": "doors creak at night"}


def rules(**named):
    return VerificationConfig.model_validate({"margin": 0.1} | named)


def sample(*negatives, positive="the positive text"):
    """A sample from (text, level) or (text, level, source)."""
    made = tuple(Negative(text=text, level=level, source=(*source, "mined")[0]) for text, level, *source in negatives)
    return Sample(id="1", query="q", positive=positive, negatives=made, group="g")


def result(score, positive=1.0, sibling=None, scorer="one"):
    return ScorerResult(scorer=scorer, positive=positive, score=score, sibling=sibling, raw=score)


def scored(*scores, positive=1.0, sibling=None):
    return Scores(tuple(result(score, positive, sibling, f"scorer {i}") for i, score in enumerate(scores)))


def judged(one, *scores_, levels=LEVELS, **named):
    made = [v if isinstance(v, Scores) else scored(v) for v in scores_]
    return decided(one, made, rules(**named), levels)


def decided(one, scores_, by, levels):
    return judge_sample(one, scores_, why_false(one, scores_, by), by, levels)


def told(verdicts):
    return [(v.decision, v.level_after, v.reason) for v in verdicts]


def test_the_query_itself_is_no_negative_and_never_becomes_a_positive():
    one = sample(("Q!", 4), ("buses run late", 2))
    assert told(judged(one, 1.5, 0.2)) == [("dropped", None, THE_QUERY), ("kept", 2, "")]


def test_clear_negatives_in_order_are_kept():
    verdicts = judged(sample(("a", 1), ("b", 2), ("c", 3)), 0.1, 0.2, 0.3)
    assert told(verdicts) == [("kept", 1, ""), ("kept", 2, ""), ("kept", 3, "")]
    assert (verdicts[1].positive_score, verdicts[1].score, verdicts[1].level_before) == (1.0, 0.2, 2)


@pytest.mark.parametrize(("score", "false"), [(1.0, True), (0.91, True), (0.9, False), (0.89, False), (2.0, True)])
def test_a_negative_must_score_the_margin_below_the_positive(score, false):
    (verdict,) = judged(sample(("a", 1)), score, promote=False)
    assert told([verdict]) == [("dropped", None, FALSE_NEGATIVE) if false else ("kept", 1, "")]


@pytest.mark.parametrize(
    ("positive", "score", "false"),
    [
        (2.0, 1.59, False),
        (2.0, 1.61, True),
        (0.3, 0.19, False),
        (0.3, 0.21, True),
        (-1.0, -1.05, True),
        (-1.0, -1.2, False),
    ],
)
def test_the_relative_margin_is_for_positives_above_zero(positive, score, false):
    (verdict,) = judged(sample(("a", 1)), scored(score, positive=positive), relative_margin=0.2, promote=False)
    assert (verdict.decision == "dropped") == false


def test_the_llm_has_a_margin_of_its_own():
    grades = {grade: Scores((result(grade / 3, scorer="llm"),)) for grade in range(4)}
    allowed = rules(judge_margin=0.5)
    assert [excess(grades[grade], allowed) > 0 for grade in range(4)] == [False, False, True, True]


@pytest.mark.parametrize(("sibling", "left"), [(0.3, False), (0.2, False), (0.4, True), (None, True)])
def test_a_rewrite_must_answer_its_sibling_better_than_the_query(sibling, left):
    (verdict,) = judged(sample(("a", 4)), scored(0.3, sibling=sibling))
    assert told([verdict]) == [("kept", 4, "") if left else ("dropped", None, NOT_FOR_SIBLING)]
    assert verdict.sibling_score == sibling


def test_the_sibling_test_holds_where_a_judge_decides_who_has_no_view_of_it():
    asked_again = Scores((result(0.3, scorer="llm"),), earlier=(result(0.8, sibling=0.1),))
    (verdict,) = judged(sample(("a", 4, "llm")), asked_again)
    assert (verdict.reason, verdict.sibling_score) == (NOT_FOR_SIBLING, 0.1)


def test_false_negatives_come_before_the_sibling_test():
    assert judged(sample(("a", 4)), scored(0.99, sibling=0.1))[0].reason == FALSE_NEGATIVE


def test_scorers_without_a_view_of_the_sibling_take_no_part_in_its_test():
    both = Scores((result(0.8, scorer="high"), result(0.1, sibling=0.2, scorer="low")))
    assert told(judged(sample(("a", 4)), both)) == [("kept", 4, "")]


def test_levels_out_of_order_are_dealt_out_again():
    verdicts = judged(sample(("a", 1), ("b", 2), ("c", 4)), 0.3, 0.2, 0.1)
    assert told(verdicts) == [("regraded", 4, OUT_OF_ORDER), ("kept", 2, ""), ("regraded", 1, OUT_OF_ORDER)]


@pytest.mark.parametrize(
    ("scores", "left"),
    [
        ((0.1, 0.2, 0.3, 0.4), [1, 2, 3, 4]),
        ((0.1, 0.3, 0.2, 0.4), [1, 2, 4]),  # both rise as far
        ((0.3, 0.1, 0.4, 0.2), [2, 3]),  # rises the most
        ((0.1, 0.2, 0.4, 0.3), [1, 2, 3]),
        ((0.4, 0.1, 0.2, 0.3), [2, 3, 4]),
        ((0.2, 0.3, 0.4, 0.1), [1, 2, 3]),  # as many as can
        ((0.4, 0.3, 0.2, 0.1), [1]),
        ((0.2, 0.2, 0.2, 0.2), [1, 2, 3, 4]),
    ],
)
def test_of_an_llm_s_levels_those_go_that_contradict_the_scores(scores, left):
    one = sample(*((text, level, "llm") for level, text in enumerate("abcd", 1)))
    verdicts = judged(one, *scores)
    assert [v.level_after for v in verdicts if v.decision == "kept"] == left
    assert {v.reason for v in verdicts if v.decision == "dropped"} <= {CONTRADICTS}
    assert {v.decision for v in verdicts} <= {"kept", "dropped"}


def test_an_llm_s_text_among_mined_ones_is_regraded_as_they_are():
    verdicts = judged(sample(("a", 1), ("b", 2), ("c", 4, "llm")), 0.1, 0.5, 0.3)
    assert told(verdicts) == [("kept", 1, ""), ("regraded", 4, OUT_OF_ORDER), ("regraded", 2, OUT_OF_ORDER)]


def test_what_leaves_takes_no_part_in_the_order():
    verdicts = judged(sample(("a", 1), ("b", 2), ("c", 3)), 0.1, 0.97, 0.2)
    assert [v.decision for v in verdicts] == ["kept", "dropped", "kept"]


def test_equal_scores_change_no_level():
    assert {v.decision for v in judged(sample(("a", 1), ("b", 2)), 0.1, 0.1)} == {"kept"}


def test_negatives_that_are_no_gap_apart_go_and_the_hardest_stays():
    verdicts = judged(sample(("a", 1), ("b", 2), ("c", 3), ("d", 4)), 0.1, 0.45, 0.5, 0.8, min_gap=0.2)
    assert told(verdicts) == [("kept", 1, ""), ("dropped", None, NO_GAP), ("kept", 3, ""), ("kept", 4, "")]


def test_a_copy_of_the_positive_and_a_repeated_negative_go():
    one = sample(("The positive text!", 4), (WORDS["d"], 3), (WORDS["d"].upper(), 1), (WORDS["a"], 2))
    assert told(judged(one, 0.2, 0.2, 0.2, 0.1)) == [
        ("dropped", None, THE_POSITIVE), ("kept", 3, ""), ("dropped", None, REPEATS), ("kept", 2, ""),
    ]  # fmt: skip


def test_a_text_without_a_number_goes_and_changes_nothing_for_the_others():
    one = sample((WORDS["a"], 1), (WORDS["b"], 2), (WORDS["c"], 3), (WORDS["d"], 4))
    for order in ((0, 1, 2, 3), (3, 1, 0, 2), (2, 3, 1, 0)):
        scores_ = {0: scored(0.1), 1: scored(nan), 2: scored(nan).then([result(0.5, scorer="llm")]), 3: scored(0.3)}
        mixed = one.model_copy(update={"negatives": tuple(one.negatives[i] for i in order)})
        verdicts = judged(mixed, *(scores_[i] for i in order))
        decided = {v.text: (v.decision, v.level_after, v.reason) for v in verdicts}
        assert decided == {
            WORDS["a"]: ("kept", 1, ""), WORDS["b"]: ("dropped", None, NO_SCORE),
            WORDS["c"]: ("dropped", None, NO_SCORE), WORDS["d"]: ("kept", 4, ""),
        }  # fmt: skip


def test_levels_are_compared_by_those_who_were_asked_about_all():
    cheap = [result(0.1, scorer="cheap"), result(0.2, scorer="cheap"), result(0.3, scorer="cheap")]
    asked_again = Scores((cheap[0],)).then([result(0.8, positive=1.2, scorer="dear")])
    verdicts = judged(sample(("a", 1), ("b", 2), ("c", 3)), asked_again, Scores((cheap[1],)), Scores((cheap[2],)))
    assert told(verdicts) == [("kept", 1, ""), ("kept", 2, ""), ("kept", 3, "")]
    assert [(v.score, v.positive_score) for v in verdicts] == [(0.1, 1), (0.2, 1), (0.3, 1)]
    all_again = [Scores((one,)).then([result(1 - 2 * one.score, scorer="dear")]) for one in cheap]
    assert [v.level_after for v in judged(sample(("a", 1), ("b", 2), ("c", 3)), *all_again)] == [3, 2, 1]


class TestPromotion:
    """A text of the corpus that answers is a positive."""

    @pytest.mark.parametrize(
        ("scores", "source", "decision"),
        [
            ((1.0,), "mined", "promoted"),
            ((1.3, 1.0), "external", "promoted"),
            ((1.5, 0.99), "mined", "dropped"),  # one does not think so
            ((0.95,), "mined", "dropped"),  # too near, but does not answer as well
            ((1.5, 1.5), "llm", "dropped"),  # written to be wrong
        ],
    )
    def test_only_where_every_scorer_finds_that_it_answers(self, scores, source, decision):
        (verdict,) = judged(sample(("a", 2, source)), scored(*scores))
        assert (verdict.decision, verdict.level_after) == (decision, None)
        assert verdict.reason == (ANSWERS if decision == "promoted" else FALSE_NEGATIVE)

    def test_it_must_answer_as_well_as_positives_do(self):
        assert judged(sample(("a", 2)), scored(0.6, positive=0.4))[0].decision == "dropped"

    def test_those_who_were_asked_first_must_agree(self):
        asked_again = scored(0.95).then([result(1.0, scorer="second")])
        assert judged(sample(("a", 2)), asked_again)[0].decision == "dropped"

    @pytest.mark.parametrize(("grade", "decision"), [(3.0, "promoted"), (2.9, "promoted"), (2.4, "dropped")])
    def test_an_llm_finds_so_if_it_says_so_mostly(self, grade, decision):
        asked_again = scored(1.05).then([result(grade / 3, scorer="llm")])
        assert judged(sample(("a", 2)), asked_again)[0].decision == decision

    def test_it_can_be_switched_off(self):
        assert judged(sample(("a", 2)), 1.5, promote=False)[0].decision == "dropped"

    def test_it_becomes_a_sample_with_the_same_negatives(self):
        one = sample((WORDS["a"], 1), (WORDS["c"], 3))
        own, new = apply_verdicts(one, judged(one, 0.1, 1.2))
        assert [n.text for n in own.negatives] == [n.text for n in new.negatives] == [WORDS["a"]]
        assert (own.positive, own.id) == (one.positive, one.id)
        assert (new.positive, new.query, new.group) == (WORDS["c"], one.query, one.group)
        assert new.id != one.id


class TestGivenTexts:
    """Negatives of others' data have no levels."""

    @pytest.mark.parametrize(
        ("score", "level"), [(-3, 1), (0, 1), (0.24, 1), (0.25, 2), (0.5, 3), (0.75, 4), (0.999, 4), (7, 4)]
    )
    def test_the_level_is_the_place_on_the_scale(self, score, level):
        assert level_of(score, 4) == level

    def test_they_get_levels_and_several_may_share_one(self):
        one = sample(("a", None, "external"), ("b", None, "external"), ("c", None, "external"))
        verdicts = judged(one, 0.8, 0.1, 0.2)
        assert told(verdicts) == [("kept", 4, ""), ("kept", 1, ""), ("kept", 1, "")]
        assert {v.level_before for v in verdicts} == {None}
        (after,) = apply_verdicts(one, verdicts)
        assert [(n.text, n.level) for n in after.negatives] == [("b", 1), ("c", 1), ("a", 4)]


@pytest.mark.parametrize(
    ("score", "source", "doubt"),
    [(2.0, "mined", True), (0.8, "mined", True), (0.6, "mined", False), (0.6, "llm", True), (0.2, "llm", False)],
)
def test_doubt_is_nearness_to_the_border(score, source, doubt):
    negative = Negative(text="a", level=1, source=source)
    allowed = rules(doubt=0.2, second_opinion=["other"], doubt_written=0.5)
    assert is_in_doubt(negative, scored(score), allowed) == doubt


def test_by_default_texts_of_the_corpus_are_never_in_doubt():
    assert not is_in_doubt(Negative(text="a", level=1, source="mined"), scored(0.9), rules())
    assert not is_in_doubt(Negative(text="a", level=1, source="mined"), scored(nan), rules())
    assert not is_in_doubt(Negative(text="a", level=1, source="llm"), scored(nan), rules())  # it goes, whatever is said
    assert is_in_doubt(Negative(text="a", level=1, source="llm"), scored(0.9), rules())


def test_those_who_are_asked_again_decide_as_far_as_their_scores_are_numbers():
    first = scored(0.97)
    second = first.then([result(0.1, scorer="judge"), result(nan, scorer="broken")])
    assert [one.scorer for one in second.deciding] == ["judge"]
    assert [one.scorer for one in second.earlier] == ["scorer 0", "broken"]
    unread = first.then([result(nan, scorer="llm")])
    assert (unread.deciding, [one.scorer for one in unread.earlier]) == (first.deciding, ["llm"])


def test_an_llm_s_grade_decides_and_says_nothing_of_the_order():
    texts = sample(*((text, level, "llm") for level, text in enumerate("abc", 1)))
    graded = [
        Scores((result(g, scorer="llm"),), earlier=scored(s).deciding) for g, s in ((0.3, 0.1), (0.1, 0.5), (0.9, 0.3))
    ]
    verdicts = judged(texts, *graded, judge_margin=0.5)
    assert told(verdicts) == [("kept", 1, ""), ("kept", 2, ""), ("dropped", None, FALSE_NEGATIVE)]
    assert [(v.score, v.positive_score) for v in verdicts] == [(0.1, 1.0), (0.5, 1.0), (0.3, 1.0)]
    assert [len(v.results) for v in verdicts] == [2, 2, 2]


def test_where_only_an_llm_was_asked_its_grades_are_all_there_is():
    verdicts = judged(sample(("a", 1), ("b", 2)), *(Scores((result(g, scorer="llm"),)) for g in (0.3, 0.2)))
    assert [v.level_after for v in verdicts] == [2, 1]


@pytest.mark.parametrize(("score", "weak"), [(-0.1, True), (0.0, False), (1.0, False), (nan, True)])
def test_a_positive_no_nearer_than_a_random_text_is_weak(score, weak):
    assert is_weak(score, rules(weakest_positive=0.0)) == weak


scores = st.floats(-2, 2) | st.just(nan)
sources = st.sampled_from(["llm", "mined", "random", "external"])
rows = st.lists(
    st.tuples(st.integers(1, 4), sources, st.lists(scores, min_size=1, max_size=1), st.none() | scores), max_size=5
)
margins = st.fixed_dictionaries(
    {"margin": st.floats(0, 1), "min_gap": st.floats(0, 0.5), "relative_margin": st.floats(0, 0.9)}
)


def built(rows):
    texts = ["apples ripen", "buses run", "cups break", "doors creak", "eggs boil"]
    one = sample(*((text, level, source) for text, (level, source, *_) in zip(texts, rows, strict=False)))
    return one, [scored(*own, sibling=sibling) for *_, own, sibling in rows]


@settings(deadline=None)
@given(rows, margins)
def test_every_negative_has_one_verdict_that_agrees_with_itself(rows, margins):
    one, scores_ = built(rows)
    verdicts = decided(one, scores_, rules(**margins), LEVELS)
    assert [(v.sample, v.text) for v in verdicts] == [(one.id, n.text) for n in one.negatives]
    for verdict in verdicts:
        assert (verdict.level_after is None) == (verdict.decision in ("dropped", "promoted"))
        assert (verdict.decision == "kept") == (verdict.reason == "")
        if verdict.decision == "kept":
            assert verdict.level_before in (None, verdict.level_after)


@settings(deadline=None)
@given(rows, margins)
def test_what_stays_rises_with_the_score_has_the_levels_it_had_and_keeps_the_margin(rows, margins):
    one, scores_ = built(rows)
    verdicts = decided(one, scores_, rules(**margins), LEVELS)
    own, *promoted = apply_verdicts(one, verdicts)
    graded = [v for v in verdicts if v.level_before is not None and v.level_after is not None]
    distances = [v.score - v.positive_score for v in sorted(graded, key=lambda v: (v.level_after, v.score))]
    assert distances == sorted(distances)
    graded.sort(key=lambda v: v.level_after)
    assert sorted(v.level_before for v in graded) == [v.level_after for v in graded]
    for verdict in verdicts:
        if verdict.level_after is not None:
            assert verdict.score <= verdict.positive_score - margins["margin"]
    left = sorted(v.score for v in verdicts if v.level_after is not None)
    assert all(high - low >= margins["min_gap"] - 1e-9 for low, high in pairwise(left))
    assert len(promoted) == sum(v.decision == "promoted" for v in verdicts)
    assert own.model_copy(update={"negatives": ()}) == one.model_copy(update={"negatives": ()})


@settings(deadline=None)
@given(rows, st.floats(0, 1), st.floats(0, 1))
def test_a_wider_margin_never_lets_more_through(rows, margin, more):
    one, scores_ = built(rows)
    left = [
        sum(v.level_after is not None for v in decided(one, scores_, rules(margin=value), LEVELS))
        for value in (margin, margin + more)
    ]
    assert left[1] <= left[0]
