"""A trained model that a command names."""

from pathlib import Path

from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Transformer

from finegrade.encoder import load_encoder
from finegrade.errors import InputError

REMEDY = "Name a model that finegrade trained with --model (runs/NAME/model)."


def load_trained(folder: Path, device: str | None = None) -> SentenceTransformer:
    """A saved model; code in its folder is not run.

    Args:
        folder: Of the model.
        device: As torch names it; chosen by sentence-transformers by default.

    Raises:
        InputError: There is none, it cannot be loaded, or it is no transformer that pools.
    """
    if not (folder / "modules.json").is_file():
        raise InputError(str(folder), got="no model", wanted="a sentence-transformers folder", remedy=REMEDY)
    try:
        model = load_encoder(folder, device)
    except InputError:
        raise
    except Exception as error:  # whatever a damaged or foreign folder makes of json, safetensors and transformers
        told = f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
        raise InputError(str(folder), got=told, wanted="a model that loads", remedy=REMEDY) from None
    if len(model) < 2:
        raise InputError(str(folder), got="a model of one module", wanted="one that pools", remedy=REMEDY)
    if not isinstance(model[0], Transformer):
        raise InputError(str(folder), got=type(model[0]).__name__, wanted="a transformer", remedy=REMEDY)
    return model
