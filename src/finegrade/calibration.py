"""Puts every scorer on one scale, so that a threshold means the same for each of them.

0 is what the scorer typically gives a text drawn at random, 1 what it gives a query's own positive, both medians over
the run's own pairs. The scale is linear: it keeps the scorer's order and the proportions of its differences.
"""

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from statistics import median

from finegrade.errors import InputError
from finegrade.records import Sample
from finegrade.scoring import Scorer

LOOKED_AT, FEWEST = 300, 8
"""Samples whose pairs a scorer is calibrated on, at most and at least."""


@dataclass(frozen=True)
class Calibration:
    """One scorer's scale.

    Attributes:
        zero: The median score of random texts.
        one: The median score of positives.
        told_apart: Share of (positive, random text) pairs of one query that the scorer has in the right order.
    """

    zero: float
    one: float
    told_apart: float

    def of(self, score: float) -> float:
        """A score on the common scale."""
        return (score - self.zero) / (self.one - self.zero)


def calibrate(drawn: Sequence[Sample], scorer: Scorer, seed: int, name: str = "scorer") -> Calibration:
    """Scores positives and random texts of samples.

    Args:
        drawn: Samples of the run.
        scorer: To be calibrated.
        seed: Of the draw of random texts.
        name: The scorer's, for the error.

    Raises:
        InputError: There are too few samples, or the scorer does not tell positives from random texts.
    """
    pairs, random_pairs = calibration_pairs(drawn, seed)
    scores = list(scorer.scores([*pairs, *random_pairs]))
    return fit(scores[: len(pairs)], scores[len(pairs) :], name)


def draw(samples: Iterable[Sample], seed: int, number: int = LOOKED_AT) -> list[Sample]:
    """Some of many samples, each with the same chance, in one pass (Vitter's algorithm R).

    Args:
        samples: Of the run; they are read once and not held.
        seed: Of the draw.
        number: How many, if there are as many.
    """
    dice = random.Random(f"{seed}/calibration samples")
    drawn: list[Sample] = []
    for place, sample in enumerate(samples):
        if place < number:
            drawn.append(sample)
        elif (taken := dice.randrange(place + 1)) < number:
            drawn[taken] = sample
    return drawn


def calibration_pairs(drawn: Sequence[Sample], seed: int) -> tuple[list[tuple[str, str]], list[tuple[str, str]]]:
    """(query, positive), and for each (query, positive of a sample of another group, where there is one)."""
    dice = random.Random(f"{seed}/calibration")
    others = [_another(sample, drawn, dice) for sample in drawn]
    return (
        [(sample.query, sample.positive) for sample in drawn],
        [(sample.query, other.positive) for sample, other in zip(drawn, others, strict=True)],
    )


def _another(sample: Sample, samples: Sequence[Sample], dice: random.Random, tries: int = 20) -> Sample:
    drawn = [dice.choice(samples) for _ in range(tries)]
    far = [one for one in drawn if one.group != sample.group]
    return next(iter(far or [one for one in drawn if one.positive != sample.positive]), drawn[0])


def fit(positives: Sequence[float], randoms: Sequence[float], name: str = "scorer") -> Calibration:
    """The scale of a scorer that gave these scores.

    Args:
        positives: Of each query's own positive.
        randoms: Of a random text for the same query, in the same order.
        name: The scorer's, for the error.

    Raises:
        InputError: There are too few, or the scorer does not tell one from the other.
    """
    if len(positives) < FEWEST:
        remedy = "Give it more samples, or verify them together with others."
        raise InputError(
            f"calibration of {name}", got=f"{len(positives)} samples", wanted=f"at least {FEWEST}", remedy=remedy
        )
    found = Calibration(median(randoms), median(positives), _share(zip(positives, randoms, strict=True)))
    if not found.one > found.zero:
        got = f"positives at {found.one:.3g} and random texts at {found.zero:.3g}"
        remedy = (
            "Name another verification.scorer: this one does not speak the texts' language, or is no judge of them."
        )
        raise InputError(f"calibration of {name}", got=got, wanted="a scorer that tells them apart", remedy=remedy)
    return found


def _share(pairs: Iterable[tuple[float, float]]) -> float:
    right = [positive > other for positive, other in pairs]
    return sum(right) / len(right)
