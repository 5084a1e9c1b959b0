"""The plan: full batches, levels in the schedule's order, no text against itself within a batch."""

from collections import Counter, defaultdict
from itertools import pairwise, permutations

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from finegrade.errors import InputError
from finegrade.records import Negative, Sample
from finegrade.text import normalised
from finegrade.training.curriculum import Plan, PlanRow, compile_plan

SCHEDULES = ("coarse-to-fine", "reverse", "shuffled", "fixed:1", "fixed:2")
texts = st.integers(0, 40).map(lambda i: f"Text {i}.")
queries = st.integers(0, 40).map(lambda i: f"Query {i}?")


@st.composite
def samples(draw: st.DrawFn) -> list[Sample]:
    """Samples that share queries, positives and negatives with each other, at some of three levels."""
    made = []
    for number in range(draw(st.integers(1, 24))):
        levels = draw(st.lists(st.integers(1, 3), unique=True, max_size=3))
        negatives = []
        for level in sorted(levels):
            sibling = draw(st.none() | queries)
            source = "llm" if sibling else "mined"
            negatives.append(Negative(text=draw(texts), level=level, source=source, sibling=sibling))
        made.append(
            Sample(
                id=str(number),
                query=draw(queries),
                positive=draw(texts),
                negatives=tuple(negatives),
                group="g",
            )
        )
    return made


def distinct(count: int, levels: int = 4, llm: frozenset[int] = frozenset()) -> list[Sample]:
    """Samples without any text in common, each with every level; some with an LLM's text at the hardest."""
    return [
        Sample(
            id=str(i),
            query=f"query {i}",
            positive=f"positive {i}",
            negatives=tuple(
                Negative(
                    text=f"negative {i} {level}",
                    level=level,
                    source="llm" if i in llm and level == levels else "mined",
                )
                for level in range(1, levels + 1)
            ),
            group="g",
        )
        for i in range(count)
    ]


def uses(plan: Plan) -> Counter[str]:
    return Counter(row.sample.id for row in plan.rows)


def step_rows(plan: Plan) -> list[list[PlanRow]]:
    size = plan.batch_size
    return [list(plan.rows[start : start + size]) for start in range(0, len(plan.rows), size)]


@settings(max_examples=120, deadline=None)
@given(
    samples=samples(),
    mined=st.lists(st.just("") | texts, min_size=24, max_size=24),
    schedule=st.sampled_from(SCHEDULES),
    steps=st.integers(1, 7),
    size=st.integers(2, 6),
    seed=st.integers(0, 9),
)
def test_every_plan_keeps_its_promises_or_says_that_it_cannot(
    samples: list[Sample], mined: list[str], schedule: str, steps: int, size: int, seed: int
) -> None:
    mined = mined[: len(samples)]
    try:
        plan = compile_plan(samples, schedule, steps, size, seed, mined)
    except InputError as error:
        assert error.remedy
        return
    assert len(plan.rows) == steps * size
    assert len(plan.levels) == steps
    assert all(row.negative in row.sample.negatives for row in plan.rows)
    for level, rows in zip(plan.levels, step_rows(plan), strict=True):
        assert {row.negative.level for row in rows} == {level} or schedule == "shuffled"
        assert_no_clash(rows, samples)
    assert_order(plan, schedule)
    assert {(row.sample.id, row.mined) for row in plan.rows} <= {(s.id, m) for s, m in zip(samples, mined, strict=True)}
    assert compile_plan(samples, schedule, steps, size, seed, mined) == plan


def assert_no_clash(rows: list[PlanRow], samples: list[Sample]) -> None:
    """No text of a row answers the query of another one."""
    for row, other in permutations(rows, 2):
        asked = normalised(other.sample.query)
        answers = {normalised(s.positive) for s in samples if normalised(s.query) == asked}
        assert normalised(row.sample.query) != asked
        assert normalised(row.sample.positive) not in answers
        assert normalised(row.negative.text) not in answers
        assert normalised(row.mined) not in answers
        assert normalised(row.negative.sibling or "") != asked


def assert_order(plan: Plan, schedule: str) -> None:
    if schedule == "shuffled":
        assert set(plan.levels) == {0}
    elif schedule.startswith("fixed"):
        assert set(plan.levels) == {int(schedule[-1])}
    else:
        ordered = plan.levels if schedule == "coarse-to-fine" else plan.levels[::-1]
        assert all(earlier <= later for earlier, later in pairwise(ordered))


