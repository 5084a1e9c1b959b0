"""What samples of one query say of one text agrees."""

from hypothesis import given
from hypothesis import strategies as st

from finegrade.config import VerificationConfig
from finegrade.records import Negative, Sample, ScorerResult
from finegrade.verification.rules import (
    ANSWERS,
    FALSE,
    FALSE_NEGATIVE,
    NEARLY_ANSWERS,
    NO_SCORE,
    THE_POSITIVE,
    Scores,
    agree,
    judge_sample,
    why_false,
)

SOME_REASON = ["", NO_SCORE, FALSE_NEGATIVE, ANSWERS]


def made(query, positive, source="mined", **said):
    """A sample with negatives: text=why it is none."""
    negatives = tuple(Negative(text=text, level=1, source=source) for text in said)
    one = Sample(id=f"{query} {positive}", query=query, positive=positive, negatives=negatives, group="g")
    return one, list(said.values())


def agreed(*rows):
    samples, false = zip(*rows, strict=True)
    return agree(samples, false)


def test_what_is_false_beside_one_positive_is_false_beside_all_wherever_its_sample_lies():
    found = agreed(made("q", "p1", a="", b=FALSE_NEGATIVE), made("other", "p", b=""), made("q", "p2", a=ANSWERS, b=""))
    assert found == [[NEARLY_ANSWERS, FALSE_NEGATIVE], [""], [ANSWERS, FALSE_NEGATIVE]]


def test_a_text_becomes_a_positive_once():
    found = agreed(made("q", "p1", a=ANSWERS), made("q", "p2", a=ANSWERS, p1=ANSWERS))
    assert found == [[ANSWERS], [NEARLY_ANSWERS, THE_POSITIVE]]


def test_equal_negatives_of_one_sample_are_promoted_once():
    one, false = made("q", "p", a=ANSWERS)
    twice = one.model_copy(update={"negatives": one.negatives * 2})
    assert agreed((twice, false * 2)) == [[ANSWERS, NEARLY_ANSWERS]]


def test_what_is_nearly_a_promoted_text_is_neither_a_negative_nor_promoted_in_any_sample_of_the_query():
    long = "apples ripen early where the summer is long and the nights are warm, and late elsewhere"
    first = made("q", "p1", **{long: ANSWERS, long + " too": "", "the " + long: ANSWERS})
    second = made("q", "p2", **{long + " again": "", "other": ""})
    written = made("q", "p3", source="llm", **{long + " not": ""})
    assert agreed(first, second, written) == [[ANSWERS, NEARLY_ANSWERS, NEARLY_ANSWERS], [NEARLY_ANSWERS, ""], [""]]


def test_a_lone_sample_agrees_with_itself():
    assert agreed(made("q", "p", x=FALSE_NEGATIVE, X="")) == [[FALSE_NEGATIVE, FALSE_NEGATIVE]]


def test_another_positive_of_the_query_is_no_negative():
    assert agreed(made("q", "p1", P2=""), made("q", "p2")) == [[THE_POSITIVE], []]


def test_what_one_sample_has_no_score_of_another_may_keep():
    assert agreed(made("q", "p1", a=NO_SCORE), made("q", "p2", a="")) == [[NO_SCORE], [""]]


def test_what_leaves_because_it_is_nearly_promoted_takes_no_other_along():
    long = "apples ripen early where the summer is long and the nights are warm, and late elsewhere"
    one, _ = made("q", "p", **{long: "", long + " too": "", "buses run late": ""})
    results = [
        ScorerResult(scorer="one", positive=1.0, score=score, raw=score, sibling=None) for score in (1.2, 0.5, 0.45)
    ]
    scores, rules = [Scores((one,)) for one in results], VerificationConfig(min_gap=0.1)
    [false] = agree([one], [why_false(one, scores, rules)])
    told = [(verdict.decision, verdict.reason) for verdict in judge_sample(one, scores, false, rules, 4)]
    assert told == [("promoted", ANSWERS), ("dropped", NEARLY_ANSWERS), ("kept", "")]


said = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(SOME_REASON), max_size=4)


@given(
    st.lists(
        st.tuples(st.sampled_from(["q", "r"]), st.sampled_from("abwxyz"), said),
        min_size=1,
        max_size=5,
        unique_by=lambda one: one[:2],
    )
)
def test_afterwards_no_text_is_a_positive_and_a_negative_of_a_query_and_nothing_new_stays(rows):
    rows = [
        (query, positive, {text: why for text, why in one.items() if text != positive}) for query, positive, one in rows
    ]
    samples, before = zip(*(made(query, positive, **one) for query, positive, one in rows), strict=True)
    after = agree(samples, before)
    positives = [(one.query, one.positive) for one in samples]
    left = set()
    for sample, old, new in zip(samples, before, after, strict=True):
        for negative, was, now in zip(sample.negatives, old, new, strict=True):
            assert now == was or now in FALSE
            assert (now == "") <= (was == "")
            if now == ANSWERS:
                positives.append((sample.query, negative.text))
            elif not now:
                left.add((sample.query, negative.text))
    assert len(set(positives)) == len(positives)
    assert not left & set(positives)
    assert agree(samples, after) == after
