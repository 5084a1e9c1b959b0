"""What verification found, for the report: read in one pass over the verdicts.

Memory does not grow with them: it holds counts, 5,000 distances a level, the verdicts of one sample, the twenty most
disputed ones, and those of a dozen samples to read.
"""

import random
from bisect import bisect_right
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from math import isfinite
from operator import attrgetter, itemgetter
from typing import Any, NamedTuple

from finegrade.records import IN_BENCHMARK, Sample, Verdict
from finegrade.storage.streams import Best, Drawn
from finegrade.verification.rules import ANSWERS, FALSE_NEGATIVE, NEARLY_ANSWERS, THE_POSITIVE

DISPUTED = 20
TO_READ = 12
DRAWN = 5_000  # distances that are held for the boxes of a level; of more, so many are drawn


@dataclass
class Violations:
    """Pairs of one sample's negatives of which the one of the higher level scores lower."""

    wrong: int = 0
    pairs: int = 0

    def add(self, levels_and_scores: Iterable[tuple[int, float]]) -> None:
        """Counts the pairs of a sample that have different levels."""
        lower: list[float] = []  # scores of the levels below, ascending
        for _, of_level in groupby(sorted(levels_and_scores), key=itemgetter(0)):
            scores = [score for _, score in of_level]
            self.pairs += len(lower) * len(scores)
            self.wrong += sum(len(lower) - bisect_right(lower, score) for score in scores)
            lower = sorted(lower + scores)

    @property
    def share(self) -> float:
        """Of all pairs; 0 where there are none."""
        return self.wrong / self.pairs if self.pairs else 0.0


@dataclass
class Order:
    """Levels in the wrong order before and after verification, as one scorer sees it."""

    before: Violations = field(default_factory=Violations)
    after: Violations = field(default_factory=Violations)


class FalseNegatives(NamedTuple):
    """How many of the negatives of a source and level (None: without one) are false, and how that shows."""

    source: str
    level: int | None
    negatives: int
    the_positive: int
    too_near: int
    answers: int

    @property
    def false(self) -> int:
        """All of them."""
        return self.the_positive + self.too_near + self.answers


class _Distances(dict[int, Drawn[float]]):
    def __missing__(self, level: int) -> Drawn[float]:
        self[level] = Drawn[float](DRAWN, level)
        return self[level]


@dataclass
class Findings:
    """What the report shows.

    Attributes:
        before, after: Level -> how far its negatives score above their positives, before and after verification.
        orders: Scorer -> order violations, by its own scores.
        false: Counts by source and level.
        no_number: Negatives whose score is no number: they are in no box, and not disputed.
        disputed: The verdicts that the scorers agree least about, those farthest apart first.
        to_read: The verdicts of some samples, drawn at random, those with an LLM-written text first.
    """

    before: _Distances = field(default_factory=_Distances)
    after: _Distances = field(default_factory=_Distances)
    orders: defaultdict[str, Order] = field(default_factory=lambda: defaultdict(Order))
    false: list[FalseNegatives] = field(default_factory=list)
    no_number: int = 0
    disputed: Best[Verdict] = field(default_factory=lambda: Best(DISPUTED))
    to_read: Best[list[Verdict]] = field(default_factory=lambda: Best(TO_READ))


def find(verdicts: Iterable[Verdict], seed: int = 0) -> Findings:
    """Reads the verdicts once; those of a sample are beside each other. The seed draws the samples to read."""
    found, dice = Findings(), random.Random(seed)
    reasons: Counter[tuple[str, int | None, str]] = Counter()
    for _, of_sample in groupby(verdicts, key=attrgetter("sample")):
        rows = list(of_sample)
        _add_orders(rows, found.orders)
        found.to_read.offer((any(row.source == "llm" for row in rows), dice.random()), rows)
        for row in rows:
            # a near copy of an answer answers too, and so does a text that only a benchmark keeps from being promoted
            answers = row.reason == NEARLY_ANSWERS or row.reason.startswith(IN_BENCHMARK)
            reasons[row.source, row.level_before, ANSWERS if answers else row.reason] += 1
            distance = row.score - row.positive_score
            if not isfinite(distance):
                found.no_number += 1
                continue
            for levels, level in ((found.before, row.level_before), (found.after, row.level_after)):
                if level is not None:
                    levels[level].add(distance)
            found.disputed.offer(dispute(row), row)
    found.false = _false_negatives(reasons)
    return found


def _add_orders(rows: Sequence[Verdict], orders: defaultdict[str, Order]) -> None:
    of_scorer: defaultdict[str, list[tuple[Verdict, float]]] = defaultdict(list)
    for row in rows:
        for one in row.results:
            if isfinite(distance := one.score - one.positive):
                of_scorer[one.scorer].append((row, distance))
    for scorer, seen in of_scorer.items():
        order = orders[scorer]
        order.before.add((row.level_before, distance) for row, distance in seen if row.level_before is not None)
        order.after.add((row.level_after, distance) for row, distance in seen if row.level_after is not None)


def _false_negatives(reasons: Counter[tuple[str, int | None, str]]) -> list[FalseNegatives]:
    """By source, the hardest level first."""
    negatives: Counter[tuple[str, int | None]] = Counter()
    for (source, level, _), number in reasons.items():
        negatives[source, level] += number
    hardest_first = sorted(negatives, key=lambda key: (key[0], -(key[1] or 0)))
    return [
        FalseNegatives(*key, negatives[key], *(reasons[*key, how] for how in (THE_POSITIVE, FALSE_NEGATIVE, ANSWERS)))
        for key in hardest_first
    ]


def dispute(verdict: Verdict) -> float:
    """How far apart the scorers are about a negative; of one alone, how near to even it is, as a number below 0."""
    distances = [distance for one in verdict.results if isfinite(distance := one.score - one.positive)]
    if len(distances) < 2:
        return -abs(verdict.score - verdict.positive_score)
    return max(distances) - min(distances)


def beside_their_samples(verdicts: Iterable[Verdict], samples: Iterable[Sample]) -> list[dict[str, Any]]:
    """The verdicts with query and positive."""
    listed = list(verdicts)
    wanted = {verdict.sample for verdict in listed}
    found = {sample.id: sample for sample in samples if sample.id in wanted}
    return [{"verdict": verdict, "sample": found[verdict.sample]} for verdict in listed if verdict.sample in found]
