"""A run over a BEIR corpus: the negatives of a query are what a search found for it and nobody judged relevant.

Of the corpus only the positions of its lines are held. Written back is a folder of the same form: corpus, queries
and other judgements as they were; the run with the negatives that are left, hardest first, with scores that count
down, because tools order a run by its scores; the judgements with the negatives that answer after all, and without
the positives that do not. The levels are beside it, in ``levels.tsv``: TREC's form has no column for them.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, NamedTuple

from finegrade.data.beir import BeirFolder, ParseLine, Scored, parse_judgement, parse_trec, ranked, record_id
from finegrade.data.formats.base import (
    ExternalRow,
    Format,
    OutputFiles,
    PassedOver,
    UnreadableRowError,
    VerifiedRow,
    text_in,
)
from finegrade.data.formats.line_index import Find, LineIndex
from finegrade.data.readers.text_files import json_object
from finegrade.errors import InputError

LEVELS = "levels.tsv"
_RUNS = (".trec", ".run", ".txt", ".tsv")
_LOOKED_AT = 10_000  # bytes of a line, to find out what form it has


class RunFiles(NamedTuple):
    """The parts of a BEIR folder: judgements of the queries that are trained on, and what a search found for them."""

    folder: BeirFolder
    judgements: Path
    run: Path
    parse: ParseLine

    @property
    def others(self) -> list[Path]:
        """What stays as it is: corpus, queries, and judgements that nothing is trained by."""
        folder = self.folder
        return [folder.corpus, folder.queries, *(p for p in folder.judgements.values() if p != self.judgements)]


def find_run(path: Path) -> RunFiles | None:
    """The parts of a BEIR folder by its path or that of a run in it; None where it is none.

    Raises:
        InputError: It has no run or several, or no judgements to train by.
    """
    if path.is_dir() and BeirFolder(path).corpus.is_file():
        judgements, (run, parse) = _judgements(BeirFolder(path)), _only_run(path)
        return RunFiles(BeirFolder(path), judgements, run, parse)
    is_run = path.suffix.lower() in _RUNS and path.is_file() and path.parent.name != "qrels" and path.name != LEVELS
    folder = next((BeirFolder(one) for one in path.parents[:2] if is_run and BeirFolder(one).corpus.is_file()), None)
    if folder is None:
        return None
    found = _parse_of(path)
    if found:
        return RunFiles(folder, _judgements(folder), path, found)
    if path.suffix.lower() == ".tsv":
        return None  # a table that lies there
    wanted = "a run: query, Q0, document, rank, score and tag, or query, document and score between tabs"
    raise InputError(str(path), got="other lines", wanted=wanted, remedy="Correct it.")


def _judgements(folder: BeirFolder) -> Path:
    """train.tsv, or else the only one that is not to test with."""
    found = folder.judgements
    to_train = [path for split, path in found.items() if "test" not in split.lower()]
    if "train" in found or len(to_train) == 1:
        return found.get("train") or to_train[0]
    got = ", ".join(path.name for path in found.values()) or "none"
    wanted = "judgements to train by: train.tsv, or one file that is not to test with"
    remedy = "Call the judgements that are to be trained on train.tsv; what a model is tested with must not be."
    raise InputError(str(folder.path / "qrels"), got=got, wanted=wanted, remedy=remedy)


def _only_run(folder: Path) -> tuple[Path, ParseLine]:
    paths = [path for path in sorted(folder.iterdir()) if path.suffix.lower() in _RUNS and path.name != LEVELS]
    runs = [(path, parse) for path in paths if path.is_file() and (parse := _parse_of(path))]
    if len(runs) == 1:
        return runs[0]
    got = ", ".join(path.name for path, _ in runs) or "none"
    remedy = "Name one of them as --input." if runs else "Put what a search found for the training queries there."
    raise InputError(str(folder), got=f"runs: {got}", wanted="one run (NAME.trec, or NAME.tsv)", remedy=remedy)


def _parse_of(path: Path) -> ParseLine | None:
    """What reads the lines of a run; the first one may name the columns."""
    with path.open("rb") as file:
        lines = [line for line in islice(iter(partial(file.readline, _LOOKED_AT), b""), 10) if line.strip()]
    return next((parse for parse in (parse_trec, parse_judgement) if any(map(parse, lines[:2]))), None)


class BeirCase(NamedTuple):
    """A query of the run: its texts, its id, and the ids of the documents in ``external``."""

    external: ExternalRow
    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]


class BeirRun(Format[BeirCase]):
    """A run in a BEIR folder. Its rows are the queries of the run that have judgements, in its order.

    A document that cannot be read is counted in ``passed_over``, too; its query stays. A document with a query's id is
    that query, as BEIR's tools have it.

    Args:
        files: The parts of the folder.
        depth: How many negatives a query has at most: the best ones of the run.
    """

    def __init__(self, files: RunFiles, depth: int) -> None:
        folder, judgements, run, parse = files
        names = [path.relative_to(folder.path) for path in (judgements, run)]
        about = f"queries and relevant documents: {names[0]}, negatives: the first {depth} others of {names[1]}"
        super().__init__(folder.path, about, (folder.corpus, folder.queries, judgements, run))
        self._parts, self._depth = files, depth
        self._corpus, self._queries = LineIndex(folder.corpus, _record_key), LineIndex(folder.queries, _record_key)
        self._scored = {
            LineIndex(part, partial(_query_key, parse=read)): read
            for part, read in ((judgements, parse_judgement), (run, parse))
        }

    def read(self, passed_over: PassedOver) -> Iterator[BeirCase]:
        """See Format."""
        self._count_unreadable(passed_over)
        *_, run = self._scored
        with ExitStack() as stack:
            find = {part: stack.enter_context(part.opened()) for part in (self._corpus, self._queries, *self._scored)}
            for number, query in enumerate(run.each_key(), start=1):
                add = partial(passed_over.add, number)
                judged, found = (
                    [line for line in map(parse, find[part](query)) if line] for part, parse in self._scored.items()
                )
                try:
                    text = _text(find[self._queries](query), "query", "queries.jsonl")
                    yield self._case(query, text, judged, found, find[self._corpus], add)
                except UnreadableRowError as error:
                    add(str(error), {"query": query})

    def _count_unreadable(self, passed_over: PassedOver) -> None:
        """Counts the lines of another form in all parts; a first line that names the columns is none of these."""
        for part in (self._corpus, self._queries, *self._scored):
            may_have_header = part in self._scored
            for number, line in part.each_unreadable():
                if number > 1 or not may_have_header:
                    reason = f"{part.path.name}: a line of another form"
                    passed_over.add(number, reason, {"line": line.decode("utf-8", "replace").strip()})

    def _case(
        self, query: str, text: str, judged: Sequence[Scored], found: Sequence[Scored], documents: Find,
        add: Callable[[str, object], None],
    ) -> BeirCase:  # fmt: skip
        def texts_of(ids: Iterable[str], name: str) -> Iterator[tuple[str, str]]:
            for document in ids:
                try:
                    yield document, _text(documents(document), name, "corpus.jsonl")
                except UnreadableRowError as error:
                    add(str(error), {"document": document})

        grades = {line.document: line.score for line in judged}
        relevant = [document for document, grade in grades.items() if grade > 0]
        others = [document for document in ranked(found) if document not in relevant and document != query]
        positives = dict(texts_of(relevant, "relevant document"))
        negatives = dict(islice(texts_of(others, "found document"), self._depth))
        if not positives:
            raise UnreadableRowError("query: no relevant document")
        external = ExternalRow(text, tuple(positives.values()), tuple(negatives.values()))
        return BeirCase(external, query, tuple(positives), tuple(negatives))

    def check_output(self, output: Path) -> None:
        """See Format."""
        if output.resolve() == self.path.resolve() or output.is_file():
            got = "a file" if output.is_file() else "the input itself"
            wanted = "a folder of its own for the result"
            raise InputError(str(output), got=got, wanted=wanted, remedy="Name another --output.")

    def outputs(self, output: Path) -> list[Path]:
        """See Format."""
        parts = [*self._parts.others, self._parts.judgements, self._parts.run]
        return [*(output / part.relative_to(self.path) for part in parts), output / LEVELS]

    def write(self, rows: Iterable[VerifiedRow], output: Path) -> list[Path]:
        """See Format. Judgements of queries that are not in the run stay as they are."""
        self.check_output(output)
        with OutputFiles() as files, TemporaryFile() as added:
            *others, judgements, run, levels = self.outputs(output)
            for part, copy in zip(self._parts.others, others, strict=True):
                shutil.copyfile(part, files.temporary(copy))
            runs, graded, relevant = (
                files.enter_context(files.temporary(path).open("wb")) for path in (run, levels, judgements)
            )
            graded.write(b"query-id\tcorpus-id\tlevel\n")
            taken: set[int] = set()
            for case, decided in self.verified(rows):
                _write_run(runs, graded, case, decided, is_trec=self._parts.parse is parse_trec)
                taken |= _taken(case, decided)
                if decided.kept_positives:
                    promoted = (case.negatives[index] for index in decided.promoted)
                    added.writelines(_line(case.query, document, "1") for document in promoted)
            _write_left(relevant, self._parts.judgements, taken)
            added.seek(0)
            shutil.copyfileobj(added, relevant)
        return files.paths


def _record_key(line: bytes) -> str | None:
    row = json_object(line)
    return None if isinstance(row, str) else record_id(row)


def _query_key(line: bytes, parse: ParseLine) -> str | None:
    found = parse(line)
    return found.query if found else None


def _text(lines: Sequence[bytes], name: str, file: str) -> str:
    """A title stands before the text, and of lines with one id the last counts, as BEIR's loader has it."""
    if not lines:
        raise UnreadableRowError(f"{name}: not in {file}")
    row = json_object(lines[-1])
    assert not isinstance(row, str), "its id was read"
    title, text = row.get("title"), text_in(row.get("text"), name)
    return text_in(f"{title} {text}", name) if isinstance(title, str) and title.strip() else text