@settings(max_examples=60, deadline=None)
@given(count=st.integers(8, 60), steps=st.integers(4, 12), size=st.integers(2, 8), seed=st.integers(0, 99))
def test_each_sample_is_used_once_before_any_is_used_twice(count: int, steps: int, size: int, seed: int) -> None:
    found = uses(compile_plan(distinct(count), "coarse-to-fine", steps, size, seed))
    assert max(found.values()) == 1 or len(found) == count


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 99), steps=st.integers(4, 12))
def test_the_steps_are_dealt_out_equally_over_the_levels(seed: int, steps: int) -> None:
    found = Counter(compile_plan(distinct(60), "coarse-to-fine", steps, 4, seed).levels)
    assert max(found.values()) - min(found[level] for level in range(1, 5)) <= 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 99), llm=st.frozensets(st.integers(0, 39), min_size=1, max_size=8))
def test_what_an_llm_wrote_comes_before_what_was_mined(seed: int, llm: frozenset[int]) -> None:
    plan = compile_plan(distinct(40, llm=llm), "fixed:4", 2, 4, seed)
    assert {row.sample.id for row in plan.rows if row.negative.source == "llm"} == {str(i) for i in llm}


def test_the_samples_that_alone_have_a_level_are_kept_for_it() -> None:
    scarce = distinct(8, levels=2)
    plenty = [
        s.model_copy(
            update={
                "id": f"p{s.id}",
                "query": f"p {s.query}",
                "positive": f"p {s.positive}",
                "negatives": s.negatives[:1],
            }
        )
        for s in distinct(8)
    ]
    plan = compile_plan([*scarce, *plenty], "coarse-to-fine", 2, 8, 0)
    assert max(uses(plan).values()) == 1


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 99), steps=st.integers(4, 12))
def test_shuffled_holds_the_rows_of_coarse_to_fine(seed: int, steps: int) -> None:
    plans = [compile_plan(distinct(100), name, steps, 8, seed) for name in ("coarse-to-fine", "shuffled", "reverse")]
    counted = [Counter((row.sample.id, row.negative.level) for row in plan.rows) for plan in plans]
    assert counted[0] == counted[1] == counted[2]
    if steps >= 4:
        assert plans[0].rows != plans[1].rows


def test_another_seed_gives_another_order() -> None:
    assert (
        compile_plan(distinct(40), "coarse-to-fine", 4, 8, 0).rows
        != compile_plan(distinct(40), "coarse-to-fine", 4, 8, 1).rows
    )


@pytest.mark.parametrize(
    ("given_samples", "schedule", "size"),
    [
        ([], "coarse-to-fine", 2),
        (distinct(5), "coarse-to-fine", 6),
        (distinct(5), "fixed:9", 2),
        (distinct(1) * 9, "coarse-to-fine", 2),
    ],
    ids=["no samples", "fewer than a batch", "no such level", "always the same"],
)
def test_what_cannot_be_filled_is_reported(given_samples: list[Sample], schedule: str, size: int) -> None:
    with pytest.raises(InputError, match=r"training: got .*; wanted .*samples"):
        compile_plan(given_samples, schedule, 4, size, 0)


def test_samples_that_verification_left_empty_are_passed_over() -> None:
    empty = [s.model_copy(update={"negatives": (), "id": f"empty {s.id}"}) for s in distinct(5)]
    plan = compile_plan([*empty, *distinct(8)], "coarse-to-fine", 4, 4, 0)
    assert not any(name.startswith("empty") for name in uses(plan))


@settings(max_examples=60, deadline=None)
@given(data=samples(), seed=st.integers(0, 9))
def test_coarse_to_fine_trains_easy_before_hard_for_every_level_that_has_rows(data: list[Sample], seed: int) -> None:
    levels = sorted({n.level for s in data for n in s.negatives})
    assume(levels)
    try:
        plan = compile_plan(data, "coarse-to-fine", len(levels), 2, seed)
    except InputError:
        return
    first = defaultdict(list)
    for step, level in enumerate(plan.levels):
        first[level].append(step)
    assert list(first) == levels
