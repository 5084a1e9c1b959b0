"""STS-B: does the model still know what it knew?"""

import csv
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr

from finegrade.errors import InputError
from finegrade.fetching import model_path


def load_stsb(name: str) -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Sentence pairs of STS-B test and their similarity scores, 0 to 5.

    Args:
        name: Catalogue name, or a local folder with sts-test.csv.

    Returns:
        Left sentences, right sentences, scores [pairs].
    """
    path = model_path(name) / "sts-test.csv"
    with path.open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    return _columns(rows, path)


def _columns(rows: list[list[str]], path: Path) -> tuple[list[str], list[str], NDArray[np.float64]]:
    try:
        scores = np.array([float(row[4]) for row in rows])
        return [row[5] for row in rows], [row[6] for row in rows], scores
    except (IndexError, ValueError) as error:
        raise InputError(
            str(path), got=error, wanted="tab-separated STS-B rows", remedy="Run `finegrade models fetch sts-b`."
        ) from None


def spearman(similarities: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Spearman's rank correlation."""
    return float(spearmanr(similarities, scores).statistic)
