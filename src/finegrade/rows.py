"""Rows that a caller has in memory: lists of dicts or records, a datasets.Dataset, a pandas frame, an Arrow table."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from typing import Any, Generic, TypeVar

from pydantic import BaseModel, ValidationError

from finegrade.errors import InputError
from finegrade.records import LeftOut, Negative, Sample
from finegrade.text import content_hash

QUERY_NAMES = ("anchor", "query", "question")
POSITIVE_NAMES = ("positive", "pos", "answer", "response", "document", "passage")
NEGATIVE_NAME = re.compile(r"(hard[ _]?)?neg(ative)?s?[ _]?\d*", re.IGNORECASE)
"""What the columns of training data are called, by sentence-transformers, FlagEmbedding and others."""

LABEL_NAMES = ("label", "labels", "score", "scores")
"""What sentence-transformers takes for labels instead of texts."""

LABELLED_TEXT_NAMES = (*POSITIVE_NAMES, "text", "content", "sentence", "sentence2")
"""Of pairs with a label: what may answer or not."""

TEXT_NAMES = (
    "text", "content", "contents", "body", "passage", "document", "positive", "answer", "description", "abstract",
)  # fmt: skip
TITLE_NAMES = ("title", "heading", "subject", "headline")
ID_NAMES = ("_id", "id", "doc_id", "docid", "document_id", "url", "path")
"""What the columns of documents are called; the first name that is there counts."""

BENCHMARK_QUERY_NAMES = (*QUERY_NAMES, "queries", "query_text", "claim")
BENCHMARK_ANSWER_NAMES = (
    *POSITIVE_NAMES, "positive_passage", "long_answer", "evidence", "summary", "highlights", "human_summaries",
    "machine_summaries", "doc", "document_text", "corpus", "passage_text", "context", "content", "body", "article",
    "abstract",
)  # fmt: skip
BENCHMARK_EITHER_NAMES = ("text", "text_a", "text_b", "premise", "hypothesis", "sentence", "sentence_a", "sentence_b")
"""What the columns of benchmarks are called, also with an s or a number at the end; the last may ask or answer."""


def named_columns(names: Iterable[str], columns: Iterable[str]) -> list[str]:
    """The columns that have one of these names, whatever their case, in the order of the names."""
    there = {str(column).strip().lower(): column for column in reversed(list(columns))}
    return [there[name] for name in names if name in there]


def is_negative_name(column: str) -> bool:
    """Whether a column of this name holds negatives."""
    return bool(NEGATIVE_NAME.fullmatch(column))


def is_text_name(column: str) -> bool:
    """Whether a column of this name holds texts to train on, whatever they look like."""
    return column.strip().lower() in (*QUERY_NAMES, *POSITIVE_NAMES) or is_negative_name(column)


Rows = Any
"""An iterable of mappings or records; or a datasets.Dataset, a pandas.DataFrame, a pyarrow.Table."""

Kept = TypeVar("Kept")


@dataclass(frozen=True)
class Result(Generic[Kept]):
    """What a function of the library kept, and what it left out and why.

    Attributes:
        kept: In the order of the input.
        left_out: Each with its reason and what shows it.
    """

    kept: Sequence[Kept]
    left_out: Sequence[LeftOut]

    @property
    def reasons(self) -> dict[str, int]:
        """How many were left out for which reason, most first."""
        return dict(Counter(row.reason for row in self.left_out).most_common())

    def to_dicts(self) -> list[dict[str, Any]]:
        """What was kept, as plain dicts: for `datasets.Dataset.from_list` or `pandas.DataFrame`."""
        return [row.model_dump() if isinstance(row, BaseModel) else dict(row) for row in self.kept]  # type: ignore[call-overload]


def as_dicts(rows: Rows) -> list[dict[str, Any]]:
    """The rows as dicts.

    Args:
        rows: See Rows.

    Raises:
        InputError: They are none of these.
    """
    if hasattr(rows, "to_pylist"):  # pyarrow
        rows = rows.to_pylist()
    elif hasattr(rows, "to_dict") and hasattr(rows, "columns"):  # pandas
        if not rows.columns.is_unique:
            got = ", ".join(map(str, rows.columns))
            raise InputError("rows", got=f"columns {got}", wanted="one column of a name", remedy="Rename the others.")
        rows = rows.to_dict("records")
    if isinstance(rows, str | bytes | Mapping) or not isinstance(rows, Iterable):
        raise _wrong_rows(type(rows).__name__)
    found = []
    for number, row in enumerate(rows):
        if isinstance(row, BaseModel):
            found.append(row.model_dump())
        elif isinstance(row, Mapping):
            found.append({str(name): _plain(value) for name, value in row.items()})
        else:
            raise _wrong_rows(f"{type(row).__name__} at index {number}")
    return found


def _plain(value: Any) -> Any:
    """A cell without numpy, which pandas has for lists; NaN is a missing cell."""
    if hasattr(value, "tolist"):
        value = value.tolist()
    return None if isinstance(value, float) and isnan(value) else value


def _wrong_rows(got: str) -> InputError:
    wanted = "a list of dicts or records, a datasets.Dataset, a pandas.DataFrame or a pyarrow.Table"
    return InputError("rows", got=got, wanted=wanted, remedy='A row is like {"query": "...", "positive": "..."}.')


def as_texts(texts: Any, name: str) -> list[str]:
    """Texts to search: a list of them, id -> text, or rows with a column of texts ("text", "content", "body", ...).

    Args:
        texts: The texts, or rows; see Rows. A missing text is an empty one.
        name: What the caller calls them, for errors.

    Raises:
        InputError: They are none of these, or one is no text; its index is named.
    """
    if isinstance(texts, Mapping):
        texts = list(texts.values())
    elif isinstance(texts, Iterable) and not isinstance(texts, str | bytes) and not hasattr(texts, "columns"):
        texts = list(texts)
    if not isinstance(texts, list) or any(isinstance(text, Mapping | BaseModel) for text in texts):
        rows = as_dicts(texts)
        texts = [next((row[column] for column in named_columns(TEXT_NAMES, row)), NotImplemented) for row in rows]
    for index, text in enumerate(texts):
        if not isinstance(text, str | None):
            got = "no such column" if text is NotImplemented else type(text).__name__
            wanted = f"a text, or a row with a text in {', '.join(TEXT_NAMES[:3])}, ..."
            raise InputError(f"{name}[{index}]", got=got, wanted=wanted, remedy="Give a list of strings, or such rows.")
    return [text or "" for text in texts]


def as_samples(rows: Rows) -> list[Sample]:
    """The rows as samples: records of finegrade as they are, others by the names of their columns.

    A row has a query ("query", "anchor" or "question"), a positive ("positive", "pos", "answer", ..., a text or a list
    of one) and negatives: "negatives" (texts, or dicts with "text" and perhaps "level"), or columns "negative_1", ...
    Without levels of their own the negatives have none (level None).

    Args:
        rows: See Rows.

    Raises:
        InputError: A row has no text for query or positive; its index is named.
    """
    return [_sample(row, index) for index, row in enumerate(as_dicts(rows))]


def _sample(row: dict[str, Any], index: int) -> Sample:
    if _is_sample(row):
        return Sample.model_validate({name: row[name] for name in Sample.model_fields if name in row})
    query, positive = _text(row, QUERY_NAMES, index), _text(row, POSITIVE_NAMES, index)
    values = [row[name] for name in row if is_negative_name(name)]
    negatives = [one for value in values for one in (value if isinstance(value, list | tuple) else [value])]
    return Sample(
        id=content_hash(query, positive),
        query=query,
        positive=positive,
        negatives=tuple(_negative(one, index) for one in negatives if one is not None and one != ""),
        group=str(row.get("group") or content_hash(query)),
    )


def _is_sample(row: Mapping[str, Any]) -> bool:
    """Whether a row is a record of finegrade; tables of others have such columns, too, but no source of negatives."""
    if not row.keys() >= {"id", "query", "positive", "negatives", "group"} or not isinstance(row["id"], str):
        return False
    negatives = row["negatives"]
    return isinstance(negatives, list | tuple) and all(isinstance(n, Mapping) and "source" in n for n in negatives)


def _text(row: Mapping[str, Any], names: Sequence[str], index: int) -> str:
    columns = named_columns(names, row)
    value = next((row[name] for name in columns if row[name]), None)
    if isinstance(value, list | tuple) and len(value) == 1:
        value = value[0]
    if not isinstance(value, str) or not value.strip():
        wanted = f"one text in {' or '.join(names)}"
        got = (
            f"{'no text' if value is None or value == '' else type(value).__name__} in {columns[0]}" if columns else ""
        )
        remedy = "Leave the row out, or make a row for each text." if columns else "Rename a column."
        raise InputError(
            f"rows[{index}]", got=got or f"columns {', '.join(map(str, row))}", wanted=wanted, remedy=remedy
        )
    return value


def _negative(value: Any, index: int) -> Negative:
    found = {name: _plain(one) for name, one in value.items()} if isinstance(value, Mapping) else {"text": value}
    try:
        fields = {name: found[name] for name in Negative.model_fields if name in found}
        return Negative.model_validate({"level": None, "source": "external", **fields})
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = f"rows[{index}]: negatives: {'.'.join(map(str, first['loc']))}"
        got = f"{type(value).__name__}: {first['msg']}"
        raise InputError(where, got=got, wanted="a text, or a dict with text and level", remedy="Correct it.") from None
