"""Tables whose rows are documents: JSONL, CSV and Parquet, read a piece at a time."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from finegrade.data.readers.document import Document, Unread, paragraphs
from finegrade.data.readers.text_files import MAX_ROW_BYTES, csv_records, file_encoding, jsonl_rows, separator_of
from finegrade.errors import InputError, first_line
from finegrade.rows import ID_NAMES, TEXT_NAMES, TITLE_NAMES, named_columns

Row = Mapping[str, Any] | str
"""By column; a string in place of a row says why it is none."""

_LOOKED_AT = 100  # rows, for one with a text
_PARQUET_ROWS = 200  # read at once

Guessed = Callable[[str], None]
"""Called with the encoding where it had to be guessed."""


class NoTextColumnError(InputError):
    """A table in which no column holds the text."""


def read_jsonl(path: Path, guessed: Guessed | None = None) -> Iterator[Row]:
    """Rows of a JSONL file, which is UTF-8."""
    return (row for _, row in jsonl_rows(path))


def read_csv(path: Path, guessed: Guessed | None = None) -> Iterator[Row]:
    """Rows of a CSV or TSV file with a header, which shows the separator of a CSV.

    Raises:
        ValueError: It is no text in any encoding.
    """
    encoding, is_guess = file_encoding(path)
    if is_guess and guessed:
        guessed(encoding)
    with path.open(encoding=encoding, errors="replace", newline="") as text:
        separator = separator_of(path, text.readline(MAX_ROW_BYTES))
        text.seek(0)
        header: list[str] = []
        for number, cells in csv_records(text, separator):
            if isinstance(cells, str):
                yield f"line {number}: {cells}"
            elif not header:
                header = cells
            elif any(cells[len(header) :]):
                yield f"line {number}: more cells than the header has"
            elif cells:  # an empty line is no row
                yield dict(zip_longest(header, cells[: len(header)]))


def read_parquet(path: Path, guessed: Guessed | None = None, nested: bool = False) -> Iterator[Row]:
    """Rows of a Parquet file, some at a time: of the columns with text or numbers; the others are None.

    Args:
        path: Of the file.
        guessed: Never called.
        nested: Whether lists and structs that hold texts, and no pictures, are read as well.

    Raises:
        ValueError: It is no Parquet file.
    """
    try:
        file = pq.ParquetFile(path)
        kinds = {field.name: field.type for field in file.schema_arrow}
        columns = [name for name, kind in kinds.items() if _is_read(kind) or (nested and _holds_texts(kind))]
        others = dict.fromkeys(file.schema_arrow.names)
        for batch in file.iter_batches(_PARQUET_ROWS, columns=columns):
            yield from ({**others, **row} for row in batch.to_pylist())
    except (OSError, pa.ArrowException) as error:
        raise ValueError(f"no Parquet: {first_line(error)}") from None


READERS: Mapping[str, Callable[..., Iterator[Row]]] = {
    ".jsonl": read_jsonl, ".ndjson": read_jsonl, ".csv": read_csv, ".tsv": read_csv, ".parquet": read_parquet,
}  # fmt: skip
"""Suffix -> what reads the rows of such tables."""


def value_type(kind: pa.DataType) -> pa.DataType:
    """The type of the values, whether they are in a dictionary or not."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def is_text_type(kind: pa.DataType) -> bool:
    """Whether the values are texts."""
    kind = value_type(kind)
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _is_read(kind: pa.DataType) -> bool:
    return is_text_type(kind) or bool(pa.types.is_integer(value_type(kind)))


def _holds_texts(kind: pa.DataType) -> bool:
    leaves = list(_leaves(kind))
    return any(map(is_text_type, leaves)) and not any("binary" in str(leaf) for leaf in leaves)


def _leaves(kind: pa.DataType) -> Iterator[pa.DataType]:
    if not kind.num_fields:
        yield kind
    for index in range(kind.num_fields):
        yield from _leaves(kind.field(index).type)


class _Columns(NamedTuple):
    """Which columns hold text, title and ids."""

    text: str
    title: str | None
    ids: tuple[str, ...]


def row_path(name: str, own: str) -> str:
    """The path of a document that is a row of a table: its id or number after the table's name."""
    return f"{name}#{own[:200]}"


def row_documents(
    name: str, rows: Iterable[Row], text_field: str | None, title_field: str | None
) -> Iterator[Document | Unread]:
    """One document for each row.

    Args:
        name: Of the table, for paths and messages.
        rows: Rows, or why a row could not be read.
        text_field: The column of texts; None: the first one there is of the usual names.
        title_field: The column of titles; None: likewise, and none is no fault.

    Raises:
        NoTextColumnError: None of the first rows has such a column.
    """
    waiting: list[tuple[int, Row]] = []  # rows from before one with a text was seen
    columns: _Columns | None = None
    for number, row in enumerate(rows, start=1):
        waiting.append((number, row))
        if columns is None and not isinstance(row, str):
            columns = _columns(row, text_field, title_field)
        if columns is None and len(waiting) >= _LOOKED_AT:
            break
        if columns is not None:
            yield from (_document(name, n, one, columns) for n, one in waiting)
            waiting.clear()
    if columns is None:
        first = next((one for _, one in waiting if not isinstance(one, str)), None)
        if first is not None:
            raise _no_text_column(name, first, text_field, title_field)
        yield from (Unread(row_path(name, str(n)), str(one)) for n, one in waiting)


def _document(name: str, number: int, row: Row, columns: _Columns) -> Document | Unread:
    if isinstance(row, str):
        return Unread(row_path(name, str(number)), row)
    text, title = row.get(columns.text), row.get(columns.title or "")
    if not isinstance(text, str) or not text.strip():
        return Unread(row_path(name, str(number)), f"no text in {columns.text!r}")
    own = next((str(row[key]) for key in columns.ids if row.get(key) not in (None, "")), str(number))
    heading = " ".join(title.split()) if isinstance(title, str) else ""
    return Document(row_path(name, own), paragraphs(text, heading))


def _columns(row: Mapping[str, Any], text_field: str | None, title_field: str | None) -> _Columns | None:
    """The columns that are read; None where this row does not show them."""
    if any(field is not None and field not in row for field in (text_field, title_field)):
        return None
    texts = [key for key in named_columns(TEXT_NAMES, row) if isinstance(row[key], str)]
    text = text_field or next(iter(texts), None)
    if text is None:
        return None
    titles = [key for key in named_columns(TITLE_NAMES, row) if isinstance(row[key], str) and key != text]
    return _Columns(text, title_field or next(iter(titles), None), tuple(named_columns(ID_NAMES, row)))


def _no_text_column(
    name: str, row: Mapping[str, Any], text_field: str | None, title_field: str | None
) -> NoTextColumnError:
    for field, key in ((text_field, "source.text_field"), (title_field, "source.title_field")):
        if field is not None and field not in row:
            got, wanted = f"no column {field!r}", f"one of {', '.join(map(str, row))}"
            return NoTextColumnError(name, got=got, wanted=wanted, remedy=f"Correct {key}.")
    wanted = f"a column of text ({', '.join(TEXT_NAMES[:5])}, …)"
    got = f"columns {', '.join(map(str, row)) or '(none)'}, none of them text by its name"
    return NoTextColumnError(name, got=got, wanted=wanted, remedy="Name it with source.text_field.")
