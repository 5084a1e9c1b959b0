"""The folder of an export: whole or not there at all, and nobody else's files are ever replaced."""

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from finegrade import __version__
from finegrade.errors import InputError
from finegrade.store import file_hash, read_json, write_json

MANIFEST = "finegrade_export.json"
"""Says what the export is, from which model, and which files belong to it."""


@contextmanager
def new_export(folder: Path, source: Path) -> Iterator[Path]:
    """Gives an empty folder beside ``folder``, whose place it takes at the end of the block; on any error it vanishes.

    Args:
        folder: The export's; missing, empty, or an earlier export, which stays until the new one is whole.
        source: The model's folder, which is never replaced.

    Raises:
        InputError: Something else lies there.
    """
    folder = folder.absolute()
    _need_place(folder, source.absolute())
    work = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(work, ignore_errors=True)  # what a kill left
    work.mkdir(parents=True)
    try:
        yield work
        shutil.rmtree(folder, ignore_errors=True)
        work.replace(folder)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _need_place(folder: Path, source: Path) -> None:
    wanted, remedy = "a new or empty folder, or an earlier export", "Name another folder with --output."
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--output {folder}", got="a file", wanted=wanted, remedy=remedy)
    if folder.is_relative_to(source) or source.is_relative_to(folder):
        raise InputError(f"--output {folder}", got="the model's own folder", wanted=wanted, remedy=remedy)
    others = _files(folder) - _own_files(folder)
    if others:
        raise InputError(f"--output {folder}", got=f"other files there ({min(others)})", wanted=wanted, remedy=remedy)


def _files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()}


def _own_files(folder: Path) -> set[str]:
    """The files of an earlier export."""
    try:
        return {MANIFEST, *read_json(folder / MANIFEST)["files"]}
    except (OSError, ValueError, KeyError, TypeError):
        return set()


def write_manifest(work: Path, form: str, source: Path, details: Mapping[str, Any]) -> None:
    """Writes ``finegrade_export.json``: the last file of an export.

    Args:
        work: The folder of ``new_export``.
        form: Which export it is.
        source: The model's folder.
        details: What else is to be known of it; JSON.
    """
    manifest = {
        "form": form,
        "finegrade": __version__,
        "source": {"name": source.absolute().name, "sha256": weight_hashes(source)},
        **details,
        "files": sorted(_files(work)),
    }
    write_json(work / MANIFEST, manifest)


def weight_hashes(folder: Path) -> dict[str, str]:
    """sha256 of each file of a model's weights."""
    return {path.relative_to(folder).as_posix(): file_hash(path) for path in sorted(folder.rglob("*.safetensors"))}
