"""Every number of the report's section on verification, against its plain definition."""

from itertools import combinations, groupby
from math import inf, isfinite, nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.records import IN_BENCHMARK, ScorerResult, Verdict
from finegrade.verification.findings import DISPUTED, TO_READ, Violations, beside_their_samples, dispute, find
from finegrade.verification.rules import (
    ANSWERS,
    CONTRADICTS,
    FALSE,
    FALSE_NEGATIVE,
    NEARLY_ANSWERS,
    OUT_OF_ORDER,
    REPEATS,
    THE_POSITIVE,
)
from helpers.verification import sample


def result(scorer, score, positive=1.0):
    return ScorerResult(scorer=scorer, positive=positive, score=score, sibling=None, raw=score)


def verdict(name="1", score=0.5, before=1, after=1, *, source="mined", reason="", positive=1.0, results=None, text="t"):
    return Verdict(
        sample=name, text=text, source=source, level_before=before, level_after=after, reason=reason,
        decision="promoted" if reason == ANSWERS else "dropped" if after is None else "kept",
        positive_score=positive, score=score, sibling_score=None,
        results=(result("one", score, positive),) if results is None else results,
    )  # fmt: skip


levels = st.none() | st.integers(1, 4)
scores = st.floats(-2, 2) | st.sampled_from([0.0, 0.5, nan, inf])
results = st.lists(st.tuples(st.sampled_from("abc"), scores, scores), max_size=3, unique_by=lambda one: one[0])
verdicts = st.builds(
    lambda name, score, before, after, source, reason, positive, others: verdict(
        str(name), score, before, after, source=source, reason=reason, positive=positive,
        results=tuple(result(*one) for one in others),
    ),
    st.integers(0, 3), scores, levels, levels, st.sampled_from(["llm", "mined", "random", "external"]),
    st.sampled_from(["", *sorted(FALSE), f"{IN_BENCHMARK} X", REPEATS, OUT_OF_ORDER, CONTRADICTS]), scores, results,
)  # fmt: skip
runs = st.lists(verdicts, max_size=30).map(lambda rows: sorted(rows, key=lambda row: row.sample))


# order


@given(st.lists(st.tuples(st.integers(1, 4), st.floats(-1, 1) | st.sampled_from([0.0, 0.5])), max_size=8))
def test_violations_are_pairs_of_which_the_higher_level_scores_lower(negatives):
    found = Violations()
    found.add(negatives)
    pairs = [tuple(sorted(pair)) for pair in combinations(negatives, 2) if pair[0][0] != pair[1][0]]
    wrong = sum(higher[1] < lower[1] for lower, higher in pairs)
    assert (found.pairs, found.wrong) == (len(pairs), wrong)
    assert found.share == (wrong / len(pairs) if pairs else 0)


def test_a_violation_by_hand():
    found = Violations()
    found.add([(1, 0.4), (2, 0.3), (4, 0.4)])  # 2 below 1; equal scores are in order
    found.add([(3, 0.9), (1, 0.1)])
    assert (found.wrong, found.pairs, found.share) == (1, 4, 0.25)


def plain_orders(rows, level):
    found = {}
    for _, of_sample in groupby(rows, key=lambda row: row.sample):
        seen = [(one.scorer, getattr(row, level), one.score - one.positive) for row in of_sample for one in row.results]
        for left, right in combinations([one for one in seen if one[1] and isfinite(one[2])], 2):
            if left[0] == right[0] and left[1] != right[1]:
                lower, higher = sorted((left, right), key=lambda one: one[1])
                pairs, wrong = found.get(left[0], (0, 0))
                found[left[0]] = (pairs + 1, wrong + (higher[2] < lower[2]))
    return found


@settings(deadline=None)
@given(runs)
def test_order_is_counted_scorer_by_scorer_before_and_after(rows):
    orders = find(rows).orders
    for level, side in (("level_before", "before"), ("level_after", "after")):
        seen = {name: getattr(order, side) for name, order in orders.items()}
        assert {name: (one.pairs, one.wrong) for name, one in seen.items() if one.pairs} == plain_orders(rows, level)


def test_a_scorer_compares_by_how_far_a_text_is_from_its_positive():
    """Of a cascade's second scorer the positives of two negatives need not score alike."""
    rows = [
        verdict(before=1, after=2, results=(result("first", 0.9), result("second", 0.5, 0.2))),
        verdict(before=2, after=1, results=(result("first", 0.1), result("second", 0.6, 0.9))),
    ]
    orders = find(rows).orders
    assert {name: (one.before.wrong, one.after.wrong) for name, one in orders.items()} == {
        "first": (1, 0),
        "second": (1, 0),
    }


# distances


def test_boxes_hold_the_distance_from_the_positive_by_level_before_and_after():
    rows = [
        verdict(score=0.25, positive=1.0, before=1, after=2),
        verdict(score=0.5, positive=0.25, before=2, after=None),
        verdict(score=0.5, positive=1.0, before=None, after=3),
    ]
    found = find(rows)
    assert {level: list(one.values) for level, one in found.before.items()} == {1: [-0.75], 2: [0.25]}
    assert {level: list(one.values) for level, one in found.after.items()} == {2: [-0.75], 3: [-0.5]}


