"""Files that are there whole or not at all, whatever happens to the process that writes them."""

import hashlib
import json
import os
import platform
import re
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_MACHINE = hashlib.sha256(platform.node().encode()).hexdigest()[:6]


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a temporary path beside ``path``; it becomes ``path`` at the end of the block, durably or not at all.

    What a process that was killed left of the same file is removed.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _sweep(path)
    temporary = path.with_name(f".{path.name}.{_MACHINE}-{os.getpid()}.tmp")
    try:
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    finally:
        temporary.unlink(missing_ok=True)


@contextmanager
def scratch_file(name: str) -> Iterator[Path]:
    """An empty file in the folder for temporary files (TMPDIR), of this block alone.

    What processes that were killed left under the same name is removed.
    """
    folder = Path(tempfile.gettempdir())
    _sweep(folder / name)
    handle, path = tempfile.mkstemp(".tmp", f".{name}.{_MACHINE}-{os.getpid()}.", folder)
    os.close(handle)
    try:
        yield Path(path)
    finally:
        Path(path).unlink(missing_ok=True)


def _sweep(path: Path) -> None:
    """Removes what dead processes of this machine left: of others nobody knows here whether they are at work."""
    left = re.compile(re.escape(f".{path.name}.{_MACHINE}-") + r"(\d+)(\.\w+)?\.tmp")
    with os.scandir(path.parent) as entries:
        found = [match for entry in entries if (match := left.fullmatch(entry.name))]
    for match in found:
        if not _is_alive(int(match[1])):
            with suppress(OSError):  # gone by now, or another user's
                path.with_name(match[0]).unlink()


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


def write_json(path: Path, value: Any) -> None:
    """Writes JSON atomically."""
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(value, indent=1, ensure_ascii=False, sort_keys=False) + "\n", encoding="utf-8")


def read_json(path: Path) -> Any:
    """Reads JSON that a stage wrote."""
    return json.loads(path.read_text(encoding="utf-8"))


def file_hash(path: Path) -> str:
    """sha256 of a file, read in blocks."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def path_identity(path: Path) -> str:
    """A name for what a file or folder holds: its own, and a hash of names, sizes and times."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return f"{path.name}-{files_identity(files, path)[:12]}"


def files_identity(files: Iterable[Path], root: Path) -> str:
    """Names the content of files by path, size and time of change: as cheap to get as it is stable."""
    seen = [f"{path.relative_to(root)}:{path.stat().st_size}:{path.stat().st_mtime_ns}" for path in files]
    return hashlib.sha256("|".join(seen).encode("utf-8", "surrogateescape")).hexdigest()