def _write_run(runs: BinaryIO, levels: BinaryIO, case: BeirCase, decided: VerifiedRow, is_trec: bool) -> None:
    kept = decided.kept if decided.kept_positives else ()
    for rank, (index, level) in enumerate(reversed(kept), start=1):
        document, score = case.negatives[index], str(len(kept) + 1 - rank)
        if is_trec:
            runs.write(_line(case.query, "Q0", document, str(rank), score, "finegrade", between=" "))
        else:
            runs.write(_line(case.query, document, score))
        levels.write(_line(case.query, document, str(level)))


def _taken(case: BeirCase, decided: VerifiedRow) -> set[int]:
    """What is no longer judged as it was: hashes of queries that are set aside and of (query, document)."""
    if not decided.kept_positives:
        return {hash(case.query)}
    dropped = (document for index, document in enumerate(case.positives) if index not in decided.kept_positives)
    promoted = (case.negatives[index] for index in decided.promoted)
    return {hash((case.query, document)) for document in (*dropped, *promoted)}


def _write_left(output: BinaryIO, judgements: Path, taken: set[int]) -> None:
    """The judgements but for those that are taken, and their header."""
    with judgements.open("rb") as file:
        for number, line in enumerate(file):
            found = parse_judgement(line)
            is_left = number == 0 if found is None else not {hash(found.query), hash(found[:2])} & taken
            if is_left:
                output.write(line.rstrip(b"\r\n") + b"\n")


def _line(*cells: str, between: str = "\t") -> bytes:
    return (between.join(cells) + "\n").encode("utf-8", "surrogateescape")
