"""Lines of a BEIR folder: documents and queries (JSONL), judgements (three columns), runs (TREC's form or the same)."""

import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from finegrade.formats.texts import text_in
from finegrade.sources.jsonl import MAX_ROW_BYTES


class Scored(NamedTuple):
    """A line of judgements or of a run.

    Attributes:
        query: Its id.
        document: Its id.
        score: Its relevance.
    """

    query: str
    document: str
    score: float


Form = Callable[[bytes], Scored | None]
"""Reads a line of judgements or of a run; None where it is none."""


def record(line: bytes) -> dict[str, Any] | None:
    """The JSON object in a line; None where there is none."""
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def record_id(line: bytes) -> str | None:
    """The id of a document or query; None where it has none."""
    found = (record(line) or {}).get("_id")
    return str(found) if isinstance(found, str | int) else None


def record_text(line: bytes, name: str) -> str:
    """The text of a document or query: a title stands before it, as BEIR puts it there.

    Args:
        line: Of JSON.
        name: What it is, for the reason.

    Raises:
        UnreadableRowError: It has none.
    """
    found = record(line) or {}
    title = found.get("title")
    text = text_in(found.get("text"), name)
    return text_in(f"{title} {text}", name) if isinstance(title, str) and title.strip() else text


def judgement(line: bytes) -> Scored | None:
    """A line of judgements or of a run in three columns; None where it is none, such as the header."""
    return _scored(line.decode("utf-8", "surrogateescape").rstrip("\r\n").split("\t"), 3, 1)


def trec(line: bytes) -> Scored | None:
    """A line of a run in TREC's form: query, Q0, document, rank, score, tag."""
    return _scored(line.decode("utf-8", "surrogateescape").split(), 6, 2)


def _scored(cells: Sequence[str], number: int, document: int) -> Scored | None:
    if len(cells) != number or not cells[0] or not cells[document]:
        return None
    try:
        score = float(cells[document + (2 if number == 6 else 1)])
    except ValueError:
        return None
    return Scored(cells[0], cells[document], score) if math.isfinite(score) else None


def ranked(lines: Sequence[Scored]) -> list[str]:
    """The documents of one query, best first, each once: by score, as TREC's tools do; equal ones as they stand.

    Args:
        lines: As they stand. Where the last column counts 1, 2, 3, it is no score but the rank.
    """
    scores = [line.score for line in lines]
    counts = len(lines) > 1 and scores == [scores[0] + i for i in range(len(lines))] and scores[0] in (0, 1)
    ordered = lines if counts else sorted(lines, key=lambda line: -line.score)
    return list(dict.fromkeys(line.document for line in ordered))


def has_header(path: Path, form: Form) -> bool:
    """Whether the first line only names the columns."""
    with path.open("rb") as file:
        first = file.readline(MAX_ROW_BYTES)
    return bool(first.strip()) and form(first) is None
