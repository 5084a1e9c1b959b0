"""What the folder of a model says of itself, without loading it."""

import json
from pathlib import Path
from typing import Any, Literal

_ABOUT = "config_sentence_transformers.json"
_MEAN = "pooling_mode_mean_tokens"


def kind_of(folder: Path) -> str:
    """What sentence-transformers calls it: it would convert one kind to another, and give other scores, unasked.

    Args:
        folder: Of a model for torch.

    Returns:
        "SentenceTransformer", "CrossEncoder", or another name; empty where it is none of sentence-transformers'.
    """
    said = _said(folder / _ABOUT, "model_type")
    if isinstance(said, str):
        return said
    if (folder / "modules.json").is_file():
        return "SentenceTransformer"
    is_classifier = any("SequenceClassification" in architecture for architecture in architectures(folder))
    return "CrossEncoder" if is_classifier else ""


def architectures(folder: Path) -> list[str]:
    """The names of what a Hugging Face folder holds; empty where it does not say."""
    found = _said(folder / "config.json", "architectures")
    return [str(name) for name in found] if isinstance(found, list) else []


def pools_by_mean(folder: Path) -> bool:
    """Whether a sentence-transformers folder says that a text's vector is the mean of its states."""
    return bool(_said(folder / "1_Pooling" / "config.json", _MEAN))


def prompt(folder: Path, kind: Literal["query", "document"]) -> str:
    """What a sentence-transformers folder says stands before such a text; nothing where it says nothing."""
    prompts = _said(folder / _ABOUT, "prompts")
    found = prompts.get(kind) if isinstance(prompts, dict) else None
    return found if isinstance(found, str) else ""


def _said(file: Path, key: str) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))[key]
    except (OSError, ValueError, KeyError, TypeError):
        return None
