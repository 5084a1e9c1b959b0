"""What samples of one query say of one text agrees."""

from hypothesis import given
from hypothesis import strategies as st

from finegrade.agreement import agree
from finegrade.records import Negative, Sample, Verdict
from finegrade.verdicts import ANSWERS, FALSE, FALSE_NEGATIVE, NEARLY_ANSWERS, NO_GAP, THE_POSITIVE, apply_verdicts

REASONS = {"promoted": ANSWERS, "false": FALSE_NEGATIVE, "near": NO_GAP, "stays": ""}


def made(query, positive, **said):
    """A sample with a verdict a negative: text=what is said of it."""
    negatives = tuple(Negative(text=text, level=1, source="mined") for text in said)
    one = Sample(id=f"{query} {positive}", query=query, positive=positive, negatives=negatives, group="g")
    return one, [verdict(one, text, how) for text, how in said.items()]


def verdict(sample, text, how):
    decision = {"promoted": "promoted", "stays": "kept"}.get(how, "dropped")
    return Verdict(
        sample=sample.id, text=text, source="mined", level_before=1, level_after=1 if how == "stays" else None,
        decision=decision, reason=REASONS[how], positive_score=1.0, score=0.5, sibling_score=None, opinions=(),
    )  # fmt: skip


def told(judged):
    return [[(v.decision, v.reason) for v in verdicts] for _, verdicts in judged]


def test_what_is_false_beside_one_positive_is_false_beside_all_wherever_its_sample_lies():
    some = [
        made("q", "p1", a="stays", b="false"),
        made("other", "p", b="stays"),
        made("q", "p2", a="promoted", b="stays"),
    ]
    assert told(agree(some)) == [
        [("dropped", ANSWERS), ("dropped", FALSE_NEGATIVE)],
        [("kept", "")],
        [("promoted", ANSWERS), ("dropped", FALSE_NEGATIVE)],
    ]


def test_a_text_becomes_a_positive_once():
    some = [made("q", "p1", a="promoted"), made("q", "p2", a="promoted", p1="promoted")]
    assert told(agree(some)) == [[("promoted", ANSWERS)], [("dropped", NEARLY_ANSWERS), ("dropped", THE_POSITIVE)]]


def test_equal_negatives_of_one_sample_are_promoted_once():
    one, verdicts = made("q", "p", a="promoted")
    twice = one.model_copy(update={"negatives": one.negatives * 2})
    assert told(agree([(twice, verdicts * 2)])) == [[("promoted", ANSWERS), ("dropped", NEARLY_ANSWERS)]]


def test_what_is_nearly_a_promoted_text_is_neither_a_negative_nor_promoted_in_any_sample_of_the_query():
    long = "apples ripen early where the summer is long and the nights are warm, and late elsewhere"
    first = made("q", "p1", **{long: "promoted", long + " too": "stays", "the " + long: "promoted"})
    second = made("q", "p2", **{long + " again": "stays", "other": "stays"})
    of_llm, verdicts = made("q", "p3", **{long + " not": "stays"})
    written = [one.model_copy(update={"source": "llm"}) for one in verdicts]
    near = ("dropped", NEARLY_ANSWERS)
    assert told(agree([first, second, (of_llm, written)])) == [
        [("promoted", ANSWERS), near, near], [near, ("kept", "")], [("kept", "")],
    ]  # fmt: skip


def test_another_positive_of_the_query_is_no_negative():
    assert told(agree([made("q", "p1", P2="stays"), made("q", "p2")])) == [[("dropped", THE_POSITIVE)], []]


def test_reasons_that_are_no_matter_of_the_query_stay_where_they_are():
    assert told(agree([made("q", "p1", a="near"), made("q", "p2", a="stays")])) == [
        [("dropped", NO_GAP)],
        [("kept", "")],
    ]


said = st.dictionaries(st.sampled_from("abcd"), st.sampled_from(list(REASONS)), max_size=4)


@given(
    st.lists(
        st.tuples(st.sampled_from(["q", "r"]), st.sampled_from("abwxyz"), said),
        max_size=5,
        unique_by=lambda one: one[:2],
    )
)
def test_afterwards_no_text_is_a_positive_and_a_negative_of_a_query_and_nothing_new_stays(rows):
    rows = [
        (query, positive, {text: how for text, how in one.items() if text != positive}) for query, positive, one in rows
    ]
    before = [made(query, positive, **one) for query, positive, one in rows]
    after = agree(before)
    assert [sample for sample, _ in after] == [sample for sample, _ in before]
    samples = [sample for one in after for sample in apply_verdicts(*one)]
    assert len({(sample.query, sample.positive) for sample in samples}) == len(samples)
    for one in samples:
        positives = {other.positive for other in samples if other.query == one.query}
        assert not positives & {negative.text for negative in one.negatives}
    for (_, old), (_, new) in zip(before, after, strict=True):
        for was, now in zip(old, new, strict=True):
            assert now == was or (now.decision == "dropped" and now.reason in FALSE)
    assert agree(after) == after
