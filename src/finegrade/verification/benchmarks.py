"""The texts of a benchmark that a user names: what must not be trained on if its scores shall mean something.

A benchmark is its test queries and the documents that answer them. The other documents of its corpus are what
everybody may know; they are left out. Data of others is read as far as it can be read: a bad row is passed
over and counted, where the same row in the user's own data would stop a run (data/user_queries.py).
"""

import importlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from itertools import chain
from pathlib import Path
from typing import Any, Literal, NamedTuple

from finegrade.console import say
from finegrade.data.beir import BeirFolder, read_judgements, record_id
from finegrade.data.readers.tables import READERS, Row, read_jsonl, read_parquet
from finegrade.data.readers.text_files import MAX_ROW_BYTES, bounded_lines, file_encoding
from finegrade.errors import InputError, first_line, unreadable
from finegrade.rows import BENCHMARK_ANSWER_NAMES, BENCHMARK_EITHER_NAMES, BENCHMARK_QUERY_NAMES, POSITIVE_NAMES
from finegrade.text import encodable

Role = Literal["query", "document", "title"]
_Roles = Mapping[str, tuple[Role, ...]]  # column, as _plain has it -> the roles of what it holds
_BOTH: tuple[Role, ...] = ("query", "document")  # a text that may be either is given as both

_AT_END = re.compile(r"s?(_?\d+)?$")  # answers, sentence1, answer_2


def _plain(column: object) -> str:
    return _AT_END.sub("", str(column).strip().lower())


_ROLES: _Roles = {  # negatives answer nothing
    **{_plain(name): _BOTH[:1] for name in BENCHMARK_QUERY_NAMES},
    **{_plain(name): _BOTH[1:] for name in BENCHMARK_ANSWER_NAMES},
    **{_plain(name): _BOTH for name in BENCHMARK_EITHER_NAMES},
    "title": ("title",),
}
_QUERY: _Roles = {"text": ("query",)}
_DOCUMENT: _Roles = {"title": ("title",), "text": ("document",)}  # two texts: many a set has the one without the other

_INNER = frozenset(("value", *_ROLES)) - {"title"}  # {"text": ["an answer"], "answer_start": [7]}
_DEPTH = 4  # of lists in lists
_REMEMBERED, _SHOWN = 1_000, 20  # columns: each line of a JSONL may have others


class BenchmarkText(NamedTuple):
    """A text of a benchmark, by the name that the user gave it; whether it asks or answers, or is a document's name."""

    benchmark: str
    role: Role
    text: str


class _Columns:
    """Reads the rows of a table, and remembers which columns gave texts.

    Where a row has a title, and nothing that asks though it might, the title asks.
    """

    def __init__(self, roles: _Roles = _ROLES) -> None:
        self._roles = roles
        self._may_ask = any("query" in some for some in roles.values())
        self._gave: dict[str, bool] = {}

    def knows(self, column: str) -> bool:
        return _plain(column) in self._roles

    def texts(self, row: Mapping[str, Any]) -> list[tuple[Role, str]]:
        found: list[tuple[Role, str]] = []
        for column, value in row.items():
            texts = [text for text in _strings(value) if text.strip()]
            self.note(column, bool(texts))
            found += [(role, text) for text in texts for role in self._roles.get(_plain(column), ())]
        if self._may_ask and not any(role == "query" for role, _ in found):
            found += [("query", text) for role, text in found if role == "title"]
        return found

    def note(self, column: str, has_text: bool) -> None:
        name = str(column)
        if name in self._gave or len(self._gave) < _REMEMBERED:
            self._gave[name] = has_text or self._gave.get(name, False)

    def summary(self) -> str:
        """In a line: which columns gave texts, which of those that are read gave none, and which texts nobody read."""
        kinds: dict[str, list[str]] = {"texts of": [], "none in": [], "not read:": []}
        for name, gave in self._gave.items():
            if self.knows(name):
                kinds["texts of" if gave else "none in"].append(name)
            elif gave:
                kinds["not read:"].append(name)
        shown = {kind: [*names[:_SHOWN], *["…"] * (len(names) > _SHOWN)] for kind, names in kinds.items() if names}
        parts = [f"{kind} {', '.join(names)}" for kind, names in shown.items()]
        return "; ".join(parts if kinds["texts of"] else ["no texts", *parts])


