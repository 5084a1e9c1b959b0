"""Relevance of a text to a query, behind one Protocol."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from finegrade.errors import InputError
from finegrade.fetching import model_path
from finegrade.machine import usable_cores


class Scorer(Protocol):
    """Judges how well texts answer queries; higher is more relevant, and only differences mean something."""

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
        """Yields the relevance of each (query, text), in order, as it is computed."""


class OnnxCrossEncoder:
    """A cross-encoder in ONNX Runtime: needs no torch.

    Pairs are scored one at a time, several at once: int8 models quantise their activations over the whole batch, so
    that batching changes scores (by up to 0.9 logits for the default one) and brings no speed on a CPU (LOG.md).

    Args:
        folder: Holds ``model.onnx`` and ``tokenizer.json``.
        max_length: Tokens of query and text together; longer ones are cut.
        threads: Pairs under way at once; None: one a core.
    """

    def __init__(self, folder: Path, max_length: int, threads: int | None = None) -> None:
        import onnxruntime
        from tokenizers import Tokenizer

        self._threads = threads or usable_cores()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        try:
            self._tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
            self._session = onnxruntime.InferenceSession(
                str(folder / "model.onnx"), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # both libraries raise bare Exception subclasses of their own
            wanted = "a folder with tokenizer.json and model.onnx of a cross-encoder"
            got, remedy = str(error).splitlines()[0], "`finegrade models fetch reranker-en` gives one."
            raise InputError(f"scorer {folder}", got=got, wanted=wanted, remedy=remedy) from None
        shape = self._session.get_outputs()[0].shape
        if len(shape) != 2 or shape[-1] != 1:
            remedy = "`finegrade models fetch reranker-en` gives one."
            wanted = "a cross-encoder with one logit a pair"
            raise InputError(f"scorer {folder}", got=f"an output of shape {shape}", wanted=wanted, remedy=remedy)
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)
        self._inputs = {value.name for value in self._session.get_inputs()}

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
        """Yields the logit of each (query, text), in order."""
        with ThreadPoolExecutor(self._threads) as pool:
            try:
                yield from pool.map(self._score, pairs)
            finally:
                pool.shutdown(cancel_futures=True)

    def _score(self, pair: tuple[str, str]) -> float:
        encoding = self._tokenizer.encode(*pair)
        given = {
            "input_ids": encoding.ids,
            "attention_mask": encoding.attention_mask,
            "token_type_ids": encoding.type_ids,
        }
        feed = {name: np.array([given[name]], dtype=np.int64) for name in self._inputs}
        logits: NDArray[np.float32] = self._session.run(None, feed)[0]
        return float(logits.reshape(-1)[0])


class TorchCrossEncoder:
    """Any sentence-transformers CrossEncoder, from a local folder.

    Args:
        folder: The model's folder.
        max_length: Tokens of query and text together.
    """

    _CHUNK = 64

    def __init__(self, folder: Path, max_length: int) -> None:
        from sentence_transformers import CrossEncoder

        self._model = CrossEncoder(str(folder), max_length=max_length, local_files_only=True)
        labels = int(self._model.config.num_labels)
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


def load_scorer(name: str, max_length: int) -> Scorer:
    """Loads a cross-encoder.

    Args:
        name: Catalogue name, local folder or Hugging Face id; an ONNX folder is read by ONNX Runtime, any other by
            sentence-transformers.
        max_length: Tokens of query and text together.

    Raises:
        InputError: There is no such model, or it is no cross-encoder.
    """
    folder = model_path(name)
    scorer: Scorer
    if (folder / "model.onnx").is_file():
        scorer = OnnxCrossEncoder(folder, max_length)
    else:
        _need_cross_encoder(folder)
        scorer = TorchCrossEncoder(folder, max_length)
    _need_room(scorer, max_length)
    return scorer


def _need_room(scorer: Scorer, max_length: int) -> None:
    """Whether the model has as many positions shows here, not in the middle of the work."""
    long = "a " * max_length
    try:
        next(iter(scorer.scores([(long, long)])))
    except Exception as error:  # whatever ONNX Runtime and torch raise
        got = f"{max_length}: {(str(error).splitlines() or [''])[0]}"
        wanted, remedy = "a length that the scorer can read", "Lower verification.max_length: many read 512 at most."
        raise InputError("verification.max_length", got=got, wanted=wanted, remedy=remedy) from None


def _need_cross_encoder(folder: Path) -> None:
    try:
        architectures = json.loads((folder / "config.json").read_text(encoding="utf-8"))["architectures"]
    except (OSError, ValueError, KeyError, TypeError):
        architectures = []
    if not any("SequenceClassification" in str(name) for name in architectures):
        remedy = "Name a cross-encoder, or leave verification.scorer out."
        got = ", ".join(map(str, architectures)) or "a folder without a model configuration"
        raise InputError(f"scorer {folder}", got=got, wanted="a cross-encoder", remedy=remedy)
