"""A run over a BEIR corpus: the negatives of a query are what a search found for it and nobody judged relevant.

Nothing of the corpus is held but where its lines begin. Written back is a folder of the same form: corpus, queries
and other judgements as they were; the run with the negatives that are left, hardest first, with scores that count
down, because tools order a run by its scores; the judgements with the negatives that answer after all, and without
the positives that do not. The levels are beside it, in ``levels.tsv``: TREC's form has no column for them.
"""

import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO, NamedTuple

from finegrade.data.formats.base import Given, Judged, OutputFiles, PassedOver, Tell, UnreadableRowError, beside
from finegrade.data.formats.beir_files import (
    LEVELS,
    BeirFiles,
    Form,
    Scored,
    has_header,
    judgement,
    ranked,
    record_id,
    record_text,
    trec,
)
from finegrade.data.formats.line_index import Find, LineIndex
from finegrade.errors import InputError

_Add = Callable[[str, object], None]
"""Counts what cannot be used: why, and what it is."""


class BeirCase(NamedTuple):
    """A query of the run.

    Attributes:
        given: Its texts.
        query: Its id.
        positives: The ids of ``Given.positives``.
        negatives: The ids of ``Given.negatives``, best first.
    """

    given: Given
    query: str
    positives: tuple[str, ...]
    negatives: tuple[str, ...]


class BeirCases:
    """The queries of a run that have judgements. A document with a query's id is that query, as BEIR's tools have it.

    Args:
        files: The parts of the folder.
        depth: How many negatives a query has at most.

    Raises:
        InputError: A part cannot be read.
    """

    def __init__(self, files: BeirFiles, depth: int) -> None:
        self._depth, self._files = depth, files
        self._corpus = LineIndex(files.folder / "corpus.jsonl", record_id)
        self._queries = LineIndex(files.folder / "queries.jsonl", record_id)
        self._judgements = LineIndex(files.judgements, _query_in(judgement))
        self._run = LineIndex(files.run, _query_in(files.line_of_run))
        self._forms = {self._judgements: judgement, self._run: files.line_of_run}

    def count_unreadable(self, passed_over: PassedOver) -> None:
        """Counts the lines of another form in all parts; a first line that names the columns is none of these."""
        for index in (self._corpus, self._queries, self._judgements, self._run):
            has_names = index in self._forms and has_header(index.path, self._forms[index])
            for number, line in index.each_unreadable():
                if number > 1 or not has_names:
                    reason = f"{index.path.name}: a line of another form"
                    passed_over.add(number, reason, {"line": line.decode("utf-8", "replace").strip()})

    def cases(self, passed_over: PassedOver) -> Iterator[BeirCase]:
        """The queries in the order of the run.

        Args:
            passed_over: Reason -> what could not be used: counted in here.
        """
        with ExitStack() as stack:
            read = {index: stack.enter_context(index.opened()) for index in (self._corpus, self._queries, *self._forms)}
            for number, query in enumerate(self._run.each_key(), start=1):
                add = partial(passed_over.add, number)
                judged, found = ([*filter(None, map(form, read[index](query)))] for index, form in self._forms.items())
                try:
                    text = _text(read[self._queries](query), "query", "queries.jsonl")
                    yield self._case(query, text, judged, found, read[self._corpus], add)
                except UnreadableRowError as error:
                    add(str(error), {"query": query})

    def _case(
        self, query: str, text: str, judged: Sequence[Scored], found: Sequence[Scored], documents: Find,
        add: _Add,
    ) -> BeirCase:  # fmt: skip
        grades = {line.document: line.score for line in judged}
        relevant = [document for document, grade in grades.items() if grade > 0]
        others = [document for document in ranked(found) if document not in relevant and document != query]
        positives = dict(_texts(relevant, documents, "relevant document", add))
        negatives = dict(islice(_texts(others, documents, "found document", add), self._depth))
        if not positives:
            raise UnreadableRowError("query: no relevant document")
        given = Given(text, tuple(positives.values()), tuple(negatives.values()))
        return BeirCase(given, query, tuple(positives), tuple(negatives))


def _texts(documents: Iterable[str], find: Find, name: str, add: _Add) -> Iterator[tuple[str, str]]:
    for document in documents:
        try:
            yield document, _text(find(document), name, "corpus.jsonl")
        except UnreadableRowError as error:
            add(str(error), {"document": document})


def _text(lines: Sequence[bytes], name: str, file: str) -> str:
    """Of lines with one id the last counts, as BEIR's loader has it."""
    if not lines:
        raise UnreadableRowError(f"{name}: not in {file}")
    return record_text(lines[-1], name)


