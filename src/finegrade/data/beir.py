"""The files of a BEIR folder and of runs over it: corpus.jsonl, queries.jsonl, qrels/*.tsv, runs in TREC's form.

Here is what a line means. What becomes of a bad one is the reader's choice: in the user's own data it stops the run,
in what others made it is counted and passed over.
"""

import codecs
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from finegrade.data.readers.text_files import bounded_lines, not_utf8

NO_JUDGEMENT = "no judgement: query, document and grade between tabs"


class BeirFolder(NamedTuple):
    """A folder in BEIR's form; whether its files are there is not known."""

    path: Path

    @property
    def corpus(self) -> Path:
        """The documents."""
        return self.path / "corpus.jsonl"

    @property
    def queries(self) -> Path:
        """The queries."""
        return self.path / "queries.jsonl"

    @property
    def judgements(self) -> dict[str, Path]:
        """Split -> file, sorted by name."""
        return {path.stem: path for path in sorted((self.path / "qrels").glob("*.tsv"))}


class Scored(NamedTuple):
    """A line of judgements or of a run: two ids, and how relevant the document is."""

    query: str
    document: str
    score: float


ParseLine = Callable[[bytes], Scored | None]
"""Reads a line of judgements or of a run; None where it is none, such as the header."""


def parse_judgement(line: bytes) -> Scored | None:
    """A line of judgements or of a run in three columns: query, document, score."""
    cells = _text(line).rstrip("\r\n").split("\t")
    return _scored(cells, 1, 2) if len(cells) == 3 else None


def parse_trec(line: bytes) -> Scored | None:
    """A line of a run in TREC's form: query, Q0, document, rank, score, tag."""
    cells = _text(line).split()
    return _scored(cells, 2, 4) if len(cells) == 6 else None


def _text(line: bytes) -> str:
    return line.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")


def _scored(cells: Sequence[str], document: int, score: int) -> Scored | None:
    try:
        value = float(cells[score])
    except ValueError:
        return None
    is_whole = cells[0] and cells[document] and math.isfinite(value)
    return Scored(cells[0], cells[document], value) if is_whole else None


def read_judgements(path: Path) -> Iterator[tuple[int, Scored | str]]:
    """Yields line numbers, from 1, each with its judgement, or with the reason why it is none.

    A first line that is none names the columns. Blank lines are passed over.
    """
    with path.open("rb") as file:
        for number, line in enumerate(bounded_lines(file), start=1):
            if line is None or line.strip():
                line = line or b""
                try:
                    line.decode()
                    found = parse_judgement(line) or NO_JUDGEMENT
                except UnicodeDecodeError as error:
                    found = not_utf8(error)
                if number > 1 or isinstance(found, Scored):
                    yield number, found


def record_id(row: Mapping[str, Any]) -> str | None:
    """The id of a document or query; None where it has none."""
    own = row.get("_id", row.get("id"))
    return str(own) if isinstance(own, str | int) else None


def ranked(lines: Sequence[Scored]) -> list[str]:
    """The documents of one query, best first, each once: by score, as TREC's tools do; equal ones as they stand.

    Where the last column counts 1, 2, 3, it is no score but the rank.
    """
    scores = [line.score for line in lines]
    are_ranks = len(lines) > 1 and scores == [scores[0] + i for i in range(len(lines))] and scores[0] in (0, 1)
    ordered = lines if are_ranks else sorted(lines, key=lambda line: -line.score)
    return list(dict.fromkeys(line.document for line in ordered))
