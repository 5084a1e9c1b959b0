"""Puts every scorer on one scale, so that a threshold means the same for each of them.

0 is what the scorer typically gives a random text, 1 what it gives a query's own positive: medians over the samples'
own pairs. The scale is linear: it keeps the scorer's order and the proportions of its differences. A judge has a scale
of its own, from "unrelated" to "answers", and is only tried.
"""

import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import median

from finegrade.config import JUDGED
from finegrade.errors import InputError
from finegrade.models.scorers import Judge, Scorer
from finegrade.records import Sample
from finegrade.storage.streams import Drawn

LOOKED_AT, FEWEST = 300, 8  # samples whose pairs a scorer is calibrated on, at most and at least
TOLD_APART = 0.6  # share of pairs that a scorer must have in the right order: noise has half of them


@dataclass(frozen=True)
class Calibration:
    """One scorer's scale.

    Attributes:
        zero, one: The scores that are 0 and 1 on the common scale.
        told_apart: Share of (positive, random text) pairs of one query that the scorer has in the right order.
        tried: How many pairs these are.
    """

    zero: float
    one: float
    told_apart: float
    tried: int

    def of(self, score: float) -> float:
        """A score on the common scale."""
        return (score - self.zero) / (self.one - self.zero)


def calibrate(scorer: Scorer, drawn: Sequence[Sample], seed: int, name: str = "scorer") -> Calibration:
    """Scores positives and random texts of samples."""
    _need_enough(drawn, name)
    pairs, random_pairs = calibration_pairs(drawn, seed)
    scores = list(scorer.scores([*pairs, *random_pairs]))
    return fit(scores[: len(pairs)], scores[len(pairs) :], name)


def draw(samples: Iterable[Sample], seed: int, number: int = LOOKED_AT) -> list[Sample]:
    """Some of many samples, each with the same chance, in one pass; only the drawn ones are held."""
    drawn = Drawn[Sample](number, f"{seed}/calibration samples")
    for sample in samples:
        drawn.add(sample)
    return drawn.values


def try_judge(judge: Judge, drawn: Sequence[Sample], seed: int, name: str) -> Calibration:
    """Has a judge grade random texts, and positives repeated twice: those that it knows, it does not look at.

    Of some samples, one a query, the shortest are taken: long texts take an LLM minutes.
    """
    _need_enough(drawn, name)
    answers: defaultdict[str, list[str]] = defaultdict(list)
    for sample in drawn:
        answers[sample.query].append(sample.positive)
    judge.know(answers)
    mixed = random.Random(f"{seed}/judge").sample(drawn, len(drawn))
    one_a_query = list({sample.query: sample for sample in mixed}.values())[: 8 * JUDGED]
    some = sorted(one_a_query, key=lambda sample: len(sample.positive))[:JUDGED]
    _, others = calibration_pairs(some, seed)
    pairs = [(sample.query, f"{sample.positive} {sample.positive}") for sample in some]
    scores = list(judge.scores([*pairs, *others]))
    numbers = _numbers(scores[: len(pairs)], scores[len(pairs) :])
    if 2 * len(numbers) < len(some):
        remedy = "Look at the run folder's LLM log, or name another [llm] model."
        raise _refused(name, f"{len(numbers)} replies of {len(some)} that can be read", "at least half of them", remedy)
    return _scale(0.0, judge.best, numbers, name)


def _need_enough(drawn: Sequence[Sample], name: str) -> None:
    if len(drawn) < FEWEST:
        remedy = "Verify more samples together, or in Python name others with calibrate_on=."
        raise _refused(name, f"{len(drawn)} samples", f"at least {FEWEST}", remedy)


def calibration_pairs(drawn: Sequence[Sample], seed: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(query, positive), and for each (query, positive of a sample of another group, where there is one)."""
    dice = random.Random(f"{seed}/calibration")
    others = [(sample.query, _another(sample, drawn, dice).positive) for sample in drawn]
    return [(sample.query, sample.positive) for sample in drawn], others


def _another(sample: Sample, samples: Sequence[Sample], dice: random.Random, tries: int = 20) -> Sample:
    drawn = [dice.choice(samples) for _ in range(tries)]
    others = [one for one in drawn if one.query != sample.query and one.positive != sample.positive]
    far = [one for one in others if one.group != sample.group]
    return next(iter(far or others or drawn))


def fit(positives: Sequence[float], randoms: Sequence[float], name: str = "scorer") -> Calibration:
    """The scale of a scorer that gave these scores to each query's own positive and to a random text."""
    numbers = _numbers(positives, randoms)
    if len(numbers) < FEWEST:
        remedy = "Name another verification.scorer."
        raise _refused(name, f"{len(numbers)} of {len(positives)} pairs with a number", f"at least {FEWEST}", remedy)
    zero, one = (median(side) for side in zip(*((other, positive) for positive, other in numbers), strict=True))
    return _scale(zero, one, numbers, name)


def _scale(zero: float, one: float, numbers: Sequence[tuple[float, float]], name: str) -> Calibration:
    share = sum(positive > other for positive, other in numbers) / len(numbers)
    if not (one > zero and share >= TOLD_APART):
        got = f"positives at {one:.3g} and random texts at {zero:.3g}, {share:.0%} of the pairs in order"
        remedy = "Name another verification.scorer: it does not speak the texts' language, or is no judge of them."
        raise _refused(name, got, f"a scorer that tells them apart, in {TOLD_APART:.0%} at least", remedy)
    return Calibration(zero, one, share, len(numbers))


def _refused(name: str, got: str, wanted: str, remedy: str) -> InputError:
    return InputError(f"calibration of {name}", got=got, wanted=wanted, remedy=remedy)


def _numbers(positives: Sequence[float], randoms: Sequence[float]) -> list[tuple[float, float]]:
    return [pair for pair in zip(positives, randoms, strict=True) if all(map(isfinite, pair))]
