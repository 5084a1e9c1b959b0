"""Whether a model folder holds all the weights that its model has."""

from pathlib import Path

from transformers import PreTrainedModel

from finegrade.errors import InputError

_NOT_USED = "pooler."
"""Weights of BERT's pooler, which no pooling of token states reads: a folder may lack them."""


def check_weights(model: PreTrainedModel) -> None:
    """Transformers fills what a folder lacks with random numbers and a note that is easily overlooked.

    Args:
        model: As it was loaded from a local folder.

    Raises:
        InputError: Its folder lacks weights.
    """
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
