"""Builds, saves and loads encoders as plain sentence-transformers models."""

import json
from pathlib import Path
from typing import Any, Literal

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling, Transformer

import finegrade.portable
from finegrade.errors import InputError
from finegrade.fetching import model_path
from finegrade.gguf import as_folder
from finegrade.portable.anchor_pooling import AnchorPooling
from finegrade.portable.anchor_transformer import AnchorTransformer

PoolingName = Literal["anchor", "mean"]

_MODULES = {
    "anchor_transformer.AnchorTransformer": AnchorTransformer,
    "anchor_pooling.AnchorPooling": AnchorPooling,
}


def build_encoder(
    backbone: str, *, pooling: PoolingName = "anchor", max_length: int | None = None, device: str | None = None
) -> SentenceTransformer:
    """Makes an encoder: backbone, pooling, unit length.

    Args:
        backbone: Catalogue name, local folder, .gguf file of a decoder, or Hugging Face id.
        pooling: "anchor", weights by received attention; or "mean".
        max_length: Tokens that are read of a text; the backbone's own limit by default.
        device: As torch names it; chosen by sentence-transformers by default.

    Raises:
        InputError: The backbone cannot be had, or its attention cannot be read.
    """
    folder = _backbone_folder(backbone)
    kind = AnchorTransformer if pooling == "anchor" else Transformer
    try:
        transformer = kind.load(str(folder), local_files_only=True)
    except (ValueError, OSError) as error:
        got, wanted = str(error).splitlines()[0], "an encoder that transformers can load"
        raise InputError(f"backbone {backbone}", got=got, wanted=wanted, remedy="Name another backbone.") from None
    if max_length is not None:
        transformer.max_seq_length = min(max_length, transformer.max_seq_length or max_length)
    dimension = transformer.get_embedding_dimension()
    pool = AnchorPooling(dimension) if pooling == "anchor" else Pooling(dimension, pooling_mode="mean")
    return SentenceTransformer(modules=[transformer, pool, Normalize()], device=device)


def load_backbone(backbone: str, max_length: int) -> SentenceTransformer:
    """The backbone as it was published, with its own pooling: what training has to improve on.

    Args:
        backbone: Catalogue name, local folder or Hugging Face id; one without sentence-transformers' modules.json gets
            mean pooling.
        max_length: Tokens that are read of a text, if the model reads as many.
    """
    folder = _backbone_folder(backbone)
    if not (folder / "modules.json").is_file():
        return build_encoder(backbone, pooling="mean", max_length=max_length)
    model = load_encoder(folder)
    model.max_seq_length = min(max_length, model.max_seq_length or max_length)
    return model


def _backbone_folder(backbone: str) -> Path:
    path = model_path(backbone)
    return as_folder(path) if path.suffix == ".gguf" else path


def save_encoder(model: SentenceTransformer, folder: Path) -> None:
    """Saves a model so that ``SentenceTransformer(folder, trust_remote_code=True)`` loads it, also without finegrade.

    The portable files go to the folder's root and modules.json names their classes without a package: the one layout
    that sentence-transformers loads. A model without modules of ours needs no code and no trust.
    """
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
    """
    return SentenceTransformer._load_with_module_classes(
        str(folder), _MODULES, device=device, local_files_only=True, trust_remote_code=False
    )
