"""Where documents come from, behind one Protocol: files, a saved data set, the hub."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, cast

from finegrade.config import SourceConfig
from finegrade.data.readers.document import Document, Unread
from finegrade.data.readers.files import Guessed, list_files, read_files
from finegrade.data.readers.tables import row_documents
from finegrade.errors import InputError, first_line, unknown_name, unreadable
from finegrade.storage.atomic import files_identity


class DocumentSource(Protocol):
    """Documents that can be read once more from the beginning.

    Attributes:
        name: For messages.
        size: What is read in all, in bytes; 0 where nobody knows.
        passed_over: How many files are of no format that is read, by ending.
    """

    name: str
    size: int
    passed_over: dict[str, int]

    def identity(self) -> str:
        """Changes when the content does, as far as this can be seen without reading it all."""

    def read(self, guessed: Guessed) -> Iterator[tuple[int, Document | Unread]]:
        """Yields each document, and how many bytes were read before it."""


def open_documents(source: SourceConfig, seed: int) -> DocumentSource:
    """The documents that a configuration names.

    Raises:
        InputError: There is nothing to read.
    """
    if source.dataset is not None or (source.path is not None and _is_saved(source.path)):
        return _DataSet(source)
    return _Files(source, seed)


class _Files:
    def __init__(self, source: SourceConfig, seed: int) -> None:
        assert source.path is not None
        self._source, self._seed = source, seed
        self._root = source.path / "corpus.jsonl" if source.kind == "beir" else source.path
        self.name = str(self._root)
        self._files, self.passed_over = list_files(self._root, source.queries)
        self._sizes = {path: path.stat().st_size for path in self._files}
        self.size = sum(self._sizes.values())

    def identity(self) -> str:
        name = self._root.name if self._root.is_file() else ""  # a table's name is in the paths of its documents
        return f"{name}:{files_identity(self._files, self._root)}"

    def read(self, guessed: Guessed) -> Iterator[tuple[int, Document | Unread]]:
        fields = self._source.text_field, self._source.title_field
        behind, inside = 0, 0
        current: Path | None = None
        for path, found in read_files(self._root, self._files, *fields, self._seed, guessed):
            if path != current:
                behind += self._sizes[current] if current else 0
                current, inside = path, 0
            if isinstance(found, Document):
                inside += sum(len(block.text) for block in found.blocks)
            yield behind + min(inside, self._sizes[path]), found


class _DataSet:
    def __init__(self, source: SourceConfig) -> None:
        self._source = source
        self.name = source.dataset or str(source.path)
        path = source.path
        self._files = sorted(p for p in path.rglob("*") if p.is_file()) if path else []
        self.size = sum(file.stat().st_size for file in self._files)
        self.passed_over: dict[str, int] = {}

    def identity(self) -> str:
        path = self._source.path
        content = files_identity(self._files, path) if path else ""
        return f"{Path(self.name).name}:{self._source.dataset}:{self._source.split}:{content}"

    def read(self, guessed: Guessed) -> Iterator[tuple[int, Document | Unread]]:
        source = self._source
        rows: Iterable[Mapping[str, Any]]
        if source.dataset is not None:
            rows, step = _hub_rows(source.dataset, source.split), 0.0
        else:
            assert source.path is not None
            rows = _saved_rows(source.path, source.split)
            step = self.size / max(1, len(rows))
        found = row_documents(Path(self.name).name, rows, source.text_field, source.title_field)
        for number, document in enumerate(found, start=1):
            yield round(number * step), document


def _is_saved(path: Path) -> bool:
    """Whether a folder was written by ``datasets``' save_to_disk."""
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def _saved_rows(path: Path, split: str) -> Sequence[Mapping[str, Any]]:
    """The rows of a data set that save_to_disk wrote, read one by one."""
    from datasets import DatasetDict, load_from_disk

    try:
        found = load_from_disk(str(path))
        rows = found[split] if isinstance(found, DatasetDict) else found
    except KeyError:
        raise unknown_name("source.split", split, found) from None
    except Exception as error:  # pyarrow, json and datasets each raise their own
        raise unreadable(path, error, "a data set that save_to_disk wrote", "Save it again.") from None
    return cast(Sequence[Mapping[str, Any]], rows)


def _hub_rows(name: str, split: str) -> Iterator[Mapping[str, Any]]:
    """Rows of a data set on the hub, streamed: no more of it is downloaded than is read."""
    from datasets import load_dataset

    try:
        yield from load_dataset(name, split=split, streaming=True)
    except Exception as error:  # whatever network, hub and file format can raise
        remedy = "Check the name, source.split, HF_TOKEN and the network; or name local data in source.path."
        raise InputError(f"the data set {name}", got=first_line(error), wanted="its rows", remedy=remedy) from None
