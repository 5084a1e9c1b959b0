"""The folder of an export: whole or not there at all, and files that no export wrote are never replaced."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from finegrade.errors import InputError
from finegrade.machine import VERSION
from finegrade.storage.atomic import file_hash, read_json, write_json

MANIFEST = "finegrade_export.json"
"""Says what the export is, from which model, and which files belong to it."""


@contextmanager
def new_export(folder: Path, source: Path) -> Iterator[Path]:
    """Gives an empty folder beside ``folder``, whose place it takes at the end of the block; on any error it vanishes.

    One export at a time works on a folder. An earlier export there stays until the new one is whole; the model's own
    folder ``source`` is never replaced.

    Raises:
        InputError: Something else lies there, or another export is under way.
    """
    folder = folder.resolve()
    _need_place(folder, source.resolve())
    work, old = (folder.with_name(f".{folder.name}.{what}") for what in ("partial", "old"))
    folder.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), timeout=0)
    try:
        lock.acquire()
    except Timeout:
        remedy = "Wait for it, or name another folder with --output."
        raise InputError(f"--output {folder}", got="an export under way", wanted="a place", remedy=remedy) from None
    try:
        shutil.rmtree(work, ignore_errors=True)  # what a kill left
        work.mkdir()
        yield work
        _put_in_place(work, folder, old)
    finally:
        shutil.rmtree(work, ignore_errors=True)
        lock.release()
        Path(lock.lock_file).unlink(missing_ok=True)


def _put_in_place(work: Path, folder: Path, old: Path) -> None:
    """An earlier export is put aside, and back if the new one cannot take its place."""
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        folder.replace(old)
    try:
        work.replace(folder)
    except OSError:
        if old.exists():
            old.replace(folder)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _need_place(folder: Path, source: Path) -> None:
    wanted, remedy = "a new or empty folder, or an earlier export", "Name another folder with --output."
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output {folder}", got="a file", wanted=wanted, remedy=remedy)
    if folder.is_relative_to(source) or source.is_relative_to(folder):
        raise InputError(f"--output {folder}", got="the model's own folder", wanted=wanted, remedy=remedy)
    if others := _files(folder) - _own_files(folder):
        got = f"other files there ({min(others)})"
        raise InputError(f"--output {folder}", got=got, wanted=wanted, remedy=remedy)


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}


def _own_files(folder: Path) -> set[str]:
    """The files of an earlier export."""
    try:
        return {MANIFEST, *read_json(folder / MANIFEST)["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def write_manifest(work: Path, form: str, source: Path, details: Mapping[str, Any]) -> None:
    """Writes ``finegrade_export.json``, the last file of an export, into the folder of ``new_export``."""
    manifest = {
        "form": form,
        "finegrade": VERSION,
        "source": {"name": source.absolute().name, "sha256": weight_hashes(source)},
        **details,
        "files": sorted(_files(work)),
    }
    write_json(work / MANIFEST, manifest)


def weight_hashes(folder: Path) -> dict[str, str]:
    """sha256 of each file of a model's weights."""
    return {path.relative_to(folder).as_posix(): file_hash(path) for path in sorted(folder.rglob("*.safetensors"))}
