"""What verification found, for the report: read in one pass over the verdicts, with little of them in memory."""

import heapq
from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, count, groupby
from operator import attrgetter
from typing import Any, NamedTuple

from finegrade.records import Sample, Verdict
from finegrade.verdicts import ANSWERS, FALSE_NEGATIVE

DISPUTED = 20


@dataclass
class Violations:
    """Pairs of one sample's negatives of which the one of the higher level scores lower."""

    wrong: int = 0
    pairs: int = 0

    def add(self, levels_and_scores: Iterable[tuple[int, float]]) -> None:
        """Counts the pairs of a sample."""
        for (level, score), (other_level, other) in combinations(levels_and_scores, 2):
            if level != other_level:
                self.pairs += 1
                self.wrong += (score > other) if level < other_level else (score < other)

    @property
    def share(self) -> float:
        """Of all pairs; 0 where there are none."""
        return self.wrong / self.pairs if self.pairs else 0.0


class FalseNegatives(NamedTuple):
    """How many of the negatives of a source and level (0: given without one) are none."""

    source: str
    level: int
    false: int
    negatives: int


@dataclass
class Found:
    """What the report tells.

    Attributes:
        before, after: Level -> how far each negative scores above its positive, before and after verification.
        order_before, order_after: Order violations, as the scorers see it.
        false: Counts by source and level.
        disputed: The verdicts that the scorers agree least about.
        written: Ids of the samples with a text that an LLM wrote.
    """

    before: defaultdict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    after: defaultdict[int, list[float]] = field(default_factory=lambda: defaultdict(list))
    order_before: Violations = field(default_factory=Violations)
    order_after: Violations = field(default_factory=Violations)
    false: list[FalseNegatives] = field(default_factory=list)
    disputed: list[Verdict] = field(default_factory=list)
    written: set[str] = field(default_factory=set)


def find(verdicts: Iterable[Verdict]) -> Found:
    """Reads the verdicts.

    Args:
        verdicts: In their order: those of a sample beside each other.
    """
    found, number = Found(), count()
    negatives: Counter[tuple[str, int]] = Counter()
    false: Counter[tuple[str, int]] = Counter()
    heap: list[tuple[float, int, Verdict]] = []
    for _, of_sample in groupby(verdicts, key=attrgetter("sample")):
        rows = list(of_sample)
        found.order_before.add((row.level_before, row.score) for row in rows if row.level_before is not None)
        found.order_after.add((row.level_after, row.score) for row in rows if row.level_after is not None)
        if any(row.source == "llm" for row in rows):
            found.written.add(rows[0].sample)
        for row in rows:
            key = (row.source, row.level_before or 0)
            negatives[key] += 1
            false[key] += row.reason in (FALSE_NEGATIVE, ANSWERS)
            for levels, level in ((found.before, row.level_before), (found.after, row.level_after)):
                if level is not None:
                    levels[level].append(row.score - row.positive_score)
            heapq.heappush(heap, (dispute(row), -next(number), row))
            if len(heap) > DISPUTED:
                heapq.heappop(heap)
    hardest_first = sorted(negatives, key=lambda key: (key[0], -key[1]))
    found.false = [FalseNegatives(*key, false[key], negatives[key]) for key in hardest_first]
    found.disputed = [row for *_, row in sorted(heap, reverse=True, key=lambda entry: entry[:2])]
    return found


def dispute(verdict: Verdict) -> float:
    """How far the scorers are apart about a negative; where only one was asked, below 0: how near to even it is."""
    distances = [one.score - one.positive for one in verdict.opinions]
    if len(distances) < 2:
        return -abs(verdict.score - verdict.positive_score)
    return max(distances) - min(distances)


def beside_their_samples(verdicts: Sequence[Verdict], samples: Iterable[Sample]) -> list[dict[str, Any]]:
    """The verdicts with query and positive."""
    wanted = {verdict.sample for verdict in verdicts}
    found = {sample.id: sample for sample in samples if sample.id in wanted}
    return [{"verdict": verdict, "sample": found[verdict.sample]} for verdict in verdicts if verdict.sample in found]
