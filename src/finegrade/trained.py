"""A trained model that a command names."""

from pathlib import Path

from sentence_transformers import SentenceTransformer

from finegrade.encoder import load_encoder
from finegrade.errors import InputError

REMEDY = "Name a model that finegrade trained with --model (runs/NAME/model)."


def load_trained(folder: Path, device: str | None = None) -> SentenceTransformer:
    """A saved model; code in its folder is not run.

    Args:
        folder: Of the model.
        device: As torch names it; chosen by sentence-transformers by default.

    Raises:
        InputError: There is none.
    """
    if not (folder / "modules.json").is_file():
        raise InputError(str(folder), got="no model", wanted="a sentence-transformers folder", remedy=REMEDY)
    return load_encoder(folder, device)
