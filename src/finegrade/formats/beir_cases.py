"""A query of a BEIR folder, what was judged relevant, what a search found: texts are read when they are needed."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from functools import partial
from itertools import islice
from typing import NamedTuple

from finegrade.formats.beir_folder import BeirFiles
from finegrade.formats.beir_lines import Form, Scored, has_header, judgement, ranked, record_id, record_text
from finegrade.formats.given import Given, PassedOver
from finegrade.formats.line_index import Find, LineIndex
from finegrade.formats.texts import UnreadableRowError

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
