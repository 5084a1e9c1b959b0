"""A transformer as two files, model.onnx and tokenizer.json, in ONNX Runtime: needs no torch."""

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray

from finegrade.errors import InputError, first_line
from finegrade.machine import usable_cores

T = TypeVar("T")
R = TypeVar("R")


class OnnxModel:
    """Runs one text, or one pair of texts, at a time, several at once.

    int8 models quantise their activations over the whole batch, so that batching changes what comes out (by up to 0.9
    logits for the default cross-encoder) and brings no speed on a CPU (docs/lab/verification.md).

    Args:
        folder: Holds ``model.onnx`` and ``tokenizer.json``.
        max_length: Tokens; longer texts are cut.
        threads: Texts under way at once; None: one a core.

    Attributes:
        shape: Of the first output; names stand for what is open.
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
            wanted = "a folder with tokenizer.json and model.onnx"
            remedy = "`finegrade models fetch reranker-en` gives one."
            raise InputError(f"scorer {folder}", got=first_line(error), wanted=wanted, remedy=remedy) from None
        self.shape: list[int | str] = self._session.get_outputs()[0].shape
        self._tokenizer.no_padding()
        self._tokenizer.enable_truncation(max_length)
        self._inputs = {value.name for value in self._session.get_inputs()}

    def run(self, text: str, other: str | None = None) -> NDArray[np.float32]:
        """The first output for one text or one pair: [1, ...]."""
        encoding = self._tokenizer.encode(text, other)
        ids, mask, types = encoding.ids, encoding.attention_mask, encoding.type_ids
        values = {"input_ids": ids, "attention_mask": mask, "token_type_ids": types}
        feed = {name: np.array([values[name]], dtype=np.int64) for name in self._inputs}
        output: NDArray[np.float32] = self._session.run(None, feed)[0]
        return output

    def each(self, do: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
        """What comes of each item, in order, several under way at once."""
        with ThreadPoolExecutor(self._threads) as pool:
            try:
                yield from pool.map(do, items)
            finally:
                pool.shutdown(cancel_futures=True)


_ABOUT = "config_sentence_transformers.json"


def kind_of(folder: Path) -> str:
    """ "SentenceTransformer", "CrossEncoder", another kind of model, or nothing where the folder does not say.

    sentence-transformers itself would convert one kind to another, unasked, and give other scores.
    """
    kind = _value(folder / _ABOUT, "model_type")
    if isinstance(kind, str):
        return kind
    if (folder / "modules.json").is_file():
        return "SentenceTransformer"
    is_classifier = any("SequenceClassification" in architecture for architecture in architectures(folder))
    return "CrossEncoder" if is_classifier else ""


def architectures(folder: Path) -> list[str]:
    """The names of what a Hugging Face folder holds; empty where it does not say."""
    found = _value(folder / "config.json", "architectures")
    return [str(name) for name in found] if isinstance(found, list) else []


def pools_by_mean(folder: Path) -> bool:
    """Whether a sentence-transformers folder says that a text's vector is the mean of its states."""
    return bool(_value(folder / "1_Pooling" / "config.json", "pooling_mode_mean_tokens"))


def prompt(folder: Path, kind: Literal["query", "document"]) -> str:
    """What a sentence-transformers folder says stands before such a text; nothing where it says nothing."""
    prompts = _value(folder / _ABOUT, "prompts")
    found = prompts.get(kind) if isinstance(prompts, dict) else None
    return found if isinstance(found, str) else ""


def _value(file: Path, key: str) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None
