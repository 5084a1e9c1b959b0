"""``finegrade export --onnx``: the model as one ONNX graph, checked against the model before it is kept."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from importlib.util import find_spec
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
from torch.onnx import OnnxExporterError
from transformers.tokenization_utils_base import LARGE_INTEGER
from transformers.utils import logging as transformers_logging

from finegrade.console import say
from finegrade.errors import CheckFailedError, InputError, first_line
from finegrade.export.folder import new_export, write_manifest
from finegrade.models.encoder import REMEDY, load_trained

GRAPH, TOKENIZER = "model.onnx", "tokenizer.json"
VECTOR, WEIGHTS = "sentence_embedding", "anchor_weights"

_TRACED_WITH = ["a text", "and one that has more tokens than the other"]
"""Two texts of different lengths: an axis of length 1, or two axes of one length, would be taken for fixed."""

logging.getLogger("torch.onnx").setLevel(logging.ERROR)  # it warns of operators that no model here has


class _TensorsInAndOut(nn.Module):
    """The model with tensors in its signature, in place of a dictionary."""

    def __init__(self, model: SentenceTransformer, outputs: Sequence[str]) -> None:
        super().__init__()
        self._model, self._outputs = model, outputs

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        inputs = {"input_ids": input_ids, "attention_mask": attention_mask}
        if token_type_ids is not None:
            inputs["token_type_ids"] = token_type_ids
        features: Mapping[str, Tensor] = self._model(inputs)
        return tuple(features[name] for name in self._outputs)


def write_graph(model: SentenceTransformer, path: Path) -> tuple[list[str], list[str]]:
    """Writes a model, in float32 on the CPU, as one graph with dynamic axes "batch" and "tokens".

    Masks need no help: while a model is exported transformers leaves none out (``masking_utils``: whether padding is
    there, or the text shorter than a window, is then no reason to), and received attention is its definition.

    Returns:
        Names of the inputs, which are the tokenizer's; and of the outputs: ``sentence_embedding`` [batch, dimension]
        and, where the model has them, ``anchor_weights`` [batch, tokens].
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
    """An exported folder, used as its users do: ``tokenizer.json`` cuts and pads, ``model.onnx`` does the rest."""

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


TOLERANCE = 1e-4
"""The largest difference of a coordinate, of vectors of length 1, that an export may show."""

_TEXTS = (
    "valve",
    "How do I reset the pump?",
    "The valve opens slowly when the pressure rises above two bars; it closes again, with a click, below one.",
    "Ein Satz in einer anderen Sprache, mit Umlauten: Öl läuft über. 日本語の文も一つ。",
    " ".join(f"Step {n}: note the reading of gauge {n}, wait {n} minutes, and compare." for n in range(1, 13)),
    " ".join(f"Step {n}: note the reading of gauge {n}." for n in range(1, 161)),  # longer than most models read
)


def export_onnx(folder: Path, output: Path | None) -> None:
    """Writes the model as ``model.onnx`` beside its ``tokenizer.json``, and says how far it is from the model.

    Raises:
        InputError: A package is missing, or there is no such model, or its graph would not be the model.
        CheckFailedError: Its graph cannot be traced, or ONNX Runtime gives other vectors than the model.
    """
    _need_packages()
    target = output or folder.resolve().with_name(f"{folder.resolve().name}-onnx")
    with new_export(target, folder) as work:
        model = _load(folder)
        say(f"{folder}: its graph is traced, which takes some seconds a layer")
        try:
            inputs, outputs = write_graph(model, work / GRAPH)
        except OnnxExporterError as error:
            cause = " ".join(str(error.__cause__ or error).split())[:200]
            raise CheckFailedError(f"{folder}: its graph cannot be traced: {cause}") from error
        _write_tokenizer(model, work)
        try:
            difference = largest_difference(model, OnnxEncoder(work), _TEXTS)
        except Exception as error:  # ONNX Runtime has classes of its own for each way of refusing
            refused = f"{target}: ONNX Runtime does not run the graph: {first_line(error)}"
            raise CheckFailedError(f"{refused}; nothing was kept") from None
        if not difference <= TOLERANCE:
            off = f"ONNX Runtime's vectors are off by {difference:.1e}, more than {TOLERANCE:g}"
            raise CheckFailedError(f"{target}: {off}; nothing was kept")
        details = {
            "graph": GRAPH,
            "inputs": inputs,
            "outputs": outputs,
            "dimension": model.get_embedding_dimension(),
            "max_length": model.max_seq_length if model.max_seq_length < LARGE_INTEGER else None,
            "prompts": {name: prompt for name, prompt in model.prompts.items() if prompt},
            "default_prompt": model.default_prompt_name,
            "largest_difference": difference,
            "versions": {name: version(name) for name in ("torch", "transformers", "onnx", "onnxruntime")},
        }
        write_manifest(work, "onnx", folder, details)
    say(f"largest difference to the model on {len(_TEXTS)} texts, batched and alone: {difference:.1e}")
    say(f"{target}: written")


def _need_packages() -> None:
    missing = " and ".join(name for name in ("onnx", "onnxscript") if find_spec(name) is None)
    if missing:
        remedy, wanted = 'Install them: pip install "finegrade[onnx]".', "onnx and onnxscript to write a graph"
        raise InputError("finegrade export --onnx", got=f"no {missing}", wanted=wanted, remedy=remedy)


def _load(folder: Path) -> SentenceTransformer:
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    model = load_trained(folder, device="cpu").float().eval()
    if not getattr(model[1], "include_prompt", True):
        got, wanted = "pooling that leaves out a prompt's tokens", "one that counts them: a graph knows no prompt"
        raise InputError(str(folder), got=got, wanted=wanted, remedy=REMEDY)
    return model


def _write_tokenizer(model: SentenceTransformer, folder: Path) -> None:
    """The tokenizer's files; ``tokenizer.json`` also cuts and pads as the model's own does."""
    own = model.tokenizer
    own.save_pretrained(str(folder))
    tokenizer = Tokenizer.from_file(str(folder / TOKENIZER))
    if model.max_seq_length < LARGE_INTEGER:  # what transformers takes for no limit
        tokenizer.enable_truncation(model.max_seq_length, direction=own.truncation_side)
    tokenizer.enable_padding(
        direction=own.padding_side, pad_id=own.pad_token_id, pad_type_id=own.pad_token_type_id, pad_token=own.pad_token
    )
    tokenizer.save(str(folder / TOKENIZER))


def largest_difference(model: SentenceTransformer, exported: OnnxEncoder, texts: Sequence[str]) -> float:
    """Of a coordinate, over all texts as one batch and each alone, for vectors scaled to the longest's length 1."""
    wanted = model.encode(list(texts), prompt="", batch_size=len(texts), show_progress_bar=False)
    alone = np.concatenate([exported.encode([text]) for text in texts])
    difference = np.maximum(np.abs(exported.encode(texts) - wanted), np.abs(alone - wanted)).max()
    return float(difference / np.linalg.norm(wanted, axis=1).max())
