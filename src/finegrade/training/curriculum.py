"""From a schedule to a plan: the exact order of the training rows.

Every row of the plan is one sample at one level. All batches are full, and no batch holds a text that would be a
false negative within it: the same query twice, a text that answers another row's query, or a rewritten text beside the
sibling query that it was written to answer. The mined negative of the control row counts too, so that no row of the
score table trains on worse batches than another.
"""

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from finegrade.errors import InputError
from finegrade.records import Negative, Sample
from finegrade.text import normalised


@dataclass(frozen=True)
class PlanRow:
    """One training row: a sample, the one of its negatives that it is trained with, and the control row's text."""

    sample: Sample
    negative: Negative
    mined: str = ""


@dataclass(frozen=True)
class Plan:
    """The training rows in order, ``batch_size`` a step, and the level of each step; 0 where a step mixes levels."""

    rows: tuple[PlanRow, ...]
    levels: tuple[int, ...]
    batch_size: int


def compile_plan(
    samples: Sequence[Sample], schedule: str, steps: int, batch_size: int, seed: int, mined: Sequence[str] = ()
) -> Plan:
    """Compiles a schedule to a plan.

    Args:
        samples: Verified samples; those without negatives are passed over.
        schedule: "coarse-to-fine" trains level 1, then 2, ... (Pan et al., ACL 2025, figure 1); "reverse" the other way
            round; "fixed:K" level K only; "shuffled" draws from coarse-to-fine's rows in random order.
        steps: Optimizer steps, spread evenly over the levels.
        batch_size: Rows a step.
        seed: Of the draws.
        mined: For each sample the hardest mined text, which the control row is trained with; empty: it has none.

    Raises:
        InputError: The samples cannot fill the batches.
    """
    levels = sorted({negative.rank for sample in samples for negative in sample.negatives})
    if schedule.startswith("fixed:"):
        levels = [level for level in levels if level == int(schedule.removeprefix("fixed:"))]
    if not levels:
        wanted, remedy = f"samples with negatives for {schedule}", "Lower verification.margin, or give more pairs."
        raise InputError("training", got="none", wanted=wanted, remedy=remedy)
    check_steps(steps, len(levels))
    number = len(levels)
    steps_of = {level: steps * (i + 1) // number - steps * i // number for i, level in enumerate(levels)}
    answers = _answers(samples)
    beside = list(zip(samples, mined or [""] * len(samples), strict=True))
    rows_of = _deal(beside, answers, steps_of, batch_size, seed)
    if schedule == "shuffled":
        generator = random.Random(seed)
        rows = [row for level in levels for row in rows_of[level]]
        mixed = _fill(generator.sample(rows, len(rows)), answers, steps, batch_size, 0, generator)
        return Plan(tuple(mixed), (0,) * steps, batch_size)
    order = list(reversed(levels)) if schedule == "reverse" else levels
    step_levels = tuple(level for level in order for _ in range(steps_of[level]))
    return Plan(tuple(row for level in order for row in rows_of[level]), step_levels, batch_size)


def check_steps(steps: int, levels: int) -> None:
    """Each level needs a step."""
    if steps < levels:
        wanted = f"at least one step for each of {levels} levels"
        raise InputError("training.steps", got=steps, wanted=wanted, remedy="Raise it, or lower synthesis.levels.")


Answers = Mapping[str, frozenset[str]]
"""Normalised query -> every text that answers it, normalised."""


def _answers(samples: Sequence[Sample]) -> Answers:
    found: defaultdict[str, set[str]] = defaultdict(set)
    for sample in samples:
        found[normalised(sample.query)].add(normalised(sample.positive))
    return {query: frozenset(texts) for query, texts in found.items()}


def _deal(
    samples: Sequence[tuple[Sample, str]], answers: Answers, steps: dict[int, int], batch_size: int, seed: int
) -> dict[int, list[PlanRow]]:
    """Rows for every level: each sample is used once before any is used again, LLM-written texts before mined ones.

    The scarcest level chooses first, so that a sample that alone has it is not spent on another.
    """
    generator = random.Random(seed)
    used: dict[str, int] = {}
    offers: dict[int, list[PlanRow]] = {}
    for level in steps:
        offers[level] = [
            PlanRow(sample, n, text) for sample, text in samples for n in sample.negatives if n.rank == level
        ]
        generator.shuffle(offers[level])
    rows: dict[int, list[PlanRow]] = {}
    for level in sorted(steps, key=lambda level: (len(offers[level]), level)):
        ranked = sorted(offers[level], key=lambda row: (used.get(row.sample.id, 0), row.negative.source != "llm"))
        rows[level] = _fill(ranked, answers, steps[level], batch_size, level, generator)
        for row in rows[level]:
            used[row.sample.id] = used.get(row.sample.id, 0) + 1
    return rows


def _fill(
    ranked: Sequence[PlanRow], answers: Answers, steps: int, batch_size: int, level: int, generator: random.Random
) -> list[PlanRow]:
    """Takes the best rows, shuffles them, and fills batches without clashes; starts over where rows run out."""
    rows: list[PlanRow] = []
    waiting: list[PlanRow] = []
    fresh = list(ranked[: steps * batch_size])
    generator.shuffle(fresh)
    spare = iter(ranked[steps * batch_size :])
    for _ in range(steps):
        batch = _Batch(batch_size, answers)
        waiting = [row for row in waiting if not batch.take(row)]
        refills = 0
        while not batch.full:
            row = fresh.pop() if fresh else next(spare, None)
            if row is None:
                refills += 1
                if refills > 2:
                    wanted = f"enough different samples at level {level} for a batch of {batch_size}"
                    remedy = 'Lower training.batch_size, give more pairs, or set synthesis.miner = "dense".'
                    raise InputError("training", got=f"{len(ranked)} rows", wanted=wanted, remedy=remedy)
                fresh = list(ranked)
                generator.shuffle(fresh)
            elif not batch.take(row):
                waiting.append(row)
        rows.extend(batch.rows)
    return rows


class _Batch:
    def __init__(self, size: int, answers: Answers) -> None:
        self._size, self._all_answers = size, answers
        self.rows: list[PlanRow] = []
        self._queries: set[str] = set()
        self._siblings: set[str] = set()
        self._texts: set[str] = set()
        self._answers: set[str] = set()

    @property
    def full(self) -> bool:
        return len(self.rows) == self._size

    def take(self, row: PlanRow) -> bool:
        """Adds a row, unless the batch is full or the row clashes with one in it."""
        query, sibling = normalised(row.sample.query), normalised(row.negative.sibling or "")
        answers = self._all_answers[query]
        others = (row.sample.positive, row.negative.text, row.mined)
        texts = {normalised(text) for text in others if text}
        clash = (
            query in self._queries
            or query in self._siblings
            or sibling in self._queries
            or not texts.isdisjoint(self._answers)
            or not answers.isdisjoint(self._texts)
        )
        if self.full or clash:
            return False
        self.rows.append(row)
        self._queries.add(query)
        self._texts |= texts
        self._answers |= answers
        if sibling:
            self._siblings.add(sibling)
        return True
