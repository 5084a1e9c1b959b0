"""Files of rows with named columns: JSONL, CSV and Parquet, read and written back row by row.

What nobody looks at is written back as it came: separators, line ends and bytes that are not UTF-8 of CSV; types,
metadata and nested values of Parquet.
"""

import codecs
import csv
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path
from typing import Any, Literal

import pyarrow as pa
import pyarrow.parquet as pq

from finegrade.data.formats.base import changed
from finegrade.data.readers.tables import is_text_type, value_type
from finegrade.data.readers.text_files import MAX_ROW_BYTES, csv_records, json_line, jsonl_rows, separator_of
from finegrade.errors import InputError, unreadable
from finegrade.rows import is_text_name
from finegrade.text import encodable

Kind = Literal["text", "texts", "number", "numbers", "other", "empty"]
"""Of a column: texts, lists of texts, numbers, lists of numbers, values that are only carried along, or none as yet."""

TableRow = dict[str, Any]
"""Column -> value. Values of kind "other" are only passed on in their column: what they are is the table's affair."""

Add = Callable[[TableRow], None]
"""Writes a row."""

ROWS_AT_ONCE, BYTES_AT_ONCE = 1_000, 1 << 24
"""Of Parquet: what is read and written at once; the bytes count where rows are long."""

_LOOKED_AT = 100  # rows by which a file without types is judged


class Table(ABC):
    """A file of rows with named columns, in their order; InputError where it cannot be read or has no rows."""

    columns: Mapping[str, Kind]

    def __init__(self, path: Path) -> None:
        self.path = path

    def look_at(self, names: Collection[str]) -> None:  # noqa: B027 -- most tables read all columns alike
        """Says which columns are needed; a table may carry the others along unread."""

    @abstractmethod
    def rows(self) -> Iterator[tuple[int, TableRow | str]]:
        """The rows in order, with the number of each, from 1; a string in place of a row says why it is none."""

    @abstractmethod
    def writing(self, path: Path, columns: Sequence[str]) -> AbstractContextManager[Add]:
        """Opens a file of the same kind, with some of the columns, for rows that are added one by one.

        It is written as it comes: the caller makes it atomic.
        """

    def _no_rows(self, got: str = "no rows", remedy: str = "Name another --input.") -> InputError:
        return InputError(str(self.path), got=got, wanted="rows of training data", remedy=remedy)

    def _refuse_repeats(self, names: Sequence[str]) -> None:
        repeats = [name for name, number in Counter(names).items() if number > 1]
        if repeats:
            got = f"more than one column {', '.join(map(repr, sorted(repeats)))}"
            raise InputError(str(self.path), got=got, wanted="columns with names of their own", remedy="Rename them.")


class JsonlTable(Table):
    """A JSONL file with a column a key, judged by its first rows; keys that come later are carried along."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            first = [row for _, row in islice(self.rows(), _LOOKED_AT)]
        except OSError as error:
            raise unreadable(path, error, "a JSONL file", "Correct the path.") from None
        there = [row for row in first if not isinstance(row, str)]
        if not there:
            got = f"{first[0]} in its first line" if first else "an empty file"
            raise self._no_rows(got, "Save one object a line.")
        names = dict.fromkeys(name for row in there for name in row)
        self.columns = {name: _kind_of_values(name, [row.get(name) for row in there]) for name in names}

    def rows(self) -> Iterator[tuple[int, TableRow | str]]:
        """See Table; the number is that of the line."""
        for number, row in jsonl_rows(self.path):
            yield number, row if isinstance(row, str) else dict(row)

    @contextmanager
    def writing(self, path: Path, columns: Sequence[str]) -> Iterator[Add]:
        """See Table. Readers take columns in the order of the keys: they come first, in that of the columns."""
        left_out = self.columns.keys() - set(columns)
        with path.open("w", encoding="utf-8") as file:

            def add(row: TableRow) -> None:
                ordered = {name: row[name] for name in columns if name in row}
                file.write(json_line(ordered | {name: row[name] for name in row if name not in left_out}))

            yield add


def _kind_of_values(name: str, values: Sequence[Any]) -> Kind:
    """The kind of most values that are there: another one is its row's fault."""
    kinds: Counter[Kind] = Counter(map(_kind_of_value, values))
    del kinds["empty"]
    found: Kind = max(kinds, key=kinds.__getitem__, default="empty")
    return "text" if found == "number" and is_text_name(name) else found


