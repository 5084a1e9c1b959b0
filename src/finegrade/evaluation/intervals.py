"""Intervals of means and correlations, from the bootstrap of metrics.py."""

import numpy as np
from numpy.typing import NDArray

from finegrade.evaluation.metrics import Interval, Scores, bootstrap
from finegrade.evaluation.sts import spearman


def mean_interval(values: Scores, resamples: int, confidence: float, seed: int) -> Interval:
    """Of the mean of one value a query."""
    return bootstrap(lambda drawn: float(values[drawn].mean()), len(values), resamples, confidence, seed)


def spearman_interval(
    sides: list[NDArray[np.float64]], gold: NDArray[np.float64], resamples: int, confidence: float, seed: int
) -> Interval:
    """Of one model's correlation, or of the difference of two on the same pairs."""

    def statistic(drawn: NDArray[np.int64]) -> float:
        values = [spearman(side[drawn], gold[drawn]) for side in sides]
        return values[0] - values[1] if len(values) == 2 else values[0]

    return bootstrap(statistic, len(gold), resamples, confidence, seed)