def _strings(value: object, depth: int = _DEPTH) -> Iterator[str]:
    """The texts in a cell: one, or those in a list, or in a struct under a name that is known."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping) and depth:
        for name, inner in value.items():
            if _plain(name) in _INNER:
                yield from _strings(inner, depth - 1)
    elif isinstance(value, list | tuple) and depth:
        for inner in value:
            yield from _strings(inner, depth - 1)


_FORMS = "a BEIR folder, a file (.jsonl, .csv, .tsv, .parquet, .txt), or mteb:TASK"
_TABLES: Mapping[str, Callable[..., Iterator[Row]]] = {**READERS, ".parquet": partial(read_parquet, nested=True)}
_MTEB = "mteb:"


def check_benchmarks(names: Iterable[str]) -> None:
    """Finds out, before anything is paid for, whether there are such benchmarks: of each the first text is read.

    Of a task of mteb it is only looked whether there is one, and nothing downloaded.
    """
    for name in names:
        if name.startswith(_MTEB):
            _mteb_task(name)
        else:
            next(benchmark_texts(name))


def benchmark_texts(name: str) -> Iterator[BenchmarkText]:
    """Reads the texts of a benchmark one by one.

    Args:
        name: A BEIR folder: the queries that have a judgement in qrels/test.tsv (in all of qrels/ where there is no
            such file), and the documents that these judgements call relevant. A file: .jsonl, .csv, .tsv or .parquet
            with columns like query, positive, text or sentence1 (``finegrade.rows`` lists them; a message says which
            were read, and which not), or .txt with a text a line; what may be query or document is given as
            both. ``mteb:TASK``: the test splits of a task of the mteb package.

    Raises:
        InputError: There is no such benchmark, or no text in it.
    """
    if name.startswith(_MTEB):
        return _checked(name, chain.from_iterable(map(_of_task, _parts(_mteb_task(name)))))
    path = Path(name).expanduser()
    if path.is_dir():
        return _checked(name, _of_beir(BeirFolder(path)))
    if path.is_file() and path.suffix.lower() in (".txt", *_TABLES):
        return _checked(name, _of_lines(path) if path.suffix.lower() == ".txt" else _of_table(name, path))
    got = f"a file that ends in {path.suffix or 'nothing'}" if path.is_file() else "nothing there"
    raise InputError(f"the benchmark {name}", got=got, wanted=_FORMS, remedy="Correct the name.")


_Found = tuple[Role, str] | str  # a text with its role, or why a row gave none


def _checked(name: str, found: Iterable[_Found]) -> Iterator[BenchmarkText]:
    """The texts; a message at the end says what was wrong with files and rows, or at once where nothing can be read."""
    bad: Counter[str] = Counter()
    is_empty = True
    try:
        for one in found:
            if isinstance(one, str):
                bad[one if one in bad or len(bad) < 100 else "other"] += 1  # reasons may name positions
            elif one[1].strip():
                is_empty = False
                yield BenchmarkText(name, one[0], encodable(one[1]))
    except (OSError, ValueError) as error:
        raise unreadable(f"the benchmark {name}", error, _FORMS, "Get the file again.") from None
    if is_empty:
        got = next(iter(bad), "no text")
        names = (*BENCHMARK_QUERY_NAMES, *POSITIVE_NAMES, *BENCHMARK_EITHER_NAMES[:1])
        wanted = f"texts, in columns such as {', '.join(names)}"
        raise InputError(f"the benchmark {name}", got=got, wanted=wanted, remedy="Name another file, or columns so.")
    if bad:
        reasons = ", ".join(f"{reason} ({number:,})" for reason, number in bad.most_common(3))
        say(f"Benchmark {name}: {bad.total():,} rows could not be used: {reasons}.")


def _of_table(name: str, path: Path) -> Iterator[_Found]:
    columns = _Columns()
    for row in _TABLES[path.suffix.lower()](path):
        if isinstance(row, str):
            yield row
        else:
            texts = columns.texts(row)
            yield from texts
            if not texts:
                yield "no text in a column of a known name"
    say(f"Benchmark {name}: {columns.summary()}.")


def _of_lines(path: Path) -> Iterator[_Found]:
    encoding, _ = file_encoding(path)
    with path.open(encoding=encoding, errors="replace") as file:
        for line in bounded_lines(file):
            if line is None:
                yield f"a line of more than {MAX_ROW_BYTES:,} characters"
            elif line.strip():
                yield from ((role, line.strip()) for role in _BOTH)


def _of_beir(folder: BeirFolder) -> Iterator[_Found]:
    judgements = folder.judgements
    if not judgements or not (folder.queries.is_file() and folder.corpus.is_file()):
        names = sorted(path.name for path in folder.path.iterdir())[:10]
        wanted, remedy = "queries.jsonl, corpus.jsonl and qrels/*.tsv", "Name a BEIR folder, or a file."
        got = f"a folder with {', '.join(names) or 'nothing in it'}"
        raise InputError(f"the benchmark {folder.path}", got=got, wanted=wanted, remedy=remedy)
    queries: set[str] = set()
    documents: set[str] = set()
    for path in [judgements["test"]] if "test" in judgements else judgements.values():
        for _, judgement in read_judgements(path):
            if isinstance(judgement, str):
                yield judgement
                continue
            queries.add(judgement.query)
            if judgement.score > 0:
                documents.add(judgement.document)
    yield from _wanted(folder.queries, queries, "query", _QUERY)
    yield from _wanted(folder.corpus, documents, "document", _DOCUMENT)


def _wanted(path: Path, ids: set[str], role: Role, roles: _Roles) -> Iterator[_Found]:
    """The texts of the rows with these ids, which are struck off."""
    columns = _Columns(roles)
    for row in read_jsonl(path):
        if isinstance(row, str):
            yield row
        elif (own := record_id(row)) in ids and own is not None:
            ids.discard(own)
            texts = columns.texts(row)
            yield from texts
            if not texts:
                yield f"a judged {role} without a text"
    yield from (f"a judged {role} that is not in {path.name}" for _ in ids)


def _mteb_task(name: str) -> Any:
    """A task of the mteb package, which the user has installed; its data is not downloaded yet."""
    try:
        task = importlib.import_module("mteb").get_task(name.removeprefix(_MTEB))
    except ImportError as error:
        wanted, remedy = "the package mteb, 2 or later", "Install it: pip install 'finegrade[mteb]'"
        raise InputError(name, got=error, wanted=wanted, remedy=remedy) from None
    except KeyError as error:
        got, wanted = error.args[0] if error.args else "no such task", "the name of a task of mteb"
        raise InputError(name, got=got, wanted=wanted, remedy="Correct the name.") from None
    parts = list(_parts(task))
    if not parts:
        raise InputError(name, got="no text", wanted="a task of texts", remedy="Name another.")
    if any(part.metadata.dataset.get("trust_remote_code") for part in parts):
        got, wanted = "a data set that comes with code", "one that does not"
        raise InputError(name, got=got, wanted=wanted, remedy="Save its texts to a file and name the file.")
    return task


def _parts(task: Any) -> Iterator[Any]:
    """The tasks in an aggregate, which has no data of its own; of a task itself. Pictures are not even downloaded."""
    inner = getattr(task, "tasks", ())
    for part in inner:
        yield from _parts(part)
    if not inner and "text" in task.metadata.modalities:
        yield task


def _of_task(task: Any) -> Iterator[tuple[Role, str]]:
    """Of a retrieval task what its judgements need; of others the usual columns, and those that the task names."""
    name = f"mteb:{task.metadata.name}"
    try:
        task.load_data()
        if hasattr(task, "convert_v1_dataset_format_to_v2"):
            task.convert_v1_dataset_format_to_v2(num_proc=None)
    except Exception as error:  # whatever network, hub and file format can raise
        got = first_line(error)
        remedy = "Check the network and HF_TOKEN; what was downloaded once is not downloaded again."
        raise InputError(name, got=got, wanted="its data", remedy=remedy) from None
    named = [getattr(task, f"{name}_column_name", None) for name in ("input", "input1", "input2")]
    named += getattr(task, "column_names", ())
    columns = _Columns({**_ROLES, **{_plain(name): _BOTH for name in named if isinstance(name, str)}})
    is_table = False
    for split in _splits(task.dataset, set(task.metadata.eval_splits)):
        if isinstance(split, Mapping):
            yield from _of_retrieval(split)
        else:
            is_table = True
            yield from _of_columns(split, columns)
    if is_table:
        say(f"Benchmark {name}: {columns.summary()}.")


def _splits(data: Mapping[str, Any], names: set[str]) -> Iterator[Any]:
    """The test splits of all subsets; a task of one subset may have no level of subsets."""
    for key, value in data.items():
        if key in names:
            yield value
        elif isinstance(value, Mapping) and "queries" not in value:
            yield from (split for name, split in value.items() if name in names)


def _of_retrieval(split: Mapping[str, Any]) -> Iterator[tuple[Role, str]]:
    judged = split["relevant_docs"]
    relevant = {
        document for grades in judged.values() for document in grades
        if not isinstance(grades, Mapping) or grades[document] > 0
    }  # fmt: skip
    for rows, ids, roles in ((split["queries"], judged.keys(), _QUERY), (split["corpus"], relevant, _DOCUMENT)):
        wanted = [index for index, own in enumerate(rows["id"]) if own in ids]
        yield from _of_columns(rows.select(wanted), _Columns(roles))


def _of_columns(rows: Any, columns: _Columns) -> Iterator[tuple[Role, str]]:
    known = [name for name in rows.column_names if columns.knows(name)]  # no images are decoded
    for name in rows.column_names:
        if name not in known:
            columns.note(name, True)
    for row in rows.select_columns(known) if known else ():
        yield from columns.texts(row)
