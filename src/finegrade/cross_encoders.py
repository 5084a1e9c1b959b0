"""Cross-encoders: query and text are read together, and one logit says how well the text answers."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from finegrade.errors import InputError
from finegrade.onnx_model import OnnxModel


class OnnxCrossEncoder:
    """A cross-encoder in ONNX Runtime.

    Args:
        model: Gives a logit a pair.
    """

    def __init__(self, model: OnnxModel) -> None:
        self._model = model

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
        """Yields the logit of each (query, text), in order."""
        return self._model.each(self._score, pairs)

    def _score(self, pair: tuple[str, str]) -> float:
        return float(self._model.run(*pair).reshape(-1)[0])


class TorchCrossEncoder:
    """Any sentence-transformers CrossEncoder, from a local folder.

    Args:
        folder: The model's folder.
        max_length: Tokens of query and text together.

    Raises:
        InputError: It has more than one label.
    """

    _CHUNK = 64

    def __init__(self, folder: Path, max_length: int) -> None:
        from sentence_transformers import CrossEncoder

        self._model = CrossEncoder(str(folder), max_length=max_length, local_files_only=True)
        labels = self._model.num_labels
        if labels != 1:
            got, wanted = f"a classifier with {labels} labels", "a cross-encoder with one logit a pair"
            raise InputError(f"scorer {folder}", got=got, wanted=wanted, remedy="Name another verification.scorer.")

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
        """Yields the logit of each (query, text), in order."""
        import torch

        for start in range(0, len(pairs), self._CHUNK):
            chunk = list(pairs[start : start + self._CHUNK])
            values = self._model.predict(chunk, activation_fn=torch.nn.Identity(), show_progress_bar=False)
            yield from map(float, np.asarray(values).reshape(len(chunk)))
