"""Catalogue entries in one file, for machines without a network."""

import errno
import shutil
import tarfile
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from finegrade.console import progress, say
from finegrade.errors import InputError, no_space
from finegrade.models.catalogue import CATALOGUE, Entry, is_complete
from finegrade.models.resolve import cache_folder, entry_folder, fetch
from finegrade.storage.atomic import file_hash, replacing


def pack(names: Sequence[str], output: Path) -> None:
    """Writes entries into one tar file, fetching what is not there.

    Args:
        names: Of catalogue entries.
        output: The file.

    Raises:
        InputError: An entry cannot be had.
    """
    if output.is_dir():
        raise InputError(str(output), got="a folder", wanted="a file to write", remedy="Name one with --output.")
    for name in names:
        fetch(name, check=True)
    files = [(CATALOGUE[name], file) for name in dict.fromkeys(names) for file in CATALOGUE[name].files]
    size = sum(file.size for _, file in files) / 1e6
    with (
        replacing(output) as temporary,
        tarfile.open(temporary, "w") as archive,
        progress("packing (MB)", size) as meter,
    ):
        for entry, file in files:
            archive.add(entry_folder(entry) / file.name, f"{entry.name}/{file.name}", recursive=False)
            meter.advance(file.size / 1e6)
    say(f"{output}: {', '.join(dict.fromkeys(names))}; on the other machine: finegrade models unpack {output.name}")


def unpack(source: Path) -> None:
    """Puts the entries of a packed file into the cache, each file checked against the catalogue's size and hash.

    Args:
        source: What ``pack`` wrote; members that the catalogue does not know are never written.

    Raises:
        InputError: It is no such file, or something in it is not what the catalogue says.
    """
    cache_folder().mkdir(parents=True, exist_ok=True)
    known = {f"{entry.name}/{file.name}": (entry, file) for entry in CATALOGUE.values() for file in entry.files}
    work, entries = cache_folder() / ".unpack", {}
    with FileLock(cache_folder() / ".unpack.lock"):
        shutil.rmtree(work, ignore_errors=True)  # what a kill left
        try:
            with tarfile.open(source, "r:") as archive:
                for member in archive:
                    if not member.isfile() or member.name not in known:
                        raise _wrong(source, f"{member.name}, which the catalogue does not know")
                    entry, file = known[member.name]
                    if member.size != file.size:
                        raise _wrong(source, f"{member.name} of {member.size:,} bytes")
                    target = work / member.name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    content = archive.extractfile(member)
                    assert content is not None
                    with target.open("wb") as out:
                        shutil.copyfileobj(content, out)
                    if file_hash(target) != file.sha256:
                        raise _wrong(source, f"{member.name} with another sha256")
                    entries[entry.name] = entry
            for entry in entries.values():
                _install(entry, work / entry.name, source)
        except (OSError, tarfile.TarError) as error:
            if isinstance(error, OSError) and error.errno == errno.ENOSPC:
                raise no_space(cache_folder(), "space for what is packed") from None
            raise _wrong(source, error) from None
        finally:
            shutil.rmtree(work, ignore_errors=True)


def _install(entry: Entry, files: Path, source: Path) -> None:
    if not is_complete(entry, files):
        raise _wrong(source, f"only a part of {entry.name}")
    folder = entry_folder(entry)
    shutil.rmtree(folder, ignore_errors=True)
    files.replace(folder)
    say(f"{entry.name}: {folder}")


def _wrong(source: Path, got: object) -> InputError:
    remedy = "Pack it again: finegrade models pack NAME --output FILE."
    return InputError(str(source), got=got, wanted="what `finegrade models pack` wrote", remedy=remedy)
