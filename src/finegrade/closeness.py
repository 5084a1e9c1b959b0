"""How near a model's vectors are to those of another, for the same texts."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_LOW = 0.05


class Closeness(NamedTuple):
    """What is left of the original's vectors.

    Attributes:
        mean: Of the cosines of a text's two vectors.
        low: Their 5 % quantile.
        same_nearest: Share of the texts whose nearest other text is the same one.
    """

    mean: float
    low: float
    same_nearest: float

    def __str__(self) -> str:
        return (
            f"cosine {self.mean:.4f} on average, {self.low:.4f} at the 5 % quantile; "
            f"the same nearest neighbour for {self.same_nearest:.1%}"
        )


def closeness(vectors: NDArray[np.float32], original: NDArray[np.float32]) -> Closeness:
    """Compares row by row.

    Args:
        vectors: [texts, dimension], of length 1; at least two different texts.
        original: Likewise, the other model's.
    """
    cosines = np.einsum("nd,nd->n", vectors, original)
    same = _nearest(vectors) == _nearest(original)
    return Closeness(float(cosines.mean()), float(np.quantile(cosines, _LOW)), float(same.mean()))


def _nearest(vectors: NDArray[np.float32]) -> NDArray[np.intp]:
    similarity = vectors @ vectors.T
    np.fill_diagonal(similarity, -np.inf)
    nearest: NDArray[np.intp] = similarity.argmax(axis=1)
    return nearest