def _query_in(form: Form) -> Callable[[bytes], str | None]:
    def query(line: bytes) -> str | None:
        found = form(line)
        return found.query if found else None

    return query


class BeirRun:
    """A run in a BEIR folder: a Format.

    Args:
        files: The parts of the folder.
        depth: How many negatives a query has at most: the best ones of the run.

    Raises:
        InputError: A part cannot be read.
    """

    def __init__(self, files: BeirFiles, depth: int) -> None:
        run, judgements = (path.relative_to(files.folder) for path in (files.run, files.judgements))
        self.path, self.files = files.folder, files.read
        self.about = f"queries and relevant documents: {judgements}, negatives: the first {depth} others of {run}"
        self.passed_over = PassedOver()
        self.not_written: Counter[str] = Counter()
        self._files, self._cases = files, BeirCases(files, depth)

    def rows(self, tell: Tell | None = None) -> Iterator[Given]:
        """See Format. A document that cannot be read is counted in ``passed_over``, too; its query stays."""
        self.passed_over = PassedOver(tell)
        self._cases.count_unreadable(self.passed_over)
        return (case.given for case in self._cases.cases(self.passed_over))

    def check_output(self, output: Path) -> None:
        """See Format."""
        if output.resolve() == self._files.folder.resolve() or output.is_file():
            got = "a file" if output.is_file() else "the input itself"
            wanted = "a folder of its own for the result"
            raise InputError(str(output), got=got, wanted=wanted, remedy="Name another --output.")

    def outputs(self, output: Path) -> list[Path]:
        """See Format."""
        parts = [*self._files.others, self._files.judgements, self._files.run]
        return [*(output / part.relative_to(self._files.folder) for part in parts), output / LEVELS]

    def write(self, judged: Iterable[Judged], output: Path) -> list[Path]:
        """See Format. Judgements of queries that are not in the run stay as they are."""
        self.check_output(output)
        folder, judgements, run = self._files
        with OutputFiles() as files, TemporaryFile() as added:
            for part in self._files.others:
                shutil.copyfile(part, files.temporary(output / part.relative_to(folder)))
            runs, levels, relevant = (
                files.enter_context(files.temporary(path).open("wb"))
                for path in (output / run.relative_to(folder), output / LEVELS, output / judgements.relative_to(folder))
            )
            levels.write(b"query-id\tcorpus-id\tlevel\n")
            taken: set[int] = set()
            for case, decided in beside(folder, self._cases.cases(PassedOver()), judged):
                _write_run(runs, levels, case, decided, is_trec=self._files.line_of_run is trec)
                taken |= _taken(case, decided)
                if decided.kept_positives:
                    promoted = (case.negatives[place] for place in decided.promoted)
                    added.writelines(_line(case.query, document, "1") for document in promoted)
            _write_left(relevant, judgements, taken)
            added.seek(0)
            shutil.copyfileobj(added, relevant)
        return files.paths


def _write_run(runs: BinaryIO, levels: BinaryIO, case: BeirCase, decided: Judged, is_trec: bool) -> None:
    kept = decided.kept if decided.kept_positives else ()
    for rank, (place, level) in enumerate(reversed(kept), start=1):
        document, score = case.negatives[place], str(len(kept) + 1 - rank)
        if is_trec:
            runs.write(_line(case.query, "Q0", document, str(rank), score, "finegrade", between=" "))
        else:
            runs.write(_line(case.query, document, score))
        levels.write(_line(case.query, document, str(level)))


def _taken(case: BeirCase, decided: Judged) -> set[int]:
    """What is no longer judged as it was: hashes of queries that are set aside and of (query, document)."""
    if not decided.kept_positives:
        return {hash(case.query)}
    dropped = (text for place, text in enumerate(case.positives) if place not in decided.kept_positives)
    promoted = (case.negatives[place] for place in decided.promoted)
    return {hash((case.query, document)) for document in (*dropped, *promoted)}


def _write_left(output: BinaryIO, judgements: Path, taken: set[int]) -> None:
    """The judgements but for those that are taken, and their header."""
    with judgements.open("rb") as file:
        for number, line in enumerate(file):
            found = judgement(line)
            is_left = number == 0 if found is None else not {hash(found.query), hash(found[:2])} & taken
            if is_left:
                output.write(line.rstrip(b"\r\n") + b"\n")


def _line(*cells: str, between: str = "\t") -> bytes:
    return (between.join(cells) + "\n").encode("utf-8", "surrogateescape")
