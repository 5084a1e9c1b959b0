"""Parquet with types, metadata and columns that nobody looks at kept as they are, read in batches of some megabytes."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from finegrade.data.formats.base import Kind, TableRow, changed, no_rows, refuse_repeats
from finegrade.errors import InputError

_AT_ONCE = 1_000  # rows, where they are short
_BYTES_AT_ONCE = 1 << 24


class ParquetTable:
    """A Parquet file. Cells of columns that are only carried along stay Arrow arrays of one value.

    Args:
        path: Of the file.

    Raises:
        InputError: It is none, or has no rows.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            with pq.ParquetFile(path) as file:
                self._schema, groups = file.schema_arrow, file.metadata
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(error) from None
        refuse_repeats(path, self._schema.names)
        if not groups.num_rows:
            raise no_rows(path)
        sizes = [groups.row_group(i) for i in range(groups.num_row_groups)]
        largest = max(group.total_byte_size // max(1, group.num_rows) for group in sizes)
        self._at_once = max(1, min(_AT_ONCE, _BYTES_AT_ONCE // max(1, largest)))
        self.columns: Mapping[str, Kind] = {field.name: _kind(field.type) for field in self._schema}

    def look_at(self, names: Collection[str]) -> None:
        """See Table: the others keep what types and values they have."""
        self.columns = {name: kind if name in names else "other" for name, kind in self.columns.items()}

    def rows(self) -> Iterator[tuple[int, TableRow | str]]:
        """See Table.

        Raises:
            InputError: The file is damaged further on, or another one by now.
        """
        return enumerate(self._rows(), start=1)

    def _rows(self) -> Iterator[TableRow]:
        try:
            with pq.ParquetFile(self.path, buffer_size=1 << 20, pre_buffer=False) as file:
                if file.schema_arrow.names != self._schema.names:
                    raise changed(self.path)
                for batch in file.iter_batches(self._at_once):
                    cells = [_cells(batch.column(name), kind) for name, kind in self.columns.items()]
                    for values in zip(*cells, strict=True):
                        yield dict(zip(self.columns, values, strict=True))
        except (OSError, pa.ArrowException) as error:
            raise self._damaged(error) from None

    @contextmanager
    def writing(self, path: Path, columns: Sequence[str]) -> Iterator[Callable[[TableRow], None]]:
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
            if len(waiting) >= _AT_ONCE or size >= _BYTES_AT_ONCE:
                write()

        with pq.ParquetWriter(path, schema) as writer:
            yield add
            if waiting:
                write()

    def _damaged(self, error: Exception) -> InputError:
        got = str(error).splitlines()[0]
        return InputError(str(self.path), got=got, wanted="a Parquet file", remedy="Name another --input.")


def _kind(kind: pa.DataType) -> Kind:
    if _is_list(kind):
        inner = _kind(kind.value_type)
        return "texts" if inner == "text" else "numbers" if inner == "number" else "other"
    kind = _plain(kind)
    if pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind):
        return "text"
    half = pa.types.is_float16(kind)
    is_number = pa.types.is_integer(kind) or pa.types.is_floating(kind) or pa.types.is_boolean(kind)
    return "number" if is_number and not half else "other"


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _plain(kind: pa.DataType) -> pa.DataType:
    """Without the dictionary: Parquet makes its own, and texts of another column may not fit in."""
    return kind.value_type if pa.types.is_dictionary(kind) else kind


def _written_type(kind: pa.DataType, used_as: Kind) -> pa.DataType:
    if used_as in ("texts", "numbers") and pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type))  # of what is dropped, nothing can stay in the list
    return kind if used_as == "other" else _plain(kind)


def _cells(column: pa.Array, kind: Kind) -> list[Any]:
    if kind == "other":
        return [column.slice(place, 1) for place in range(len(column))]
    if kind == "text":
        return [_decoded(value) for value in column.cast(_plain(column.type)).cast(pa.large_binary()).to_pylist()]
    if kind == "texts":
        lists = column.cast(pa.large_list(pa.large_string())).cast(pa.large_list(pa.large_binary())).to_pylist()
        return [None if values is None else [_decoded(value) for value in values] for values in lists]
    found: list[Any] = column.to_pylist()
    return found


def _decoded(value: bytes | None) -> str | None:
    """Parquet does not check that texts are UTF-8; what is not becomes lone surrogates, which are no text."""
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
    if values and isinstance(values[0], pa.Array):
        return pa.chunked_array(values, kind)
    return pa.array(values, kind)
