"""What is read of a benchmark: its test queries and what answers them, however odd the files are."""

import json
import sys
import types
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import Dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.config.toml import parse_config
from finegrade.errors import InputError
from finegrade.stages.pipeline import fetch_models
from finegrade.verification import benchmarks as module
from finegrade.verification.benchmarks import BenchmarkText, benchmark_texts, check_benchmarks


def found(name: object) -> list[tuple[str, str]]:
    texts = list(benchmark_texts(str(name)))
    assert {one.benchmark for one in texts} == {str(name)}
    return [(one.role, one.text) for one in texts]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(module, "say", lines.append)
    return lines


def write_rows(path: Path, *rows: object) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def beir(folder: Path, **qrels: list[str]) -> Path:
    """Six queries and six documents; the rows of each file of qrels are "query document grade"."""
    (folder / "qrels").mkdir(parents=True)
    write_rows(folder / "queries.jsonl", *({"_id": f"q{i}", "text": f"query {i}?"} for i in range(6)))
    write_rows(
        folder / "corpus.jsonl",
        *({"_id": f"d{i}", "title": f"Title {i}" if i % 2 else "", "text": f"Text {i}."} for i in range(6)),
    )
    for split, rows in qrels.items():
        lines = ["query-id\tcorpus-id\tscore", *("\t".join(row.split()) for row in rows)]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


def test_of_a_beir_folder_the_test_queries_and_what_answers_them(tmp_path, told):
    folder = beir(tmp_path, train=["q5 d5 1"], dev=["q4 d4 1"], test=["q0 d0 1", "q0 d1 2", "q1 d2 0"])
    assert found(folder) == [
        ("query", "query 0?"), ("query", "query 1?"),
        ("document", "Text 0."), ("title", "Title 1"), ("document", "Text 1."),
    ]  # fmt: skip
    assert told == []


def test_without_test_judgements_all_that_there_are(tmp_path):
    folder = beir(tmp_path, train=["q5 d4 1"], dev=["q4 d2 1"])
    assert found(folder) == [
        ("query", "query 4?"), ("query", "query 5?"), ("document", "Text 2."), ("document", "Text 4."),
    ]  # fmt: skip


def test_numbers_are_ids_and_the_last_judgement_may_be_torn(tmp_path, told):
    folder = beir(tmp_path)
    write_rows(folder / "queries.jsonl", {"_id": 7, "text": "seven"}, {"_id": 8, "text": None}, {"_id": 8, "text": "x"})
    write_rows(folder / "corpus.jsonl", {"_id": 7, "title": None, "text": "Text."}, ["no object"], {"text": "no id"})
    (folder / "qrels" / "test.tsv").write_bytes(b"7\t7\t1\r\n8\t9\t1\r\n\xff\n7\tx\n\n7\t")
    assert found(folder) == [("query", "seven"), ("document", "Text.")]
    assert len(told) == 1
    assert "6 rows" in told[0]
    assert "no judgement" in told[0]


@pytest.mark.parametrize("missing", ["queries.jsonl", "corpus.jsonl", "qrels/test.tsv"])
def test_a_folder_that_is_no_beir_folder_is_told(tmp_path, missing):
    folder = beir(tmp_path / "b", test=["q0 d0 1"])
    (folder / missing).unlink()
    with pytest.raises(InputError, match=r"queries.jsonl, corpus.jsonl and qrels/\*.tsv"):
        found(folder)


def test_judgements_of_nothing_that_is_there_are_no_benchmark(tmp_path):
    with pytest.raises(InputError, match="a judged query that is not in queries"):
        found(beir(tmp_path, test=["q9 d9 1"]))


def test_columns_say_what_asks_and_what_answers(tmp_path, told):
    path = write_rows(
        tmp_path / "b.jsonl",
        {"Query": "who?", "positive": "me", "negative": "you", "id": 3},
        {"question": "when?", "answers": ["now", "soon", 3, None], "score": 1},
        {"sentence1": "one", "sentence2": "two"},
        {"text": "either"},
        {"anchor": " ", "answer": 7},
    )
    assert found(path) == [
        ("query", "who?"), ("document", "me"), ("query", "when?"), ("document", "now"), ("document", "soon"),
        ("query", "one"), ("document", "one"), ("query", "two"), ("document", "two"),
        ("query", "either"), ("document", "either"),
    ]  # fmt: skip
    assert told == [
        f"Benchmark {path}: texts of Query, positive, question, answers, sentence1, sentence2, text; "
        "none in anchor, answer; not read: negative.",
        f"Benchmark {path}: 1 rows could not be used: no text in a column of a known name (1).",
    ]


