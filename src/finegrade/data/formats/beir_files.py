"""Where the parts of a BEIR folder are: which run is verified, by which judgements, and never by those of a test."""

import json
import math
from collections.abc import Callable, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

from finegrade.data.formats.base import text_in
from finegrade.data.readers.jsonl import MAX_ROW_BYTES
from finegrade.errors import InputError


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


LEVELS = "levels.tsv"
_RUNS = (".trec", ".run", ".txt", ".tsv")
_READ_FOR_THE_FORM = 10_000  # bytes


class BeirFiles(NamedTuple):
    """The parts of a BEIR folder.

    Attributes:
        folder: With corpus.jsonl, queries.jsonl and qrels/.
        judgements: Of the queries that are trained on.
        run: What a search found for them.
    """

    folder: Path
    judgements: Path
    run: Path

    @property
    def read(self) -> tuple[Path, ...]:
        """All that is read."""
        return (self.folder / "corpus.jsonl", self.folder / "queries.jsonl", self.judgements, self.run)

    @property
    def others(self) -> list[Path]:
        """What stays as it is: corpus, queries, and judgements that nothing is trained by."""
        judgements = sorted((self.folder / "qrels").glob("*.tsv"))
        return [*self.read[:2], *(path for path in judgements if path != self.judgements)]

    @property
    def line_of_run(self) -> Form:
        """Reads a line of the run."""
        form = _form(self.run)
        assert form is not None
        return form


def find_beir(path: Path) -> BeirFiles | None:
    """The parts of a BEIR folder; None where it is none.

    Args:
        path: The folder, or a run in it.

    Raises:
        InputError: It has no run or several, or no judgements to train by.
    """
    if path.is_dir() and (path / "corpus.jsonl").is_file():
        return BeirFiles(path, _judgements(path), _run(path))
    is_run = path.suffix.lower() in _RUNS and path.is_file() and path.parent.name != "qrels" and path.name != LEVELS
    folder = next((one for one in path.parents[:2] if is_run and (one / "corpus.jsonl").is_file()), None)
    if folder is None:
        return None
    if _form(path) is None:
        if path.suffix.lower() == ".tsv":
            return None  # a table that lies there
        wanted = "a run: query, Q0, document, rank, score and tag, or query, document and score between tabs"
        raise InputError(str(path), got="other lines", wanted=wanted, remedy="Correct it.")
    return BeirFiles(folder, _judgements(folder), path)


def _judgements(folder: Path) -> Path:
    """train.tsv, or else the only one that is not to test with."""
    found = sorted((folder / "qrels").glob("*.tsv"))
    to_train = [path for path in found if path.stem == "train"]
    to_train = to_train or [path for path in found if "test" not in path.stem.lower()]
    if len(to_train) == 1:
        return to_train[0]
    got = ", ".join(path.name for path in found) or "none"
    wanted = "judgements to train by: train.tsv, or one file that is not to test with"
    remedy = "Call the judgements that are to be trained on train.tsv; what a model is tested with must not be."
    raise InputError(str(folder / "qrels"), got=got, wanted=wanted, remedy=remedy)


def _run(folder: Path) -> Path:
    found = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in _RUNS and path.name != LEVELS]
    runs = [path for path in found if path.is_file() and _form(path)]
    if len(runs) == 1:
        return runs[0]
    got = ", ".join(path.name for path in runs) or "none"
    remedy = "Name one of them as --input." if runs else "Put what a search found for the training queries there."
    raise InputError(str(folder), got=f"runs: {got}", wanted="one run (NAME.trec, or NAME.tsv)", remedy=remedy)


def _form(path: Path) -> Form | None:
    """What reads the lines of a run; the first one may name the columns."""
    with path.open("rb") as file:
        lines = [line for line in islice(iter(lambda: file.readline(_READ_FOR_THE_FORM), b""), 10) if line.strip()]
    return next((form for form in (trec, judgement) if any(map(form, lines[:2]))), None)
