"""Records as Parquet columns: the Arrow schema of a record, so that files agree also where a value never occurs."""

from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import pyarrow as pa
from pydantic import BaseModel

_SCALARS = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}


def schema_of(kind: type[BaseModel]) -> pa.Schema:
    """The Arrow schema of a record.

    Args:
        kind: Its fields are texts, numbers, truth values, other records, tuples of these, or None.
    """
    return pa.schema(_fields(kind))


def _fields(kind: type[BaseModel]) -> list[pa.Field]:
    return [pa.field(name, *_column(field.annotation)) for name, field in kind.model_fields.items()]


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
    return pa.struct(_fields(annotation)), False
