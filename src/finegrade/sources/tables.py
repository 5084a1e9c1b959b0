"""Tables whose rows are documents: JSONL, CSV and Parquet, read a piece at a time."""

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from finegrade.errors import InputError
from finegrade.sources.decoding import decode
from finegrade.sources.document import Document, Unread, paragraphs
from finegrade.sources.jsonl import jsonl_rows

_TEXT = ("text", "content", "contents", "body", "passage", "document", "positive", "answer", "description", "abstract")
_TITLE = ("title", "heading", "subject", "headline")
_ID = ("_id", "id", "doc_id", "docid", "document_id", "url", "path")


def read_jsonl(path: Path) -> Iterator[Mapping[str, Any] | str]:
    """Rows of a JSONL file; a string in place of a row says why it is none."""
    return (row for _, row in jsonl_rows(path))


def read_csv(path: Path) -> Iterator[Mapping[str, Any] | str]:
    """Rows of a CSV or TSV file with a header; the separator is found by looking at it."""
    with path.open("rb") as raw:
        sample = raw.read(1 << 16)
        raw.seek(0)
        _, guessed = decode(sample[: sample.rfind(b"\n") + 1] or sample)
        text = io.TextIOWrapper(raw, encoding=guessed or "utf-8-sig", errors="replace", newline="")
        try:
            dialect: Any = csv.Sniffer().sniff(sample.decode("utf-8", "replace"), delimiters=",;\t|")
        except csv.Error:
            dialect = "excel-tab" if path.suffix == ".tsv" else "excel"
        rows = csv.DictReader(text, dialect=dialect)
        while True:
            try:
                row = next(rows, None)
            except csv.Error as error:
                yield f"no CSV: {error}"
                continue
            if row is None:
                return
            yield {key: value for key, value in row.items() if key is not None}


def read_parquet(path: Path) -> Iterator[Mapping[str, Any] | str]:
    """Rows of a Parquet file, a thousand at a time."""
    try:
        for batch in pq.ParquetFile(path).iter_batches(1_000):
            yield from batch.to_pylist()
    except (OSError, pa.ArrowException) as error:
        yield f"no Parquet: {str(error).splitlines()[0]}"


def row_documents(
    name: str, rows: Iterable[Mapping[str, Any] | str], text_field: str | None, title_field: str | None
) -> Iterator[Document | Unread]:
    """One document for each row.

    Args:
        name: Of the table, for paths and messages.
        rows: Rows, or why a row could not be read.
        text_field: The column that holds the text; None: the first one there is of the usual names.
        title_field: The column that holds a title; None: likewise, and none is no fault.

    Raises:
        InputError: The first row has no such column.
    """
    looked = False
    for number, row in enumerate(rows, start=1):
        where = f"{name}#{number}"
        if isinstance(row, str):
            yield Unread(where, row)
            continue
        if not looked:
            looked = True
            text_field, title_field = _columns(name, row, text_field, title_field)
        assert text_field is not None
        text, title = row.get(text_field), row.get(title_field or "")
        own = next((str(row[key]) for key in _ID if row.get(key)), str(number))
        if not isinstance(text, str) or not text.strip():
            yield Unread(where, f"no text in {text_field!r}")
        else:
            heading = " ".join(title.split()) if isinstance(title, str) else ""
            yield Document(f"{name}#{own[:200]}", paragraphs(text, heading))


def _columns(
    name: str, row: Mapping[str, Any], text_field: str | None, title_field: str | None
) -> tuple[str, str | None]:
    for field, key in ((text_field, "source.text_field"), (title_field, "source.title_field")):
        if field is not None and field not in row:
            got, wanted = f"no column {field!r}", f"one of {', '.join(map(str, row))}"
            raise InputError(name, got=got, wanted=wanted, remedy=f"Correct {key}.")
    text = text_field or next((key for key in _TEXT if isinstance(row.get(key), str)), None)
    if text is None:
        wanted = f"a column of text ({', '.join(_TEXT[:5])}, …)"
        got = f"columns {', '.join(map(str, row)) or '(none)'}"
        raise InputError(name, got=got, wanted=wanted, remedy="Name it with source.text_field.")
    return text, title_field or next((key for key in _TITLE if isinstance(row.get(key), str) and key != text), None)
