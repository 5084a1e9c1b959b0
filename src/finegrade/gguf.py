"""A decoder in a .gguf file as a folder that sentence-transformers loads."""

import shutil
import tempfile
from pathlib import Path

from transformers import AutoConfig, AutoModel, AutoTokenizer

from finegrade.console import say
from finegrade.errors import InputError


def as_folder(path: Path) -> Path:
    """The model of a .gguf file in float32 safetensors, written beside it once.

    Args:
        path: The .gguf file.

    Raises:
        InputError: transformers cannot read it.
    """
    folder = path.with_name(f"{path.stem}-safetensors")
    if not (folder / "model.safetensors").is_file():
        say(f"{path.name}: its weights are written as safetensors, once")
        with tempfile.TemporaryDirectory(prefix=".gguf-", dir=path.parent) as work:
            try:
                _convert(path, Path(work) / "model")
            except (ValueError, OSError, KeyError, NotImplementedError) as error:
                got, wanted = (str(error).splitlines() or [""])[0], "a .gguf file of a decoder that transformers knows"
                raise InputError(str(path), got=got, wanted=wanted, remedy="Name another backbone.") from None
            shutil.rmtree(folder, ignore_errors=True)
            (Path(work) / "model").replace(folder)
    return folder


def _convert(path: Path, folder: Path) -> None:
    """Into a model made anew: the one that was read counts as quantised, and such are not saved."""
    where = {"gguf_file": path.name, "local_files_only": True}
    model = AutoModel.from_config(AutoConfig.from_pretrained(path.parent, **where))
    model.load_state_dict(AutoModel.from_pretrained(path.parent, **where).state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(path.parent, **where).save_pretrained(folder)
