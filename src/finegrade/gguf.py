"""A decoder in a .gguf file as a folder that sentence-transformers loads."""

import shutil
from pathlib import Path

from filelock import FileLock
from transformers import AutoConfig, AutoModel, AutoTokenizer

from finegrade.console import say
from finegrade.errors import InputError
from finegrade.fetching import cache_folder, model_identity


def as_folder(path: Path) -> Path:
    """The model of a .gguf file in float32 safetensors, written once into the cache.

    Args:
        path: The .gguf file.

    Raises:
        InputError: transformers cannot read it.
    """
    folder = cache_folder() / f"{model_identity(str(path))}-safetensors"  # another file is another folder
    work = folder.with_name(f".{folder.name}.partial")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(work.with_suffix(".lock")):
        if not folder.is_dir():
            say(f"{path.name}: its weights are written as safetensors, once")
            shutil.rmtree(work, ignore_errors=True)  # what a kill left
            try:
                _convert(path, work)
            except (ValueError, OSError, KeyError, NotImplementedError) as error:
                shutil.rmtree(work, ignore_errors=True)
                got, wanted = (str(error).splitlines() or [""])[0], "a .gguf file of a decoder that transformers knows"
                raise InputError(str(path), got=got, wanted=wanted, remedy="Name another backbone.") from None
            work.replace(folder)
    return folder


def _convert(path: Path, folder: Path) -> None:
    """Into a model made anew: the one that was read counts as quantised, and such are not saved."""
    where = {"gguf_file": path.name, "local_files_only": True}
    model = AutoModel.from_config(AutoConfig.from_pretrained(path.parent, **where))
    model.load_state_dict(AutoModel.from_pretrained(path.parent, **where).state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(path.parent, **where).save_pretrained(folder)
