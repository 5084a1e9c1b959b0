"""A sentence-transformers model as one ONNX graph, and the vectors that ONNX Runtime computes with it."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from tokenizers import Tokenizer
from torch import Tensor, nn
from torch.export import Dim

GRAPH, TOKENIZER = "model.onnx", "tokenizer.json"
VECTOR, WEIGHTS = "sentence_embedding", "anchor_weights"

_TRACED_WITH = ["a text", "and one that has more tokens than the other"]
"""Two texts of different lengths: an axis of length 1, or two axes of one length, would be taken for fixed."""

logging.getLogger("torch.onnx").setLevel(
    logging.ERROR
)  # it tells of operators of other packages that no model here has


class _TensorsInAndOut(nn.Module):
    """The model with tensors in its signature, in place of a dictionary."""

    def __init__(self, model: SentenceTransformer, outputs: Sequence[str]) -> None:
        super().__init__()
        self._model, self._outputs = model, outputs

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        given = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            given["token_type_ids"] = token_type_ids
        features: Mapping[str, Tensor] = self._model(given)
        return tuple(features[name] for name in self._outputs)


def write_graph(model: SentenceTransformer, path: Path) -> tuple[list[str], list[str]]:
    """Writes all modules of a model as one graph, with dynamic axes "batch" and "tokens".

    Masks need no help: while a model is exported transformers leaves none out (``masking_utils``: whether padding is
    there, or the text shorter than a window, is then no reason to), and received attention is its definition.

    Args:
        model: In float32 on the CPU, not training.
        path: The file; weights of more than 2 GB lie beside it.

    Returns:
        Names of the inputs, which are the tokenizer's; and of the outputs: ``sentence_embedding`` [batch, dimension]
        and, where the model has them, ``anchor_weights`` [batch, tokens].

    Raises:
        torch.onnx.OnnxExporterError: The model cannot be traced.
    """
    features = model.preprocess(_TRACED_WITH)
    inputs = {name: features[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in features}
    with torch.inference_mode():
        outputs = [name for name in (VECTOR, WEIGHTS) if name in model(dict(inputs))]
    shapes: dict[str, Any] = {name: {0: Dim.DYNAMIC, 1: Dim.DYNAMIC} for name in inputs}
    shapes["input_ids"] = {0: "batch", 1: "tokens"}  # the others' are found to be the same; named twice, they warn
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of torch, about torch's own code
        program: Any = torch.onnx.export(
            _TensorsInAndOut(model, outputs).eval(),
            kwargs=inputs,
            dynamic_shapes=shapes,
            input_names=list(inputs),
            output_names=outputs,
            dynamo=True,  # the older exporter writes graphs that ONNX Runtime refuses
            verbose=False,
        )
    program.save(str(path))
    return list(inputs), outputs


class OnnxEncoder:
    """An exported folder, used as its users do: ``tokenizer.json`` cuts and pads, ``model.onnx`` does the rest.

    Args:
        folder: Holds both.
    """

    def __init__(self, folder: Path) -> None:
        self._tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
        self._session = onnxruntime.InferenceSession(str(folder / GRAPH), providers=["CPUExecutionProvider"])
        self._inputs = [value.name for value in self._session.get_inputs()]

    def encode(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """The vectors of one batch, [texts, dimension]."""
        rows = self._tokenizer.encode_batch(list(texts))
        columns = {
            "input_ids": [row.ids for row in rows],
            "attention_mask": [row.attention_mask for row in rows],
            "token_type_ids": [row.type_ids for row in rows],
        }
        feed = {name: np.array(columns[name], dtype=np.int64) for name in self._inputs}
        vectors: NDArray[np.float32] = self._session.run([VECTOR], feed)[0]
        return vectors