def test_columns_of_well_known_data_sets(tmp_path, told):
    squad = {"id": "x", "title": "Valves", "question": "when?", "context": "A passage.",
             "answers": {"text": ["now"], "answer_start": [3]}}  # fmt: skip
    tevatron = {"query": "who?", "positive_passages": [{"docid": "1", "title": "T", "text": "me"}],
                "negative_passages": [{"docid": "2", "title": "T", "text": "you"}]}  # fmt: skip
    rows = (
        squad, tevatron, {"premise": "one", "hypothesis": "two"}, {"title": "why so?", "selftext": "x", "body": "why"},
        {"text1": "a", "sentence_A": "b", "answer_2": "c"}, {"title": "a name", "text": "d"},
        {"context": {"title": ["no"], "sentences": [["e"], ["f"]]}},
    )  # fmt: skip
    both = {text: [("query", text), ("document", text)] for text in ("one", "two", "a", "b", "d")}
    assert found(write_rows(tmp_path / "b.jsonl", *rows)) == [
        ("title", "Valves"), ("query", "when?"), ("document", "A passage."), ("document", "now"),
        ("query", "who?"), ("document", "me"), *both["one"], *both["two"],
        ("title", "why so?"), ("document", "why"), ("query", "why so?"), *both["a"], *both["b"], ("document", "c"),
        ("title", "a name"), *both["d"], ("document", "e"), ("document", "f"),
    ]  # fmt: skip
    assert told[0].endswith("; not read: id, negative_passages, selftext.")


@pytest.mark.parametrize("kind", [pa.list_(pa.string()), pa.large_list(pa.large_string()), pa.list_(pa.string(), 2)])
def test_lists_in_parquet_are_read_as_those_in_jsonl(tmp_path, told, kind):
    rows = [{"query": "who?", "pos": ["me", "us"], "neg": ["you", "they"], "vector": [0.5], "answers": b"picture"}]
    schema = {"query": pa.string(), "pos": kind, "neg": kind, "vector": pa.list_(pa.float32()), "answers": pa.binary()}
    pq.write_table(pa.Table.from_pylist(rows, pa.schema(schema)), tmp_path / "b.parquet")
    write_rows(tmp_path / "b.jsonl", {**rows[0], "answers": None})
    wanted = [("query", "who?"), ("document", "me"), ("document", "us")]
    assert found(tmp_path / "b.parquet") == found(tmp_path / "b.jsonl") == wanted
    for line in told:
        assert line.endswith(": texts of query, pos; none in answers; not read: neg.")


def test_a_stray_quote_costs_no_other_row(tmp_path, told):
    rows = [f"{i}\tquery number {i}" for i in range(9)]
    rows[3] = '3\t"unbalanced query'
    path = tmp_path / "b.tsv"
    path.write_text("id\tquery\n" + "\n".join(rows) + "\n")
    assert [text for _, text in found(path)] == [row.partition("\t")[2] for row in rows]
    assert told[-1].endswith(": texts of query; not read: id.")


def test_names_of_columns_without_end_are_not_all_told(tmp_path, told):
    rows = [{"query": "who?", **{f"note{'x' * (i * 50 + k)}": "n" for k in range(50)}} for i in range(30)]
    found(write_rows(tmp_path / "b.jsonl", *rows))
    assert told[0].count("note") == 20
    assert told[0].endswith(", ….")


def test_lists_in_lists_without_end_do_no_harm(tmp_path):
    (tmp_path / "b.jsonl").write_text('{"query": "who?", "answers": ' + "[" * 400 + '"deep"' + "]" * 400 + "}\n")
    assert found(tmp_path / "b.jsonl") == [("query", "who?")]


