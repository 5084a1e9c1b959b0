"""The user's own queries: with what answers them, for training and testing; without, for testing only."""

import difflib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from finegrade.config import SourceConfig
from finegrade.data.beir import BeirFolder, read_judgements, record_id
from finegrade.data.readers.tables import row_path
from finegrade.data.readers.text_files import user_rows, user_text
from finegrade.errors import InputError
from finegrade.records import Side

_FORM = 'A row is {"query": "..."}, with "path" (a document) or "positive" (a text) where you know what answers it.'
_BEIR_FORM = 'A row is {"_id": "...", "text": "..."}.'


@dataclass(frozen=True)
class OwnQuery:
    """A real query, as it was typed.

    Attributes:
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
        found += _from_beir(BeirFolder(source.path))
    return found


def _from_jsonl(path: Path) -> list[OwnQuery]:
    found: dict[tuple[str, str, str], OwnQuery] = {}
    for where, row in user_rows(path, "a JSONL file of queries", _FORM):
        for key in row.keys() - {"query", "path", "positive"}:  # a misspelt label: nobody would know the answer
            near = difflib.get_close_matches(str(key).lower(), ("path", "positive"), n=1, cutoff=0.8)
            if near:
                wanted, remedy = '"query", "path" and "positive"', f"Did you mean {near[0]}?"
                raise InputError(where, got=f"the key {key!r}", wanted=wanted, remedy=remedy)
        query = user_text(row, "query", where, _FORM)
        document, positive = (
            user_text(row, key, where, _FORM) if row.get(key) else "" for key in ("path", "positive")
        )  # fmt: skip
        document = document.removeprefix("./")
        paths = frozenset({document}) if document else frozenset()
        found.setdefault((query, document, positive), OwnQuery(query, paths, positive))
    return list(found.values())


def _from_beir(folder: BeirFolder) -> list[OwnQuery]:
    texts = {}
    for where, row in user_rows(folder.queries, "the queries of a BEIR folder", _BEIR_FORM):
        own = record_id(row)
        if own is None:
            raise InputError(f'{where}: "_id"', got=repr(row.get("_id"))[:60], wanted="an id", remedy=_BEIR_FORM)
        texts[own] = user_text(row, "text", where, _BEIR_FORM)
    judgements = folder.judgements
    sides: dict[str, Side] = {"train": "train", "test" if "test" in judgements else "dev": "test"}
    found = []
    for split in filter(judgements.__contains__, sides):
        answers: dict[str, set[str]] = {}
        for number, judgement in read_judgements(judgements[split]):
            if isinstance(judgement, str):
                where, wanted = f"{judgements[split]}, line {number}", "query, document and grade between tabs"
                raise InputError(where, got=judgement, wanted=wanted, remedy="Correct it.")
            if judgement.score > 0:
                answers.setdefault(judgement.query, set()).add(row_path(folder.corpus.name, judgement.document))
        found += [OwnQuery(texts[q], frozenset(d), side=sides[split]) for q, d in answers.items() if q in texts]
    if not any(own.side == "test" for own in found):
        wanted = "judgements to test with (qrels/test.tsv or qrels/dev.tsv)"
        remedy = 'Add them, or read corpus.jsonl with kind = "documents".'
        raise InputError(str(folder.path), got="none", wanted=wanted, remedy=remedy)
    return found
