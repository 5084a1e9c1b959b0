"""The texts of a benchmark that a user names: what must not be trained on if its scores shall mean something.

A benchmark is its test queries and the documents that answer them. The other documents of its corpus are what
everybody may know; they are left out. What somebody else made is read as far as it can be read: a bad row is passed
over and counted, where the same row in the user's own data would stop a run (sources/own_queries.py).
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from finegrade.console import say
from finegrade.data.readers.encoding import file_encoding
from finegrade.data.readers.jsonl import MAX_ROW_BYTES
from finegrade.data.readers.tables import Guessed, read_csv, read_jsonl, read_parquet
from finegrade.errors import InputError
from finegrade.text import encodable
from finegrade.verification.decontamination.columns import (
    BOTH,
    DOCUMENT,
    QUERY,
    ROLES,
    BenchmarkColumns,
    BenchmarkText,
    Role,
    Roles,
)
from finegrade.verification.decontamination.mteb import mteb_task, mteb_texts

_FORMS = "a BEIR folder, a file (.jsonl, .csv, .tsv, .parquet, .txt), or mteb:TASK"
_Row = Mapping[str, Any] | str
_TABLES: dict[str, Callable[[Path, Guessed], Iterator[_Row]]] = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_csv,
    ".parquet": partial(read_parquet, nested=True),
}
_MTEB = "mteb:"
_NAMED = 12  # columns in an error


def check_benchmarks(names: Iterable[str]) -> None:
    """Finds out at once, and before anything is paid for, whether there are such benchmarks.

    Of each the first text is read; of a task of mteb it is only looked whether there is one, and nothing downloaded.

    Args:
        names: As ``benchmark_texts`` takes them.

    Raises:
        InputError: There is no such benchmark, or no text in it.
    """
    for name in names:
        if name.startswith(_MTEB):
            mteb_task(name.removeprefix(_MTEB))
        else:
            next(benchmark_texts(name))


def benchmark_texts(name: str) -> Iterator[BenchmarkText]:
    """Reads the texts of a benchmark one by one.

    Args:
        name: A BEIR folder: the queries that have a judgement in qrels/test.tsv (in all of qrels/ where there is no
            such file), and the documents that these judgements call relevant. A file: .jsonl, .csv, .tsv or .parquet
            with columns like query, positive, text or sentence1 (``columns.py`` lists them; which
            were read, and which not, is told), or .txt with a text a line; what may be query or document is given as
            both. ``mteb:TASK``: the test splits of a task of the mteb package.

    Raises:
        InputError: There is no such benchmark, or no text in it.
    """
    if name.startswith(_MTEB):
        return _at_least_one(name, mteb_texts(name.removeprefix(_MTEB)), Counter())
    path = Path(name).expanduser()
    if path.is_dir():
        return _of_files(name, _of_beir(path))
    if path.is_file() and path.suffix.lower() in (".txt", *_TABLES):
        return _of_files(name, _of_lines(path) if path.suffix.lower() == ".txt" else _of_table(name, path))
    got = f"a file that ends in {path.suffix or 'nothing'}" if path.is_file() else "nothing there"
    raise InputError(f"the benchmark {name}", got=got, wanted=_FORMS, remedy="Correct the name.")


_Found = tuple[Role, str] | str
"""A text with its role, or why a row gave none."""


def _of_files(name: str, found: Iterable[_Found]) -> Iterator[BenchmarkText]:
    """The texts; what was wrong with files and rows is told at the end, or at once where nothing can be read."""
    bad: Counter[str] = Counter()
    try:
        yield from _at_least_one(name, _counted(found, bad), bad)
    except (OSError, ValueError) as error:
        got = getattr(error, "strerror", None) or error
        raise InputError(f"the benchmark {name}", got=got, wanted=_FORMS, remedy="Get the file again.") from None
    if bad:
        reasons = ", ".join(f"{reason} ({number:,})" for reason, number in bad.most_common(3))
        say(f"Benchmark {name}: {bad.total():,} rows could not be used: {reasons}.")


def _counted(found: Iterable[_Found], bad: Counter[str]) -> Iterator[tuple[Role, str]]:
    for one in found:
        if isinstance(one, str):
            bad[one if one in bad or len(bad) < 100 else "other"] += 1  # reasons may name places: no more than these
        else:
            yield one


def _at_least_one(name: str, found: Iterable[tuple[Role, str]], bad: Mapping[str, int]) -> Iterator[BenchmarkText]:
    empty = True
    for role, text in found:
        if text.strip():
            empty = False
            yield BenchmarkText(name, role, encodable(text))
    if empty:
        got = next(iter(bad), "no text")
        wanted = f"texts, in columns such as {', '.join(list(ROLES)[:_NAMED])}"
        raise InputError(f"the benchmark {name}", got=got, wanted=wanted, remedy="Name another file, or columns so.")


def _texts_or(texts: Sequence[tuple[Role, str]], reason: str) -> Sequence[_Found]:
    return texts or [reason]


def _ignored(guess: str) -> None:
    """An encoding that had to be guessed is no trouble here."""


def _of_table(name: str, path: Path) -> Iterator[_Found]:
    columns = BenchmarkColumns()
    for row in _TABLES[path.suffix.lower()](path, _ignored):
        if isinstance(row, str):
            yield row
        else:
            yield from _texts_or(columns.texts(row), "no text in a column of a known name")
    say(f"Benchmark {name}: {columns.told()}.")


def _of_lines(path: Path) -> Iterator[_Found]:
    encoding, _ = file_encoding(path)
    with path.open(encoding=encoding, errors="replace") as lines:
        too_long = False
        for line in iter(partial(lines.readline, MAX_ROW_BYTES), ""):
            cut = len(line) == MAX_ROW_BYTES and not line.endswith("\n")
            if cut and not too_long:
                yield f"a line of more than {MAX_ROW_BYTES:,} characters"
            elif not too_long and line.strip():
                yield from ((role, line.strip()) for role in BOTH)
            too_long = cut


def _of_beir(folder: Path) -> Iterator[_Found]:
    wanted = "queries.jsonl, corpus.jsonl and qrels/*.tsv"
    judged = [folder / "qrels" / "test.tsv"]
    if not judged[0].is_file():
        judged = sorted((folder / "qrels").glob("*.tsv"))
    if not judged or not all((folder / f"{name}.jsonl").is_file() for name in ("queries", "corpus")):
        names = sorted(path.name for path in folder.iterdir())[:10]
        got = f"a folder with {', '.join(names) or 'nothing in it'}"
        raise InputError(f"the benchmark {folder}", got=got, wanted=wanted, remedy="Name a BEIR folder, or a file.")
    queries: set[str] = set()
    documents: set[str] = set()
    for path in judged:
        for judgement in _judgements(path):
            if isinstance(judgement, str):
                yield judgement
                continue
            query, document, is_relevant = judgement
            queries.add(query)
            if is_relevant:
                documents.add(document)
    yield from _wanted(folder / "queries.jsonl", queries, "query", QUERY)
    yield from _wanted(folder / "corpus.jsonl", documents, "document", DOCUMENT)


def _judgements(path: Path) -> Iterator[tuple[str, str, bool] | str]:
    """Query, document and whether it is relevant; a string in place of a row says why it is none."""
    with path.open(encoding="utf-8-sig", errors="replace") as lines:
        for number, line in enumerate(iter(partial(lines.readline, MAX_ROW_BYTES), "")):
            if not line.strip():
                continue
            try:
                query, document, grade = line.rstrip("\r\n").split("\t")
                yield query.strip(), document.strip(), float(grade) > 0
            except ValueError:
                if number:  # the first line may be a header
                    yield "no judgement: query, document and grade between tabs"


def _wanted(path: Path, ids: set[str], role: Role, roles: Roles) -> Iterator[_Found]:
    """The texts of the rows with these ids, which are struck off."""
    columns = BenchmarkColumns(roles)
    for row in read_jsonl(path, _ignored):
        if isinstance(row, str):
            yield row
        elif (own := str(row.get("_id", row.get("id")))) in ids:
            ids.discard(own)
            yield from _texts_or(columns.texts(row), f"a judged {role} without a text")
    yield from (f"a judged {role} that is not in {path.name}" for _ in ids)