def test_tables_and_lines_are_read_alike(tmp_path):
    rows = [{"query": "Who is it?", "positive": "Nobody, as ever."}, {"query": "Où est-ce?", "positive": "Ici."}]
    wanted = [(role, row[name]) for row in rows for role, name in (("query", "query"), ("document", "positive"))]
    csv = tmp_path / "b.csv"
    csv.write_text("query,positive\n" + "".join(f'"{row["query"]}","{row["positive"]}"\n' for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet")
    write_rows(tmp_path / "b.jsonl", *rows)
    assert found(csv) == found(tmp_path / "b.parquet") == found(tmp_path / "b.jsonl") == wanted
    lines = tmp_path / "b.txt"
    lines.write_bytes("one line\r\n\r\n  Où est-ce?".encode())
    assert found(lines) == [
        ("query", "one line"), ("document", "one line"), ("query", "Où est-ce?"), ("document", "Où est-ce?"),
    ]  # fmt: skip


def test_lines_of_another_encoding_and_lines_without_end(tmp_path, told, monkeypatch):
    monkeypatch.setattr("finegrade.data.readers.text_files.MAX_ROW_BYTES", 100)
    path = tmp_path / "b.TXT"
    path.write_bytes("Wie heißt der größte Fluß Österreichs?\n".encode("latin-1") * 3 + b"x" * 350 + b"\nlast\n")
    texts = found(path)
    assert texts[0] == ("query", "Wie heißt der größte Fluß Österreichs?")
    assert texts[-1] == ("document", "last")
    assert len(texts) == 8
    assert "1 rows" in told[0]


def test_bad_rows_are_counted_once_by_reason(tmp_path, told):
    path = tmp_path / "b.jsonl"
    path.write_bytes(b'{"query": "good"}\n{"query": "\xff"}\n[1]\n{"query": "\\ud800 half"}\nnull\n{"query": ')
    assert found(path) == [("query", "good"), ("query", "? half")]
    assert len(told) == 2
    assert "4 rows" in told[1]
    assert "no JSON object (2)" in told[1]


@pytest.mark.parametrize(
    ("name", "content", "got"),
    [
        ("empty.jsonl", b"", "no text"),
        ("columns.jsonl", b'{"label": "x"}\n', "no text in a column of a known name"),
        ("torn.parquet", b"PAR1\0\0", "no Parquet"),
        ("binary.txt", b"\0\1\2", "binary"),
        ("blank.txt", b"\n \n", "no text"),
        ("head.csv", b"query,positive\n", "no text"),
        ("picture.png", b"PNG", "ends in .png"),
        ("nothing", b"", "ends in nothing"),
    ],
)
def test_a_file_without_a_text_is_told(tmp_path, name, content, got):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=got):
        found(tmp_path / name)


def test_a_name_of_nothing_is_told_before_anything_is_read():
    with pytest.raises(InputError, match="nothing there"):
        benchmark_texts("no/such/place.jsonl")


# What is found out before anything is paid for.


def test_a_check_reads_no_more_than_the_first_text(tmp_path, told):
    path = write_rows(tmp_path / "b.jsonl", {"x": "no"}, {"query": "who?"})
    path.write_bytes(path.read_bytes() + b"no JSON\n" * 9_000)
    check_benchmarks([str(path), str(beir(tmp_path / "beir", test=["q0 d0 1"]))])
    assert told == []


@pytest.mark.parametrize(
    ("name", "content"),
    [("gone.jsonl", None), ("a.png", b"x"), ("a.jsonl", b'{"q": "x"}\n'), ("a.txt", b"\n"), ("a.parquet", b"x")],
)
def test_a_check_refuses_what_cannot_be_read(tmp_path, name, content):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=name):
        check_benchmarks([str(tmp_path / name)])


def test_a_check_downloads_nothing_of_mteb(mteb):
    mteb["Fake"] = Task(None)
    check_benchmarks(["mteb:Fake"])
    assert mteb["Fake"].dataset is None
    with pytest.raises(InputError, match="Did you mean"):
        check_benchmarks(["mteb:Fake", "mteb:Fke"])


def test_a_wrong_name_is_told_before_a_model_is_fetched(monkeypatch):
    monkeypatch.setattr("finegrade.models.resolve.model_path", lambda name: pytest.fail("a download"))
    config = {"source": {"kind": "python-docs"}, "verification": {"benchmarks": ["no/such.jsonl"]}}
    with pytest.raises(InputError, match=r"the benchmark no/such\.jsonl: got nothing there"):
        fetch_models(parse_config(config, "test"))


@settings(max_examples=60, deadline=None)
@given(data=st.binary(max_size=200), ending=st.sampled_from([".jsonl", ".csv", ".tsv", ".txt", ".parquet"]))
def test_no_bytes_crash_it(tmp_path_factory, data, ending):
    path = tmp_path_factory.mktemp("hostile") / f"b{ending}"
    path.write_bytes(data)
    try:
        texts = list(benchmark_texts(str(path)))
    except InputError:
        return
    assert all(one.text.encode() and one.text.strip() for one in texts)


def test_a_file_is_read_no_faster_than_it_is_asked_for(tmp_path):
    path = tmp_path / "b.jsonl"
    write_rows(path, {"query": "first"}, *({"query": f"{i}" * 50} for i in range(9_000)))
    texts = benchmark_texts(str(path))
    assert next(texts) == BenchmarkText(str(path), "query", "first")
    path.write_bytes(path.read_bytes()[:20_000])  # only a buffer of it was read
    assert len(list(texts)) < 9_000


# Tasks of mteb: a package of the same shape stands in for it.


class Task:
    """As mteb.abstasks: metadata, load_data, and then a dataset."""

    def __init__(self, dataset: object, **attributes: object) -> None:
        self._dataset, self.dataset = dataset, None
        self.metadata = types.SimpleNamespace(
            name="Fake", eval_splits=["test"], dataset={"path": "x", "revision": "y"}, modalities=["text"]
        )
        for name, value in attributes.items():
            setattr(self, name, value)

    def load_data(self, num_proc: int | None = None, **more: object) -> None:
        self.dataset = self._dataset


