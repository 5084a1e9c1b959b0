"""Bi-encoders: query and text are embedded apart, and the cosine of their vectors says how near they are."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finegrade.onnx_model import OnnxModel

_MEAN = "pooling_mode_mean_tokens"
_TOGETHER = 256
"""Pairs whose texts are embedded together: each text of theirs once."""


class OnnxBiEncoder:
    """A bi-encoder in ONNX Runtime.

    Args:
        model: Gives the last hidden states of a text: [1, tokens, dimension].
        mean: Whether the vector is the mean of the states; else the first token's (bge).
    """

    def __init__(self, model: OnnxModel, mean: bool = False) -> None:
        self._model, self._mean = model, mean

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
        """Yields the cosine of each (query, text), in order."""
        for start in range(0, len(pairs), _TOGETHER):
            chunk = pairs[start : start + _TOGETHER]
            texts = list(dict.fromkeys(text for pair in chunk for text in pair))
            vectors = dict(zip(texts, self._model.each(self._vector, texts), strict=True))
            yield from (float(vectors[query] @ vectors[text]) for query, text in chunk)

    def _vector(self, text: str) -> NDArray[np.float32]:
        states = self._model.run(text)[0]
        state = states.mean(axis=0) if self._mean else states[0]
        return np.asarray(state / max(float(np.linalg.norm(state)), 1e-12), dtype=np.float32)


def pools_by_mean(folder: Path) -> bool:
    """Whether a sentence-transformers folder says that a text's vector is the mean of its states."""
    try:
        return bool(json.loads((folder / "1_Pooling" / "config.json").read_text(encoding="utf-8"))[_MEAN])
    except (OSError, ValueError, KeyError, TypeError):
        return False


class TorchBiEncoder:
    """Any sentence-transformers model, from a local folder; queries and documents with the prompts that it has.

    Args:
        folder: The model's folder.
        max_length: Tokens of a text; where the model reads fewer, those.
    """

    def __init__(self, folder: Path, max_length: int) -> None:
        from sentence_transformers import SentenceTransformer

        self._model = SentenceTransformer(str(folder), local_files_only=True)
        self._model.max_seq_length = min(max_length, self._model.max_seq_length or max_length)

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
        """Yields the cosine of each (query, text), in order."""
        for start in range(0, len(pairs), _TOGETHER):
            chunk = pairs[start : start + _TOGETHER]
            queries, texts = (list(dict.fromkeys(side)) for side in zip(*chunk, strict=True))
            options = {"normalize_embeddings": True, "show_progress_bar": False}
            of_query = dict(zip(queries, self._model.encode_query(queries, **options), strict=True))
            of_text = dict(zip(texts, self._model.encode_document(texts, **options), strict=True))
            yield from (float(of_query[query] @ of_text[text]) for query, text in chunk)
