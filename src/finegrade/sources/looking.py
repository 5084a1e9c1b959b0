"""What lies at a path: kind, number and language of the texts, from the names of all files and a look into some."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from finegrade.config import SourceConfig
from finegrade.data.chunking import CHARS_PER_TOKEN, by_characters, chunk_document
from finegrade.data.documents import open_documents
from finegrade.data.languages import frequent_languages
from finegrade.data.pairs import holds_pairs, read_pairs
from finegrade.data.readers.document import Document
from finegrade.errors import InputError

_LOOKED_AT = 200  # documents, or pairs


@dataclass(frozen=True)
class Found:
    """What lies there.

    Attributes:
        kind: As source.kind.
        told: For people.
        texts: Chunks, or pairs, as far as can be told from looking at some.
        spoken: Languages, most frequent first.
    """

    kind: str
    told: str
    texts: int
    spoken: list[str] = field(default_factory=list)


def look_at(path: Path, chosen: Mapping[str, Any] = MappingProxyType({})) -> Found:
    """What lies there.

    Args:
        path: A folder or file of documents, a BEIR folder, or a JSONL file of pairs.
        chosen: Settings of the source that say how to read it.

    Raises:
        InputError: There is nothing to read.
    """
    if (path / "corpus.jsonl").is_file() and (path / "queries.jsonl").is_file():
        return _look_at_documents(SourceConfig(**{"kind": "beir", "path": path, **chosen}))
    if path.is_file() and path.suffix in (".jsonl", ".ndjson") and holds_pairs(path):
        number = sum(1 for _ in read_pairs(path))
        texts = [pair.positive for pair in islice(read_pairs(path), _LOOKED_AT)]
        return Found("pairs", f"{number:,} pairs", number, list(frequent_languages(texts)))
    return _look_at_documents(SourceConfig(**{"kind": "documents", "path": path, **chosen}))


def _look_at_documents(source: SourceConfig) -> Found:
    documents = open_documents(source, 0)
    behind, number, pieces = 1, 0, 0
    texts: list[str] = []
    count = by_characters(CHARS_PER_TOKEN)
    for place, found in islice(documents.read(lambda *_: None), _LOOKED_AT):
        if isinstance(found, Document):
            cut = list(chunk_document(found, source.chunk_tokens, count))
            behind, number, pieces = max(behind, place), number + 1, pieces + len(cut)
            texts += [piece.text for piece in cut[:3]]
    if not pieces:
        remedy = "Name a folder with text in it."
        raise InputError(documents.name, got="no text", wanted="documents", remedy=remedy)
    share = max(1.0, documents.size / behind) if number >= _LOOKED_AT else 1.0
    about = "about " if share > 1 else ""
    told = (
        f"{about}{number * share:,.0f} documents, {documents.size / 1e6:,.1f} MB, {about}{pieces * share:,.0f} chunks"
    )
    if documents.passed_over:
        endings = Counter(documents.passed_over).most_common(4)
        told += "; not read: " + ", ".join(f"{number} {ending}" for ending, number in endings)
    return Found(source.kind, told, round(pieces * share), list(frequent_languages(texts)))