@pytest.fixture
def mteb(monkeypatch: pytest.MonkeyPatch):
    tasks: dict[str, Task] = {}

    def get_task(task_name: str) -> Task:
        if task_name not in tasks:
            raise KeyError(f"KeyError: '{task_name}' not found. Did you mean: 'Other'?")
        return tasks[task_name]

    monkeypatch.setitem(sys.modules, "mteb", types.SimpleNamespace(get_task=get_task))
    return tasks


RETRIEVAL = {
    "queries": Dataset.from_list([{"id": "q0", "text": "who?"}, {"id": "q1", "text": "not judged"}]),
    "corpus": Dataset.from_list(
        [{"id": f"d{i}", "title": "A title" if i else "", "text": f"Text {i}."} for i in range(4)]
    ),
    "relevant_docs": {"q0": {"d1": 1, "d0": 2, "d2": 0}},
    "top_ranked": None,
}
OF_RETRIEVAL = [("query", "who?"), ("document", "Text 0."), ("title", "A title"), ("document", "Text 1.")]


@pytest.mark.parametrize("subsets", [1, 2])
def test_of_a_retrieval_task_what_its_judgements_need(mteb, subsets):
    others = {"train": "nobody reads this"}
    mteb["Fake"] = Task({f"subset{i}": {"test": RETRIEVAL, **others} for i in range(subsets)})
    assert found("mteb:Fake") == OF_RETRIEVAL * subsets


def test_an_older_task_is_converted(mteb):
    class Older(Task):
        def load_data(self, num_proc: int | None = None, **more: object) -> None:
            self.queries = {"test": {}}

        def convert_v1_dataset_format_to_v2(self, num_proc: int | None) -> None:
            assert self.queries
            self.dataset = self._dataset

    mteb["Fake"] = Older({"default": {"test": RETRIEVAL}})
    assert found("mteb:Fake") == OF_RETRIEVAL


def test_of_other_tasks_the_columns_with_texts(mteb):
    pairs = Dataset.from_list([{"sentence1": "one", "sentence2": "two", "score": 1.0}])
    whole = Dataset.from_list([{"sentence1": ["one"], "sentence2": ["two"], "labels": [1]}])  # pairs in a single row
    named = Dataset.from_list([{"Claim": "one", "Evidence": "two", "label": 1}])
    wanted = [("query", "one"), ("document", "one"), ("query", "two"), ("document", "two")]
    mteb["Fake"] = Task({"test": pairs, "train": Dataset.from_list([{"sentence1": "trains"}])})
    assert found("mteb:Fake") == wanted
    mteb["Fake"] = Task({"en": {"test": whole}, "de": {"validation": whole}})
    assert found("mteb:Fake") == wanted
    mteb["Fake"] = Task({"test": named}, input1_column_name="Claim", input2_column_name="Evidence")
    assert found("mteb:Fake") == wanted


def test_an_aggregate_is_the_tasks_in_it(mteb):
    mteb["Fake"] = Task(None, tasks=[Task({"default": {"test": RETRIEVAL}})] * 2)
    assert found("mteb:Fake") == OF_RETRIEVAL * 2


def test_data_that_comes_with_code_is_refused(mteb):
    mteb["Fake"] = Task({"test": None})
    mteb["Fake"].metadata.dataset["trust_remote_code"] = True
    with pytest.raises(InputError, match="comes with code"):
        found("mteb:Fake")


def test_what_mteb_cannot_give_is_told(mteb):
    class Offline(Task):
        def load_data(self, num_proc: int | None = None, **more: object) -> None:
            raise ConnectionError("no hub\nmore")

    mteb["Fake"] = Offline(None)
    with pytest.raises(InputError, match="got no hub; wanted its data"):
        found("mteb:Fake")
    with pytest.raises(InputError, match="Did you mean: 'Other'"):
        found("mteb:Another")
    mteb["Fake"] = Task({"test": Dataset.from_list([{"image": "bytes", "label": 1}])})
    with pytest.raises(InputError, match="got no text"):
        found("mteb:Fake")


def test_of_pictures_nothing_is_loaded(mteb):
    class Pictures(Task):
        def load_data(self, num_proc: int | None = None, **more: object) -> None:
            raise AssertionError("many gigabytes")

    mteb["Fake"] = Pictures(None)
    mteb["Fake"].metadata.modalities = ["image"]
    with pytest.raises(InputError, match="got no text"):
        found("mteb:Fake")


def test_without_mteb_the_remedy_is_to_install_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(InputError, match=r"pip install 'finegrade\[mteb\]'"):
        found("mteb:SciFact")
