"""Bi-encoders: query and text are embedded apart, and the cosine of their vectors says how near they are."""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from finegrade.dense import Embedder
from finegrade.onnx_model import OnnxModel

_TOGETHER = 256
"""Pairs whose texts are embedded together: each text of theirs once."""

_REMEMBERED = 20_000
"""Texts whose vectors are kept: a negative of one query is the positive of another, and negative of many."""

_UNIT: dict[str, Any] = {"normalize_embeddings": True, "show_progress_bar": False}


def cosines(embedder: Embedder, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
    """Yields the cosine of each (query, text), in order."""
    for start in range(0, len(pairs), _TOGETHER):
        chunk = pairs[start : start + _TOGETHER]
        queries, texts = (list(dict.fromkeys(side)) for side in zip(*chunk, strict=True))
        of_query = dict(zip(queries, embedder.embed_queries(queries), strict=True))
        of_text = dict(zip(texts, embedder.embed_documents(texts), strict=True))
        yield from (float(of_query[query] @ of_text[text]) for query, text in chunk)


class OnnxBiEncoder:
    """A bi-encoder in ONNX Runtime.

    Args:
        model: Gives the last hidden states of a text: [1, tokens, dimension].
        mean: Whether the vector is the mean of the states; else the first token's (bge).
        query_prompt: Stands before each query.
        document_prompt: Stands before each document.
    """

    def __init__(self, model: OnnxModel, mean: bool = False, query_prompt: str = "", document_prompt: str = "") -> None:
        self._model, self._mean = model, mean
        self._query_prompt, self._document_prompt = query_prompt, document_prompt
        self._vector = lru_cache(_REMEMBERED)(self._embedded)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length: [texts, dimension]."""
        return self._embed(self._query_prompt, texts)

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length: [texts, dimension]."""
        return self._embed(self._document_prompt, texts)

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
        """Yields the cosine of each (query, text), in order."""
        return cosines(self, pairs)

    def _embed(self, before: str, texts: Sequence[str]) -> NDArray[np.float32]:
        prompted = [before + text for text in texts]
        return np.array(list(self._model.each(self._vector, prompted)), dtype=np.float32)

    def _embedded(self, text: str) -> NDArray[np.float32]:
        states = self._model.run(text)[0]
        state = states.mean(axis=0) if self._mean else states[0]
        return np.asarray(state / max(float(np.linalg.norm(state)), 1e-12), dtype=np.float32)


class TorchBiEncoder:
    """Any sentence-transformers model, from a local folder, finegrade's own, too; with the prompts that it has.

    Args:
        folder: The model's folder.
        max_length: Tokens of a text; where the model reads fewer, those.
    """

    def __init__(self, folder: Path, max_length: int) -> None:
        from finegrade.encoder import load_encoder

        self._model = load_encoder(folder)
        self._model.max_seq_length = min(max_length, self._model.max_seq_length or max_length)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length: [texts, dimension]."""
        return np.asarray(self._model.encode_query(list(texts), **_UNIT), dtype=np.float32)

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length: [texts, dimension]."""
        return np.asarray(self._model.encode_document(list(texts), **_UNIT), dtype=np.float32)

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
        """Yields the cosine of each (query, text), in order."""
        return cosines(self, pairs)
