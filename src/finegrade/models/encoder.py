"""Builds, saves and loads encoders as plain sentence-transformers models."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from peft import LoraConfig
from sentence_transformers import SentenceTransformer, util
from sentence_transformers.base.modules.module import Module
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer
from transformers import PreTrainedModel

import finegrade.models.portable
from finegrade.config import AttentionName, PoolingName
from finegrade.console import progress
from finegrade.errors import InputError, first_line, unknown_name
from finegrade.models.backbone import add_lora, as_folder, merge_lora, read_both_ways
from finegrade.models.portable.anchor_pooling import AnchorPooling
from finegrade.models.portable.anchor_transformer import AnchorTransformer
from finegrade.models.portable.latent_pooling import HEADS as LATENT_HEADS
from finegrade.models.portable.latent_pooling import LatentPooling
from finegrade.models.portable.received_attention import Form
from finegrade.models.resolve import model_path

REMEDY = "Name a model that finegrade trained with --model (runs/NAME/model)."

_NOT_USED = "pooler."  # weights of BERT's pooler, which no pooling of token states reads: a folder may lack them
_FORMS: dict[str, Form] = {"anchor": "received", "anchor-smoothed": "smoothed", "anchor-paper": "paper"}
_SHORTEST = 4  # tokens that a model must read: two that a tokenizer adds, and some of the text
_MODULES = {
    "anchor_transformer.AnchorTransformer": AnchorTransformer,
    "anchor_pooling.AnchorPooling": AnchorPooling,
    "latent_pooling.LatentPooling": LatentPooling,
}


def build_encoder(
    backbone: str,
    *,
    pooling: PoolingName = "anchor",
    attention: AttentionName = "native",
    lora: LoraConfig | int | None = None,
    max_length: int | None = None,
    include_prompt: bool = True,
    device: str | None = None,
) -> SentenceTransformer:
    """Makes an encoder: backbone, pooling, unit length.

    Args:
        backbone: Catalogue name, local folder, .gguf file of a decoder, or Hugging Face id.
        pooling: "anchor", weights by received attention; "anchor-smoothed" and "anchor-paper", other forms of it;
            "mean", "weightedmean" (by position) or "lasttoken" of sentence-transformers; "latent", NV-Embed's.
        attention: "native", as the backbone is; "bidirectional": a decoder's tokens see those behind them too.
        lora: Trains adapters in place of the backbone's own weights: a peft configuration, or the rank. None trains
            the weights. ``save_encoder`` merges them.
        max_length: Tokens that are read of a text; the backbone's own limit by default.
        include_prompt: Whether the tokens of a prompt are pooled; they attend in any case.
        device: As torch names it; chosen by sentence-transformers by default.

    Raises:
        InputError: The backbone cannot be had or lacks weights, its attention cannot be read or made bidirectional,
            or an argument makes no sense.
    """
    for what, value, known in (("pooling", pooling, PoolingName), ("attention", attention, AttentionName)):
        if value not in get_args(known):
            raise unknown_name(what, value, get_args(known))
    if max_length is not None and max_length < _SHORTEST:
        raise InputError("max_length", got=max_length, wanted=f"at least {_SHORTEST}", remedy="Give more tokens.")
    if isinstance(lora, int) and lora < 1:
        raise InputError("lora", got=lora, wanted="a rank from 1 on, or None", remedy="None trains all weights.")
    folder = backbone_folder(backbone)
    try:
        transformer = load_transformer(folder, AnchorTransformer if pooling in _FORMS else Transformer)
        if pooling in _FORMS:
            transformer.use_form(_FORMS[pooling])
            with torch.inference_mode():  # some attentions show only when they run that they cannot be read
                transformer(transformer.preprocess(["one text"]))
    except (ValueError, OSError, NotImplementedError, RuntimeError) as error:
        is_of_other_shapes = "ignore_mismatched_sizes" in str(error)
        got = "weights of other shapes than its config.json says" if is_of_other_shapes else first_line(error)
        wanted = "an encoder that transformers can load"
        raise InputError(f"backbone {backbone}", got=got, wanted=wanted, remedy="Name another backbone.") from None
    if attention == "bidirectional" and not read_both_ways(transformer.model):
        got, wanted = f"{type(transformer.model).__name__}, which stays causal", "a decoder that can read both ways"
        remedy = "Name another backbone, or leave attention native."
        raise InputError(f"backbone {backbone}", got=got, wanted=wanted, remedy=remedy)
    if lora is not None:
        add_lora(transformer.model, lora)
    if max_length is not None:
        transformer.max_seq_length = min(max_length, transformer.max_seq_length or max_length)
    pool = _pooling(pooling, transformer.get_embedding_dimension(), include_prompt)
    return SentenceTransformer(modules=[transformer, pool, Normalize()], device=device)


def load_transformer(folder: Path, kind: type[Transformer] = Transformer) -> Transformer:
    """The first module of a model folder, or a backbone's, as a Transformer or an AnchorTransformer.

    In float32: the last bits of bfloat16 weights are too coarse for the steps of an optimizer. Texts are read as they
    are unless the folder says otherwise: the constructor alone would put them into a decoder's chat template.
    """
    options = kind._load_init_kwargs(str(folder), local_files_only=True)
    if kind is Transformer:
        for name in set(AnchorTransformer.config_keys) - set(Transformer.config_keys):
            options.pop(name, None)
    transformer = kind(str(folder), **options)
    _check_weights(transformer.model)
    transformer.model.float()
    return transformer


def _check_weights(model: PreTrainedModel) -> None:
    """Transformers fills what a folder lacks with random numbers and a note that is easily overlooked."""
    folder = Path(model.name_or_path)
    if not folder.is_dir():
        return
    # reads no number: only names are compared
    _, found = type(model).from_pretrained(folder, device_map="meta", output_loading_info=True, local_files_only=True)
    missing = sorted(name for name in found["missing_keys"] if not name.startswith(_NOT_USED))
    if missing:
        got = f"{len(missing)} weights missing: {', '.join(missing[:3])}"
        remedy = "Its files are damaged, or its config.json belongs to another model; fetch or train it again."
        raise InputError(str(folder), got=got, wanted="a folder with all weights", remedy=remedy)


def _pooling(name: PoolingName, dimension: int, include_prompt: bool) -> Module:
    if name in _FORMS:
        return AnchorPooling(dimension, include_prompt=include_prompt)
    if name == "latent":
        if dimension % LATENT_HEADS:
            wanted, remedy = f"a multiple of {LATENT_HEADS}", "Choose another pooling, or another backbone."
            raise InputError("pooling latent", got=f"{dimension} dimensions", wanted=wanted, remedy=remedy)
        return LatentPooling(dimension, include_prompt=include_prompt)
    return Pooling(dimension, pooling_mode=name, include_prompt=include_prompt)


def load_backbone(backbone: str, max_length: int) -> SentenceTransformer:
    """The backbone as it was published, with its own pooling: what training has to improve on.

    One without sentence-transformers' modules.json gets mean pooling.
    """
    folder = backbone_folder(backbone)
    if not (folder / "modules.json").is_file():
        return build_encoder(backbone, pooling="mean", max_length=max_length)
    model = load_encoder(folder)
    model.max_seq_length = min(max_length, model.max_seq_length or max_length)
    return model


def backbone_folder(backbone: str) -> Path:
    """Where a backbone lies: what a catalogue name, path or Hugging Face id stands for; a .gguf file as safetensors."""
    path = model_path(backbone)
    return as_folder(path) if path.suffix == ".gguf" else path


def save_encoder(model: SentenceTransformer, folder: Path) -> None:
    """Saves a model so that ``SentenceTransformer(folder, trust_remote_code=True)`` loads it, also without finegrade.

    The portable files go to the folder's root and modules.json names their classes without a package: the one layout
    that sentence-transformers loads. A model without modules of ours needs no code and no trust. Adapters are merged
    first, in place: a saved model is a plain one.
    """
    merge_lora(model[0].model)
    model.preprocess(["one text"])  # tokenizer.json keeps how the last text was cut and padded: let there be one
    model.save_pretrained(str(folder), create_model_card=False)
    path = folder / "modules.json"
    modules: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8"))
    prefix = f"{finegrade.models.portable.__name__}."
    for module in modules:
        module["type"] = module["type"].removeprefix(prefix)
    path.write_text(json.dumps(modules, indent=2), encoding="utf-8")


def load_encoder(folder: Path | str, device: str | None = None) -> SentenceTransformer:
    """Loads a saved encoder with the installed classes; code in the folder is not run.

    Args:
        folder: A local folder.
        device: As torch names it; chosen by sentence-transformers by default.

    Raises:
        InputError: It is none, or lacks weights.
    """
    if not (Path(folder) / "modules.json").is_file():
        got, wanted = "no model (modules.json) in it", "a sentence-transformers folder"
        raise InputError(str(folder), got=got, wanted=wanted, remedy=REMEDY)
    model = SentenceTransformer._load_with_module_classes(
        str(folder), _MODULES, device=device, local_files_only=True, trust_remote_code=False
    )
    if isinstance(model[0], Transformer):
        _check_weights(model[0].model)
    return model


def load_trained(folder: Path, device: str | None = None) -> SentenceTransformer:
    """As `load_encoder`, for a transformer that pools; any fault of a damaged or foreign folder is an InputError."""
    try:
        model = load_encoder(folder, device)
    except InputError:
        raise
    except Exception as error:  # whatever a damaged or foreign folder makes of json, safetensors and transformers
        got = f"{type(error).__name__}: {first_line(error)}"
        raise InputError(str(folder), got=got, wanted="a model that loads", remedy=REMEDY) from None
    if len(model) < 2:
        raise InputError(str(folder), got="a model of one module", wanted="one that pools", remedy=REMEDY)
    if not isinstance(model[0], Transformer):
        raise InputError(str(folder), got=type(model[0]).__name__, wanted="a transformer", remedy=REMEDY)
    return model


def rank_with_model(
    model: SentenceTransformer, queries: Sequence[str], documents: Sequence[str], batch_size: int, what: str, depth: int
) -> list[list[int]]:
    """Numbers of at most ``depth`` documents for each query, best first, by cosine similarity; exact.

    Queries and documents are embedded alike, with the model's default prompt; the progress names the work ``what``.
    """
    vectors = embed(model, [*queries, *documents], batch_size, what)
    hits = util.semantic_search(vectors[: len(queries)], vectors[len(queries) :], top_k=min(depth, len(documents)))
    return [[int(hit["corpus_id"]) for hit in row] for row in hits]


def embed(model: SentenceTransformer, texts: Sequence[str], batch_size: int, what: str) -> NDArray[np.float32]:
    """Unit vectors of the texts, [texts, dimension], with progress; texts of like length share a batch."""
    order = sorted(range(len(texts)), key=lambda i: -len(texts[i]))
    rows: list[NDArray[np.float32]] = []
    chunk = batch_size * 8
    with progress(what, len(texts)) as meter:
        for start in range(0, len(order), chunk):
            part = [texts[i] for i in order[start : start + chunk]]
            vectors = model.encode(part, batch_size=batch_size, show_progress_bar=False, convert_to_tensor=True)
            rows.append(vectors.float().cpu().numpy())
            meter.advance(len(part))
    result: NDArray[np.float32] = np.concatenate(rows)[np.argsort(order)]
    return result
