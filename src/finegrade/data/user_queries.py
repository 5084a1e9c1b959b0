"""The user's own queries: with what answers them, for training and testing; without, for testing only."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from finegrade.config import SourceConfig
from finegrade.data.readers.jsonl import jsonl_rows
from finegrade.data.readers.tables import row_path
from finegrade.errors import InputError
from finegrade.text import encodable

Side = Literal["train", "test"]

_ROW = '{"query": "..."}, with "path" (a document) or "positive" (a text) where you know what answers it'


@dataclass(frozen=True)
class OwnQuery:
    """A real query.

    Attributes:
        query: As it was typed.
        paths: Documents that answer it.
        positive: A text that answers it; empty where documents do, or nobody knows.
        side: Where the source says which; None: the side of what answers it.
    """

    query: str
    paths: frozenset[str] = frozenset()
    positive: str = ""
    side: Side | None = None

    @property
    def labelled(self) -> bool:
        """Whether it is known what answers it."""
        return bool(self.paths or self.positive)


def labels_identity(own: Iterable[OwnQuery]) -> list[list[str | None]]:
    """The labelled queries as fingerprints take them."""
    return [[one.query, one.positive, one.side, *sorted(one.paths)] for one in own if one.labelled]


def read_own_queries(source: SourceConfig) -> list[OwnQuery]:
    """The user's queries: those of ``source.queries``, and of a BEIR folder those with judgements.

    Raises:
        InputError: A file is missing or not of the form.
    """
    found = _from_jsonl(source.queries) if source.queries else []
    if source.kind == "beir":
        assert source.path is not None
        found += _from_beir(source.path)
    return found


def _from_jsonl(path: Path) -> list[OwnQuery]:
    found: dict[tuple[str, str, str], OwnQuery] = {}
    for where, row in _rows(path, _ROW):
        _refuse_misspelt(row, where)
        query = _text(row, "query", where)
        document, positive = (_text(row, key, where) if row.get(key) else "" for key in ("path", "positive"))
        document = document.removeprefix("./")
        paths = frozenset({document}) if document else frozenset()
        found.setdefault((query, document, positive), OwnQuery(query, paths, positive))
    if not found:
        raise InputError(str(path), got="an empty file", wanted=f"rows like {_ROW}", remedy="Add queries.")
    return list(found.values())


def _from_beir(folder: Path) -> list[OwnQuery]:
    texts = {_text(row, "_id", where): _text(row, "text", where) for where, row in _rows(folder / "queries.jsonl", "")}
    found = []
    sides: dict[str, Side] = {"train": "train", "test": "test"}
    if not (folder / "qrels" / "test.tsv").is_file():
        sides = {"train": "train", "dev": "test"}
    for name, side in sides.items():
        path = folder / "qrels" / f"{name}.tsv"
        if path.is_file():
            answers: dict[str, set[str]] = {}
            for query, document in _judgements(path):
                answers.setdefault(query, set()).add(row_path("corpus.jsonl", document))
            found += [OwnQuery(texts[q], frozenset(d), side=side) for q, d in answers.items() if q in texts]
    if not any(own.side == "test" for own in found):
        wanted = "judgements to test with (qrels/test.tsv or qrels/dev.tsv)"
        remedy = 'Add them, or read corpus.jsonl with kind = "documents".'
        raise InputError(str(folder), got="none", wanted=wanted, remedy=remedy)
    return found


def _judgements(path: Path) -> Iterable[tuple[str, str]]:
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except UnicodeDecodeError as error:
        got = f"byte 0x{error.object[error.start]:02x} at offset {error.start}"
        raise InputError(str(path), got=got, wanted="UTF-8", remedy="Save the file as UTF-8.") from None
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        cells = line.split("\t")
        try:
            query, document, grade = cells
            if float(grade) > 0:
                yield query, document
        except ValueError:
            if number > 1:  # the first line may be a header
                wanted, got = "query, document and grade between tabs", f"{len(cells)} cells"
                raise InputError(f"{path}, line {number}", got=got, wanted=wanted, remedy="Correct it.") from None


def _refuse_misspelt(row: Mapping[str, object], where: str) -> None:
    """A label under a misspelt key would make a test query one of which nobody knows the answer."""
    for key in row.keys() - {"query", "path", "positive"}:
        near = difflib.get_close_matches(str(key).lower(), ("path", "positive"), n=1, cutoff=0.8)
        if near:
            remedy = f"Did you mean {near[0]}?"
            raise InputError(where, got=f"the key {key!r}", wanted=f"a row like {_ROW}", remedy=remedy)


def _rows(path: Path, form: str) -> Iterable[tuple[str, Mapping[str, object]]]:
    try:
        for number, row in jsonl_rows(path):
            where = f"{path}, line {number}"
            if isinstance(row, str):
                raise InputError(where, got=row, wanted=f"a JSON object {form}".strip(), remedy="Correct the row.")
            yield where, row
    except OSError as error:
        got = error.strerror or error
        raise InputError(str(path), got=got, wanted="a JSONL file of queries", remedy="Correct the path.") from None


def _text(row: Mapping[str, object], key: str, where: str) -> str:
    value = row.get(key)
    if isinstance(value, int) and key == "_id":
        value = str(value)
    if not isinstance(value, str) or not value.strip() or encodable(value) != value:
        raise InputError(f'{where}: "{key}"', got=repr(value)[:60], wanted="a text", remedy="Correct the row.")
    return " ".join(value.split())