@settings(deadline=None)
@given(runs)
def test_what_is_no_number_is_counted_and_is_in_no_box_and_not_disputed(rows):
    found = find(rows)
    numbers = [row for row in rows if isfinite(row.score - row.positive_score)]
    assert found.no_number == len(rows) - len(numbers)
    assert len(list(found.disputed)) == min(DISPUTED, len(numbers))
    for side, level in ((found.before, "level_before"), (found.after, "level_after")):
        assert all(isfinite(value) for one in side.values() for value in one.values)
        assert sum(len(one.values) for one in side.values()) == sum(getattr(row, level) is not None for row in numbers)


def test_of_many_distances_of_a_level_some_are_drawn(monkeypatch):
    monkeypatch.setattr("finegrade.verification.findings.DRAWN", 7)
    rows = [verdict(str(i), score=i / 100) for i in range(100)]
    values = find(rows).before[1].values
    assert len(values) == 7
    assert set(values) <= {row.score - 1 for row in rows}


# false negatives


@settings(deadline=None)
@given(runs)
def test_false_negatives_are_counted_by_source_level_and_how_it_shows(rows):
    found = find(rows).false
    keys = [(one.source, one.level) for one in found]
    assert set(keys) == {(row.source, row.level_before) for row in rows}
    assert keys == sorted(set(keys), key=lambda key: (key[0], -(key[1] or 0)))
    for one in found:
        reasons = [r.reason for r in rows if (r.source, r.level_before) == (one.source, one.level)]
        shown = [
            sum(reason in kind for reason in reasons)
            for kind in ((THE_POSITIVE,), (FALSE_NEGATIVE,), (ANSWERS, NEARLY_ANSWERS, f"{IN_BENCHMARK} X"))
        ]
        assert (one.negatives, [one.the_positive, one.too_near, one.answers]) == (len(reasons), shown)
        assert one.false == sum(shown)


def test_a_false_negative_by_hand():
    reasons = [THE_POSITIVE, FALSE_NEGATIVE, FALSE_NEGATIVE, ANSWERS, REPEATS, OUT_OF_ORDER, ""]
    (one,) = find([verdict(str(i), before=3, reason=reason) for i, reason in enumerate(reasons)]).false
    assert one == ("mined", 3, 7, 1, 2, 1)
    assert one.false == 4


# disputed


def test_where_one_scorer_was_asked_those_are_disputed_that_are_nearest_to_even():
    distances = [(-1) ** i * (i * 7 % 50 + 1) / 100 for i in range(50)]
    rows = [verdict(str(i), score=1 + distance) for i, distance in enumerate(distances)]
    listed = [row.score - 1 for row in find(rows).disputed]
    assert DISPUTED == 20
    assert listed == pytest.approx(sorted(distances, key=abs)[:20])


def test_where_several_were_asked_those_are_disputed_that_are_farthest_apart():
    apart = [i * 7 % 50 / 100 for i in range(50)]
    both = [
        verdict(str(i), results=(result("a", 0.5), result("b", 0.5 - by), result("c", nan)))
        for i, by in enumerate(apart)
    ]
    alone = [verdict("alone", score=1.0)]
    assert [dispute(row) for row in find(alone + both).disputed] == pytest.approx(sorted(apart, reverse=True)[:20])


def test_of_equally_disputed_ones_the_first_are_listed():
    rows = [verdict(str(i), score=0.5) for i in range(DISPUTED + 5)]
    assert list(find(rows).disputed) == rows[:DISPUTED]


def test_disputed_verdicts_stand_beside_their_samples():
    rows = [verdict("2"), verdict("gone"), verdict("1"), verdict("2", text="other")]
    found = beside_their_samples(rows, (sample(number) for number in range(5)))
    assert [(one["verdict"], one["sample"].id) for one in found] == [(rows[0], "2"), (rows[2], "1"), (rows[3], "2")]


# samples to read


def test_samples_to_read_are_drawn_those_with_an_llm_s_text_first():
    rows = [
        verdict(str(i), source=source) for i in range(60) for source in ("mined", "llm" if i % 10 == 0 else "random")
    ]
    drawn = list(find(rows, seed=1).to_read)
    assert [[row.sample for row in of_sample] for of_sample in drawn] == [[one[0].sample] * 2 for one in drawn]
    names = [of_sample[0].sample for of_sample in drawn]
    assert len(set(names)) == TO_READ
    assert set(names[:6]) == {str(i) for i in range(0, 60, 10)}
    assert names == [of_sample[0].sample for of_sample in find(rows, seed=1).to_read]
    assert names != [of_sample[0].sample for of_sample in find(rows, seed=2).to_read]


def test_nothing_gives_nothing():
    found = find([])
    assert (list(found.disputed), list(found.to_read), found.false, found.orders, found.no_number) == (
        [],
        [],
        [],
        {},
        0,
    )