def _kind_of_value(value: Any) -> Kind:
    if isinstance(value, str):
        return "text" if value.strip() else "empty"
    if isinstance(value, list):
        inner = {type(one) for one in value if one is not None}
        if not inner:
            return "empty"
        return "texts" if inner == {str} else "numbers" if inner <= {int, float, bool} else "other"
    return "empty" if value is None else "number" if isinstance(value, int | float) else "other"


class CsvTable(Table):
    """A CSV or TSV file with a header. Bytes that are not UTF-8 are read as lone surrogates, and written back."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with path.open("rb") as file:
                first = file.readline(MAX_ROW_BYTES)
        except OSError as error:
            raise unreadable(path, error, "a CSV file", "Correct the path.") from None
        self._encoding = "utf-8-sig" if first.startswith(codecs.BOM_UTF8) else "utf-8"
        self._form: dict[str, Any] = {
            "delimiter": separator_of(path, first.decode(errors="replace")),
            "lineterminator": "\r\n" if first.endswith(b"\r\n") else "\n",
        }
        _, header = next(self._records(), (0, None))
        if not header:
            raise self._no_rows("an empty file")
        if isinstance(header, str) or "\0" in "".join(header) or not all(encodable(name) == name for name in header):
            got, remedy = "a first line that is no UTF-8 text", "Save the file as UTF-8."
            raise InputError(str(path), got=got, wanted="a header", remedy=remedy)
        self._refuse_repeats(header)
        self._names = header
        looked_at = [row for _, row in islice(self.rows(), _LOOKED_AT) if not isinstance(row, str)]
        if not looked_at:
            raise self._no_rows("no rows that can be read")
        self.columns = {name: _kind_of_cells(name, [row[name] for row in looked_at]) for name in header}

    def rows(self) -> Iterator[tuple[int, TableRow | str]]:
        """See Table; the number is that of the line where the row begins. An empty line is no row."""
        for number, cells in islice(self._records(), 1, None):
            if isinstance(cells, str):
                yield number, cells
            elif cells and len(cells) != len(self._names):
                yield number, f"{'more' if len(cells) > len(self._names) else 'fewer'} cells than the header has"
            elif cells:
                yield number, dict(zip(self._names, cells, strict=True))

    @contextmanager
    def writing(self, path: Path, columns: Sequence[str]) -> Iterator[Add]:
        """See Table."""
        with path.open("w", encoding=self._encoding, errors="surrogateescape", newline="") as file:
            plain, quoted = csv.writer(file, **self._form), csv.writer(file, **self._form, quoting=csv.QUOTE_ALL)

            def write(cells: Sequence[str]) -> None:
                broken = any("\r" in cell for cell in cells)  # before 3.13 only characters of the line end are quoted
                (quoted if broken else plain).writerow(cells)

            write(columns)
            yield lambda row: write([row[name] for name in columns])

    def _records(self) -> Iterator[tuple[int, list[str] | str]]:
        with self.path.open(encoding=self._encoding, errors="surrogateescape", newline="") as file:
            yield from csv_records(file, self._form["delimiter"], skip_spaces=False)


def _kind_of_cells(name: str, cells: Sequence[str]) -> Kind:
    filled = [cell for cell in cells if cell.strip()]
    if not filled:
        return "empty"
    return "number" if all(map(_is_number, filled)) and not is_text_name(name) else "text"


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


class ParquetTable(Table):
    """A Parquet file. Cells of columns that are only carried along stay Arrow arrays of one value."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        try:
            with pq.ParquetFile(path) as file:
                self._schema, metadata = file.schema_arrow, file.metadata
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(error) from None
        self._refuse_repeats(self._schema.names)
        if not metadata.num_rows:
            raise self._no_rows()
        groups = [metadata.row_group(i) for i in range(metadata.num_row_groups)]
        largest = max(group.total_byte_size // max(1, group.num_rows) for group in groups)
        self._rows_at_once = max(1, min(ROWS_AT_ONCE, BYTES_AT_ONCE // max(1, largest)))
        self.columns = {field.name: _kind_of_type(field.type) for field in self._schema}

    def look_at(self, names: Collection[str]) -> None:
        """See Table: the others keep what types and values they have."""
        self.columns = {name: kind if name in names else "other" for name, kind in self.columns.items()}

    def rows(self) -> Iterator[tuple[int, TableRow | str]]:
        """See Table; InputError where the file is damaged further on, or another one by now."""
        number = 0
        try:
            with pq.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False) as file:
                if file.schema_arrow.names != self._schema.names:
                    raise changed(self.path)
                for batch in file.iter_batches(self._rows_at_once):
                    cells = [_cells(batch.column(name), kind) for name, kind in self.columns.items()]
                    for number, values in enumerate(zip(*cells, strict=True), start=number + 1):  # noqa: B020
                        yield number, dict(zip(self.columns, values, strict=True))
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(error) from None

    @contextmanager
    def writing(self, path: Path, columns: Sequence[str]) -> Iterator[Add]:
        """See Table. The metadata names columns: it goes only where all of them are."""
        fields = [self._schema.field(name) for name in columns]
        fields = [field.with_type(_written_type(field.type, self.columns[field.name])) for field in fields]
        schema = pa.schema(fields, self._schema.metadata if list(columns) == self._schema.names else None)
        waiting: list[TableRow] = []
        size = 0

        def write() -> None:
            nonlocal size
            arrays = [_array([row[field.name] for row in waiting], field.type) for field in fields]
            writer.write_table(pa.Table.from_arrays(arrays, schema=schema))
            waiting.clear()
            size = 0

        def add(row: TableRow) -> None:
            nonlocal size
            waiting.append({field.name: _own(row[field.name]) for field in fields})
            size += sum(map(_size, waiting[-1].values()))
            if len(waiting) >= ROWS_AT_ONCE or size >= BYTES_AT_ONCE:
                write()

        with pq.ParquetWriter(path, schema) as writer:
            yield add
            if waiting:
                write()

    def _damaged(self, error: Exception) -> InputError:
        return unreadable(self.path, error, "a Parquet file", "Name another --input.")


def _kind_of_type(kind: pa.DataType) -> Kind:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        inner = _kind_of_type(kind.value_type)
        return "texts" if inner == "text" else "numbers" if inner == "number" else "other"
    if is_text_type(kind):
        return "text"
    kind = value_type(kind)
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return "number" if is_number and not pa.types.is_float16(kind) else "other"


def _written_type(kind: pa.DataType, used_as: Kind) -> pa.DataType:
    """Without a dictionary: Parquet makes its own, and texts of another column may not fit in."""
    if used_as in ("texts", "numbers") and pa.types.is_fixed_size_list(kind):
        return pa.list_(value_type(kind.value_type))  # of what is dropped, nothing can stay in the list
    return kind if used_as == "other" else value_type(kind)


def _cells(column: pa.Array, kind: Kind) -> list[Any]:
    """Parquet does not check that texts are UTF-8: they are decoded here, what is not as lone surrogates."""
    if kind == "other":
        return [column.slice(index, 1) for index in range(len(column))]
    if kind == "text":
        return [_decoded(value) for value in column.cast(value_type(column.type)).cast(pa.large_binary()).to_pylist()]
    if kind == "texts":
        lists = column.cast(pa.large_list(pa.large_string())).cast(pa.large_list(pa.large_binary())).to_pylist()
        return [None if values is None else [_decoded(value) for value in values] for values in lists]
    return list(column.to_pylist())


def _decoded(value: bytes | None) -> str | None:
    return None if value is None else value.decode("utf-8", "surrogateescape")


def _own(value: Any) -> Any:
    """A cell that can wait: a slice of what was read holds all of it."""
    return pa.concat_arrays([value]) if isinstance(value, pa.Array) else value


def _size(value: Any) -> int:
    if isinstance(value, list):
        return sum(map(_size, value))
    if isinstance(value, pa.DictionaryArray):
        return int(value.indices.nbytes)  # the dictionary is that of all cells
    if isinstance(value, pa.Array):
        return int(value.nbytes)
    return len(value) if isinstance(value, str) else 0


def _array(values: Sequence[Any], kind: pa.DataType) -> pa.Array | pa.ChunkedArray:
    is_carried = values and isinstance(values[0], pa.Array)
    return pa.chunked_array(values, kind) if is_carried else pa.array(values, kind)


TABLES: Mapping[str, Callable[[Path], Table]] = {
    ".parquet": ParquetTable, ".csv": CsvTable, ".tsv": CsvTable,
    ".jsonl": JsonlTable, ".ndjson": JsonlTable, ".json": JsonlTable,
}  # fmt: skip
"""Suffix -> what reads such files."""
