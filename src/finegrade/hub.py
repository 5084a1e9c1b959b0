"""The Hugging Face hub: models by id, and single files; never pickles, never code."""

import urllib.error
import urllib.request
from contextlib import suppress
from functools import cache
from pathlib import Path

from finegrade.errors import InputError

_PATTERNS = ["*.json", "*.txt", "*.model", "*.safetensors"]
_IGNORED = ["onnx/*", "openvino/*"]  # other forms of the same weights
_LOOK_SECONDS = 3.0


@cache
def is_reachable() -> bool:
    """Whether the user has not switched the hub off and it answers within seconds; asked once a process."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    try:
        with urllib.request.urlopen(urllib.request.Request(constants.ENDPOINT, method="HEAD"), timeout=_LOOK_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True  # it said something
    except (OSError, ValueError):
        return False


def download_model(name: str, others: str) -> Path:
    """A model of the hub: the folder of "owner/name", or the file of "owner/name/file.gguf".

    Args:
        name: Its id.
        others: What else could be named, for the error line.

    Raises:
        InputError: It cannot be had.
    """
    from huggingface_hub import hf_hub_download, snapshot_download

    owner, repository, *file = name.split("/")
    try:
        if file:
            return Path(hf_hub_download(f"{owner}/{repository}", file[0]))
        return Path(snapshot_download(f"{owner}/{repository}", allow_patterns=_PATTERNS, ignore_patterns=_IGNORED))
    except Exception as error:  # its HTTP library's own errors come through, too
        got = f"{type(error).__name__} from the hub"
        remedy = f"Use a local path, or one of {others}."
        raise InputError(f"model {name}", got=got, wanted="a model that can be reached", remedy=remedy) from None


def download_file(repository: str, name: str, folder: Path) -> bool:
    """Puts one file of the hub into a folder; False where the hub cannot be reached or has no such file."""
    from huggingface_hub import hf_hub_download

    with suppress(Exception):  # whatever network and hub can raise: there is another source
        hf_hub_download(repository, name, local_dir=folder)
        return True
    return False
