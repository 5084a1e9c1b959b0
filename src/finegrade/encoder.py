"""Builds, saves and loads encoders as plain sentence-transformers models."""

import json
from pathlib import Path
from typing import Any, get_args

import torch
from peft import LoraConfig
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.modules.module import Module
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

import finegrade.portable
from finegrade.adapters import add_lora, merge_lora
from finegrade.attention_direction import read_both_ways
from finegrade.config import AttentionName, PoolingName
from finegrade.errors import InputError
from finegrade.fetching import model_path
from finegrade.gguf import as_folder
from finegrade.portable.anchor_pooling import AnchorPooling
from finegrade.portable.anchor_transformer import AnchorTransformer
from finegrade.portable.latent_pooling import HEADS as LATENT_HEADS
from finegrade.portable.latent_pooling import LatentPooling
from finegrade.portable.received_attention import Form
from finegrade.weights import check_weights

_FORMS: dict[str, Form] = {"anchor": "received", "anchor-smoothed": "smoothed", "anchor-paper": "paper"}

_SHORTEST = 4
"""Tokens that a model must read: two that a tokenizer adds, and some of the text."""

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
    _check_one_of("pooling", pooling, get_args(PoolingName))
    _check_one_of("attention", attention, get_args(AttentionName))
    if max_length is not None and max_length < _SHORTEST:
        raise InputError("max_length", got=max_length, wanted=f"at least {_SHORTEST}", remedy="Give more tokens.")
    if isinstance(lora, int) and lora < 1:
        raise InputError("lora", got=lora, wanted="a rank from 1 on, or None", remedy="None trains all weights.")
    folder = backbone_folder(backbone)
    try:
        transformer = load_transformer(folder, AnchorTransformer if pooling in _FORMS else Transformer)
        if pooling in _FORMS:
            transformer.use_form(_FORMS[pooling])
            _try_out(transformer)
    except (ValueError, OSError, NotImplementedError, RuntimeError) as error:
        is_of_other_shapes = "ignore_mismatched_sizes" in str(error)
        got = "weights of other shapes than its config.json says" if is_of_other_shapes else str(error).splitlines()[0]
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


def _check_one_of(what: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise InputError(what, got=value, wanted=f"one of {', '.join(known)}", remedy="Correct its name.")


def _try_out(transformer: Transformer) -> None:
    """Some attentions show only when they run that they cannot be read."""
    with torch.inference_mode():
        transformer(transformer.preprocess(["one text"]))


def load_transformer(folder: Path, kind: type[Transformer] = Transformer) -> Transformer:
    """The first module of a model folder, or a backbone's, as another kind of module.

    In float32: the last bits of bfloat16 weights are too coarse for the steps of an optimizer. Texts are read as they
    are unless the folder says otherwise: the constructor alone would put them into a decoder's chat template.

    Args:
        folder: Local.
        kind: Transformer, or AnchorTransformer.

    Raises:
        InputError: Weights are missing.
    """
    options = kind._load_init_kwargs(str(folder), local_files_only=True)
    if kind is Transformer:
        for name in set(AnchorTransformer.config_keys) - set(Transformer.config_keys):
            options.pop(name, None)
    transformer = kind(str(folder), **options)
    check_weights(transformer.model)
    transformer.model.float()
    return transformer


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

    Args:
        backbone: Catalogue name, local folder or Hugging Face id; one without sentence-transformers' modules.json gets
            mean pooling.
        max_length: Tokens that are read of a text, if the model reads as many.
    """
    folder = backbone_folder(backbone)
    if not (folder / "modules.json").is_file():
        return build_encoder(backbone, pooling="mean", max_length=max_length)
    model = load_encoder(folder)
    model.max_seq_length = min(max_length, model.max_seq_length or max_length)
    return model


def backbone_folder(backbone: str) -> Path:
    """Where a backbone lies: what a catalogue name, path or Hugging Face id stands for; a .gguf file as safetensors.

    Raises:
        InputError: It cannot be had.
    """
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
    prefix = f"{finegrade.portable.__name__}."
    for module in modules:
        module["type"] = module["type"].removeprefix(prefix)
    path.write_text(json.dumps(modules, indent=2), encoding="utf-8")


def load_encoder(folder: Path | str, device: str | None = None) -> SentenceTransformer:
    """Loads a saved encoder with the installed classes; code in the folder is not run.

    Args:
        folder: A local folder.
        device: As torch names it.

    Raises:
        InputError: It is none, or lacks weights.
    """
    if not (Path(folder) / "modules.json").is_file():
        wanted, remedy = "a sentence-transformers folder", "Name the folder of a saved model."
        raise InputError(str(folder), got="no modules.json in it", wanted=wanted, remedy=remedy)
    model = SentenceTransformer._load_with_module_classes(
        str(folder), _MODULES, device=device, local_files_only=True, trust_remote_code=False
    )
    if isinstance(model[0], Transformer):
        check_weights(model[0].model)
    return model
