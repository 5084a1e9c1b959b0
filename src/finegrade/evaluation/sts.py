"""STS-B: does the model still know what it knew?"""

import csv

import numpy as np
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sentence_transformers import SentenceTransformer

from finegrade.config import user_path
from finegrade.errors import InputError
from finegrade.models.catalogue import CATALOGUE
from finegrade.models.encoder import embed
from finegrade.models.resolve import model_path

STS = "STS-B"


def load_stsb(name: str, split: str = "test") -> tuple[list[str], list[str], NDArray[np.float64]]:
    """Left sentences, right sentences and similarities of STS-B, 0 to 5 [pairs].

    Args:
        name: Catalogue name, local folder with sts-test.csv (and so on), or Hugging Face id of a data set with that
            split and columns sentence1, sentence2, score.
        split: "test", "dev" or "train".
    """
    if name not in CATALOGUE and name.count("/") == 1 and not user_path(name).exists():
        return _from_hub(name, split)
    path = model_path(name) / f"sts-{split}.csv"
    try:
        with path.open(encoding="utf-8", newline="") as file:
            rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        scores = np.array([float(row[4]) for row in rows])
        return [row[5] for row in rows], [row[6] for row in rows], scores
    except (OSError, IndexError, ValueError, csv.Error) as error:
        raise _no_stsb(str(path), error) from None


def _from_hub(name: str, split: str) -> tuple[list[str], list[str], NDArray[np.float64]]:
    import datasets

    try:
        rows = datasets.load_dataset(name, split={"dev": "validation"}.get(split, split))
        return list(rows["sentence1"]), list(rows["sentence2"]), np.array(rows["score"], dtype=np.float64)
    except Exception as error:  # whatever network, hub and file format can raise
        raise _no_stsb(name, f"{type(error).__name__} from the hub") from None


def _no_stsb(what: str, got: object) -> InputError:
    remedy = "Leave evaluation.sts_data out, or set evaluation.sts = false."
    return InputError(what, got=got, wanted="rows of STS-B", remedy=remedy)


def sts_similarities(model: SentenceTransformer, name: str, batch_size: int, what: str) -> NDArray[np.float64]:
    """The cosine similarity of each pair of STS-B test, [pairs], for a model with vectors of length 1."""
    left, right, _ = load_stsb(name)
    vectors = embed(model, [*left, *right], batch_size, what)
    return np.asarray((vectors[: len(left)] * vectors[len(left) :]).sum(1), dtype=np.float64)


def spearman(similarities: NDArray[np.float64], scores: NDArray[np.float64]) -> float:
    """Spearman's rank correlation."""
    return float(spearmanr(similarities, scores).statistic)
