"""Records in files: Parquet for what later stages read, JSONL for what people look at.

What may be long is a folder of parts, so that neither writing nor reading it takes more memory than a part.
"""

import shutil
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, Literal, TypeVar, Union, get_args, get_origin

import pyarrow as pa
import pyarrow.parquet as pq
from pydantic import AliasChoices, BaseModel, ValidationError

from finegrade.errors import unreadable
from finegrade.storage.atomic import replacing

_SCALARS = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def schema_of(kind: type[BaseModel]) -> pa.Schema:
    """The Arrow schema of a record: its fields are texts, numbers, truth values, records, tuples of these, or None."""
    return pa.schema([pa.field(name, *_column(field.annotation)) for name, field in kind.model_fields.items()])


def _column(annotation: Any) -> tuple[pa.DataType, bool]:
    """A column's type, and whether it may be null."""
    inner = get_args(annotation)
    if get_origin(annotation) in (Union, UnionType) and NoneType in inner:
        (some,) = (one for one in inner if one is not NoneType)
        return _column(some)[0], True
    if get_origin(annotation) is tuple:
        return pa.list_(_column(inner[0])[0]), False
    if get_origin(annotation) is Literal:
        return _SCALARS[type(inner[0])], False
    if annotation in _SCALARS:
        return _SCALARS[annotation], False
    return pa.struct(list(schema_of(annotation))), False


Row = TypeVar("Row", bound=BaseModel)
T = TypeVar("T")

_REMEDY = "Delete the run folder's stages/ record of that stage and run again."
_READ_AT_ONCE = 100  # rows: one may be a sample with a thousand negatives


def write_rows(path: Path, rows: Iterable[Row], kind: type[Row], about: Mapping[str, str] | None = None) -> None:
    """Writes records as Parquet, atomically; ``about`` are facts about the whole file, for the function ``about``."""
    schema = schema_of(kind).with_metadata(dict(about or {}))
    table = pa.Table.from_pylist([row.model_dump(mode="json") for row in rows], schema=schema)
    with replacing(path) as temporary:
        pq.write_table(table, temporary)


def about(path: Path) -> dict[str, str]:
    """The facts about a whole Parquet file; empty where there is no such file, or only a part of it."""
    try:
        found = pq.read_schema(path).metadata
    except (OSError, pa.ArrowInvalid):
        return {}
    return {name.decode(): value.decode() for name, value in (found or {}).items()}


def read_rows(path: Path, kind: type[Row]) -> list[Row]:
    """Reads records from Parquet, a file or a folder of parts, each checked against its type."""
    return list(iterate_rows(path, kind))


def iterate_rows(path: Path, kind: type[Row]) -> Iterator[Row]:
    """Reads records from Parquet, a file or a folder of parts, with few of them in memory at a time."""
    for part in _files(path):
        try:
            with pq.ParquetFile(part) as file:
                known = _column_names(kind).intersection(file.schema_arrow.names)  # older runs have more columns
                for batch in file.iter_batches(_READ_AT_ONCE, columns=sorted(known)):
                    yield from map(kind.model_validate, batch.to_pylist())
        except (OSError, pa.ArrowInvalid, ValidationError) as error:
            raise unreadable(part, error, f"{kind.__name__} rows", _REMEDY) from None


def _column_names(kind: type[BaseModel]) -> set[str]:
    """The names of its fields, and those of earlier versions."""
    aliases = (field.validation_alias for field in kind.model_fields.values())
    earlier = {str(name) for one in aliases if isinstance(one, AliasChoices) for name in one.choices}
    return earlier | kind.model_fields.keys()


def count_rows(path: Path) -> int:
    """How many rows a Parquet file or a folder of parts has."""
    try:
        return sum(pq.read_metadata(part).num_rows for part in _files(path))
    except (OSError, pa.ArrowInvalid) as error:
        raise unreadable(path, error, "rows", _REMEDY) from None


def part_path(folder: Path, number: int) -> Path:
    """A part of a folder of parts."""
    return folder / f"part-{number:06d}.parquet"


def part_paths(folder: Path) -> list[Path]:
    """The parts that there are, in order."""
    return sorted(folder.glob("part-*.parquet"))


def _files(path: Path) -> list[Path]:
    return part_paths(path) if path.is_dir() else [path]


def write_parts(folder: Path, rows: Iterable[Row], kind: type[Row], rows_a_part: int) -> list[Path]:
    """Writes records as a folder of parts, anew; one part at least. Returns the parts."""
    return write_cut(folder, in_pieces(rows, rows_a_part), kind)


def in_pieces(items: Iterable[T], most: int) -> Iterator[list[T]]:
    """Cuts items into lists of at most so many; no items give one empty list."""
    left = iter(items)
    yield list(islice(left, most))
    while piece := list(islice(left, most)):
        yield piece


def write_cut(folder: Path, parts: Iterable[list[Row]], kind: type[Row]) -> list[Path]:
    """Writes parts of records as a folder of files, anew, with one part in memory. Returns the files."""
    if folder.is_dir():
        shutil.rmtree(folder)
    paths: list[Path] = []
    for number, part in enumerate(parts):
        paths.append(part_path(folder, number))
        write_rows(paths[-1], part, kind)
    return paths


def iterate_lines(path: Path, kind: type[Row]) -> Iterator[Row]:
    """Reads records from JSONL that was written in the same run of the command."""
    with path.open(encoding="utf-8") as file:
        yield from map(kind.model_validate_json, file)


def write_lines(path: Path, rows: Iterable[BaseModel]) -> None:
    """Writes records as JSONL, atomically."""
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.writelines(row.model_dump_json() + "\n" for row in rows)
