"""A run over a BEIR corpus: what a search found and nobody judged relevant, read and written back as BEIR has it."""

import json
import random
import shutil
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.data.beir import Scored, ranked
from finegrade.data.formats import open_external
from finegrade.data.formats.base import ExternalRow, PassedRow, VerifiedRow
from finegrade.data.formats.line_index import LineIndex
from finegrade.errors import InputError
from helpers.external_data import all_kept, drawn, left, verified

HEADER = "query-id\tcorpus-id\tscore"
QRELS = ["q1\td1\t1", "q1\td2\t0", "q2\td3\t2", "q2\td4\t1", "q3\td5\t1"]
RUN = [("q1", "d2", 9.0), ("q1", "d1", 8.5), ("q1", "d3", 7.0), ("q2", "d1", 5.0), ("q2", "d5", 4.0), ("q2", "d3", 3.0)]


def beir(folder: Path, qrels: Iterable[str] = QRELS, run: Iterable[str] | None = None, name: str = "bm25.trec") -> Path:
    """A BEIR folder with a run."""
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": f"d{i}", "title": "Title" if i == 1 else "", "text": f"document {i}"} for i in range(1, 7)]
    queries = [{"_id": f"q{i}", "text": f"query {i}", "metadata": {}} for i in range(1, 4)]
    for file, rows in (("corpus.jsonl", corpus), ("queries.jsonl", queries)):
        (folder / file).write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / "qrels" / "train.tsv").write_text("\n".join([HEADER, *qrels]) + "\n")
    (folder / name).write_text("".join(line + "\n" for line in (trec() if run is None else run)))
    return folder


def trec(rows: Iterable[tuple[str, str, float]] = RUN) -> list[str]:
    return [f"{query} Q0 {document} {rank} {score} bm25" for rank, (query, document, score) in enumerate(rows)]


def document(number: int) -> str:
    return "Title document 1" if number == 1 else f"document {number}"


FIRST = ExternalRow("query 1", (document(1),), (document(2), document(3)))
SECOND = ExternalRow("query 2", (document(3), document(4)), (document(1), document(5)))


def rows(path: Path, **more: int) -> list[ExternalRow]:
    return list(open_external(path, **more).rows())


def test_negatives_are_what_the_run_found_and_nobody_judged_relevant(tmp_path):
    data = open_external(beir(tmp_path / "a"))
    assert list(data.rows()) == [FIRST, SECOND]
    assert data.passed_over == {}
    assert data.about == "queries and relevant documents: qrels/train.tsv, negatives: the first 30 others of bm25.trec"
    assert rows(tmp_path / "a", depth=1) == [row._replace(negatives=row.negatives[:1]) for row in (FIRST, SECOND)]


@pytest.mark.parametrize("place", ["bm25.trec", "runs/bm25.run", "dense.txt"])
def test_a_run_may_be_named(tmp_path, place):
    folder = beir(tmp_path / "a", name="other.trec", run=trec(reversed(RUN[:3])))
    (folder / place).parent.mkdir(exist_ok=True)
    (folder / place).write_text("\n".join(trec()))
    assert rows(folder / place) == [FIRST, SECOND]
    if place != "runs/bm25.run":
        with pytest.raises(InputError, match=rf"got runs: {place}, other.trec; wanted one run.*Name one of them"):
            open_external(folder)


@pytest.mark.parametrize("header", [[], [HEADER]])
def test_a_run_in_three_columns(tmp_path, header):
    lines = [f"{query}\t{document}\t{score}" for query, document, score in RUN]
    data = open_external(beir(tmp_path / "a", run=[*header, *lines], name="run.tsv"))
    assert list(data.rows()) == [FIRST, SECOND]
    assert data.passed_over == {}


def test_documents_are_ordered_by_score_as_trec_s_tools_do():
    def order(*scores: float) -> list[str]:
        return ranked([Scored("q", f"d{i}", score) for i, score in enumerate(scores)])

    assert order(1.0, 3.0, 2.0) == ["d1", "d2", "d0"]
    assert order(2.0, 2.0, 3.0) == ["d2", "d0", "d1"]
    assert order(1, 2, 3) == order(0, 1, 2) == ["d0", "d1", "d2"]  # ranks
    assert order(2, 3, 4) == ["d2", "d1", "d0"]
    assert order(0.5) == ["d0"]
    assert ranked([Scored("q", "d", 1.0), Scored("q", "d", 5.0)]) == ["d"]


def test_a_run_that_is_in_no_order(tmp_path):
    mixed = [RUN[i] for i in (2, 3, 0, 5, 4, 1)]
    data = open_external(beir(tmp_path / "a", run=trec(mixed)))
    assert list(data.rows()) == [FIRST, SECOND]
    qrels = [QRELS[i] for i in (2, 0, 3, 1)]
    assert rows(beir(tmp_path / "b", run=trec(mixed), qrels=qrels)) == [FIRST, SECOND]


@pytest.mark.parametrize(("names", "taken"), [
    (["train", "test", "dev"], "train"), (["dev"], "dev"), (["dev", "test"], "dev"), (["nq-train"], "nq-train"),
    (["test"], None), (["test-small"], None), (["a", "b"], None), ([], None),
])  # fmt: skip
def test_judgements_of_a_test_are_never_trained_on(tmp_path, names, taken):
    folder = beir(tmp_path / "a")
    train = (folder / "qrels" / "train.tsv").rename(folder / "train")
    for name in names:
        shutil.copy(train, folder / "qrels" / f"{name}.tsv")
    if taken:
        assert f"qrels/{taken}.tsv" in open_external(folder).about
    else:
        got = ", ".join(f"{name}.tsv" for name in names) or "none"
        with pytest.raises(InputError, match=rf"qrels: got {got}; wanted judgements to train by.*train\.tsv"):
            open_external(folder)


@pytest.mark.parametrize("line", [b"some notes of six words here", b"", b"\xff\xfe", b"a\tb\tc"])
def test_a_folder_without_a_run(tmp_path, line):
    folder = beir(tmp_path / "a")
    (folder / "bm25.trec").rename(folder / "levels.tsv")
    (folder / "notes.txt").write_bytes(line)
    with pytest.raises(InputError, match="got runs: none; wanted one run"):
        open_external(folder)
    with pytest.raises(InputError, match="got other lines; wanted a run"):
        open_external(folder / "notes.txt")


def test_a_table_that_lies_in_a_folder(tmp_path):
    folder = beir(tmp_path / "a")
    (folder / "triplets.tsv").write_text("query\tpositive\tnegative\nq\tp\tn\n")
    assert rows(folder / "triplets.tsv") == [ExternalRow("q", ("p",), ("n",))]
    assert rows(folder) == [FIRST, SECOND]


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "qrels/train.tsv"])
def test_a_folder_that_is_not_whole(tmp_path, name):
    folder = beir(tmp_path / "a")
    (folder / name).unlink()
    with pytest.raises(InputError, match=r"corpus\.jsonl|queries\.jsonl: got No such file|qrels: got none"):
        open_external(folder)


def test_what_is_left_is_written_as_beir_has_it(tmp_path):
    folder = beir(tmp_path / "a", qrels=[*QRELS, "q9\td9\t1"])
    (folder / "qrels" / "test.tsv").write_text("test\n")
    data = open_external(folder)
    decided = [VerifiedRow(((1, 2), (0, 4)), (), (0,)), VerifiedRow(((1, 1),), (0,), (1,))]
    output = tmp_path / "out"
    files = data.write(decided, output)
    assert {file.relative_to(output).as_posix() for file in files} == {
        "corpus.jsonl", "queries.jsonl", "qrels/train.tsv", "qrels/test.tsv", "bm25.trec", "levels.tsv",
    }  # fmt: skip
    assert (output / "bm25.trec").read_text().splitlines() == [
        "q1 Q0 d2 1 2 finegrade", "q1 Q0 d3 2 1 finegrade", "q2 Q0 d5 1 1 finegrade",
    ]  # fmt: skip
    levels = ["query-id\tcorpus-id\tlevel", "q1\td2\t4", "q1\td3\t2", "q2\td5\t1"]
    assert (output / "levels.tsv").read_text().splitlines() == levels
    qrels = [HEADER, "q1\td1\t1", "q1\td2\t0", "q2\td4\t1", "q3\td5\t1", "q9\td9\t1", "q2\td1\t1"]
    assert (output / "qrels" / "train.tsv").read_text().splitlines() == qrels
    for name in ("corpus.jsonl", "queries.jsonl", "qrels/test.tsv"):
        assert (output / name).read_bytes() == (folder / name).read_bytes()
    assert rows(output) == [FIRST, ExternalRow("query 2", (document(4), document(1)), (document(5),))]


def test_a_query_that_is_set_aside_is_no_longer_judged(tmp_path):
    data = open_external(beir(tmp_path / "a"))
    data.write([VerifiedRow(((0, 1),), (1,), ()), all_kept(SECOND)], tmp_path / "out")
    assert (tmp_path / "out" / "qrels" / "train.tsv").read_text().splitlines() == [HEADER, *QRELS[2:]]
    assert "q1" not in (tmp_path / "out" / "bm25.trec").read_text()


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 10_000), is_trec=st.booleans())
def test_what_is_written_is_read_as_what_was_left(tmp_path_factory, seed, is_trec):
    """The run stands hardest first: what was kept easiest first is read turned round."""
    dice, folder = random.Random(seed), tmp_path_factory.mktemp("beir")
    pairs = [(f"q{i}", f"d{j}") for i in range(1, 4) for j in range(1, 7)]
    dice.shuffle(pairs)
    qrels = [f"{query}\t{document}\t{dice.choice([0, 1])}" for query, document in pairs[:9]]
    run = [(query, document, dice.choice([0.5, 1.0, 2.0])) for query, document in dice.sample(pairs, 14)]
    lines = trec(run) if is_trec else ["\t".join(map(str, row)) for row in run]
    data = open_external(beir(folder / "a", qrels, lines, name="run.trec" if is_trec else "run.tsv"))
    before = list(data.rows())
    for number, judge in enumerate((all_kept, drawn(dice))):
        decided = verified(data, judge)
        data.write(decided, folder / f"{number}")
        wanted = [row._replace(negatives=row.negatives[::-1]) for row in left(before, decided)]
        kept = [row for row in wanted if row.negatives]  # the others are not in the run
        if kept:
            assert rows(folder / f"{number}") == kept


def test_hostile_lines(tmp_path):
    run = [*trec(), "", "q1 Q0 d9 1 0.5 x", "q1 Q0 d4 1 nan x", "q1 Q0 d6 1 one x", "torn", "q1 Q0 d8 1 0.4 x"]
    run += [f"{query} Q0 d1 1 2 x" for query in ("q7", "q3", "q4")]
    folder = beir(tmp_path / "a", qrels=[*QRELS, "q1\td7\t1", "q4\td1\t1", "q1 d1 1", "q1\td1"], run=run)
    with (folder / "corpus.jsonl").open("ab") as file:
        file.write(b'{"_id": "d7", "text": null}\n{"_id": "d8", "text": 7}\n{"text": "x"}\nnull\n\xff\n[\n')
        file.write(b'{"_id": "d5", "text": "\xff"}\n{"_id": "d5", "text": "\\ud800"}\n{"_id": "torn')
    data = open_external(folder)
    second = SECOND._replace(negatives=(document(1),))  # d5 is not what it was: the last line counts
    told: list[PassedRow] = []
    assert list(data.rows(told.append)) == [FIRST, second]
    assert len(told) == data.passed_over.total()
    assert PassedRow(len(run) - 4, "bm25.trec: a line of another form", '{"line": "torn"}') in told
    assert data.passed_over == {
        "corpus.jsonl: a line of another form": 6, "train.tsv: a line of another form": 2,
        "bm25.trec: a line of another form": 3, "found document: not in corpus.jsonl": 1,
        "found document: int in place of a text": 1, "found document: not Unicode": 1, "relevant document: empty": 1,
        "query: not in queries.jsonl": 2, "query: no relevant document": 1, "relevant document: not Unicode": 1,
    }  # fmt: skip
    data.write(verified(data, all_kept), tmp_path / "out")
    assert rows(tmp_path / "out") == [FIRST._replace(negatives=FIRST.negatives[::-1]), second]


def test_a_document_with_the_query_s_id_is_the_query(tmp_path):
    folder = beir(tmp_path / "a", run=["q1 Q0 q1 1 99 x", *trec()])
    with (folder / "corpus.jsonl").open("a", encoding="utf-8") as file:
        file.write('{"_id": "q1", "text": "what the first query asks"}\n')
    assert next(iter(open_external(folder).rows())) == FIRST


def test_however_many_documents_are_relevant_all_are_looked_at(tmp_path):
    many = [f"m{i}" for i in range(150)]
    folder = beir(tmp_path / "a", qrels=[*QRELS, *(f"q1\t{name}\t1" for name in many)])
    with (folder / "corpus.jsonl").open("a", encoding="utf-8") as file:
        file.writelines(json.dumps({"_id": name, "text": f"Text {name}."}) + "\n" for name in many)
    first = next(iter(open_external(folder).rows()))
    assert len(first.positives) == 1 + len(many)


@pytest.mark.parametrize("name", ["corpus.jsonl", "queries.jsonl", "bm25.trec", "qrels/train.tsv"])
@pytest.mark.parametrize("content", [b"", b"\n", b"\xff" * 100, b"x" * 5_000_000, b'{"_id": "d1"'])
def test_hostile_files(tmp_path, name, content):
    folder = beir(tmp_path / "a")
    (folder / name).write_bytes(content)
    if name == "bm25.trec":
        with pytest.raises(InputError, match="got other lines"):
            open_external(folder / name)
    else:
        assert list(open_external(folder / "bm25.trec").rows()) == []


def test_the_input_is_never_written_over(tmp_path):
    data = open_external(beir(tmp_path / "a"))
    with pytest.raises(InputError, match="the input itself"):
        data.write([], tmp_path / "a" / ".." / "a")
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="got a file"):
        data.check_output(tmp_path / "file")


def test_nothing_is_written_where_it_breaks_off(tmp_path):
    data = open_external(beir(tmp_path / "a"))
    with pytest.raises(InputError, match="other rows than were verified"):
        data.write([all_kept(FIRST)], tmp_path / "out")
    assert [path for path in (tmp_path / "out").rglob("*") if path.is_file()] == []


def key_of(line: bytes) -> str | None:
    return line.split(b" ")[0].decode() if b" " in line else None


@settings(max_examples=60, deadline=None)
@given(keys=st.lists(st.sampled_from(["a", "b", "c", None]), max_size=12), end=st.sampled_from(["\n", ""]))
def test_lines_are_found_by_their_key(tmp_path_factory, keys, end):
    path = tmp_path_factory.mktemp("index") / "file"
    lines = [f"{key} {number}" if key else f"{number}" for number, key in enumerate(keys)]
    path.write_text("\n".join(lines) + end)
    index = LineIndex(path, key_of)
    assert list(index.each_key()) == list(dict.fromkeys(key for key in keys if key))
    assert index.unreadable == keys.count(None)
    with index.opened() as find:
        for key in ("a", "b", "c", "d"):
            found = [line.decode().strip() for line in find(key)]
            assert found == [line for line in lines if line.startswith(f"{key} ")]


def test_keys_of_one_hash_are_told_apart(tmp_path):
    class SameHash(str):
        __slots__ = ()

        def __hash__(self) -> int:
            return 7

    (tmp_path / "file").write_text("a 1\nb 2\na 3\n")
    index = LineIndex(tmp_path / "file", lambda line: SameHash(key_of(line)))
    with index.opened() as find:
        assert find(SameHash("b")) == [b"b 2\n"]
        assert find(SameHash("a")) == [b"a 1\n", b"a 3\n"]
        assert find(SameHash("c")) == []


def test_an_index_takes_sixteen_bytes_a_key(tmp_path):
    (tmp_path / "file").write_text("".join(f"{key} {'x' * 100}\n" for key in range(1_000) for _ in range(3)))
    index = LineIndex(tmp_path / "file", key_of)
    held = [value for value in vars(index).values() if isinstance(value, np.ndarray)]
    assert sum(one.nbytes for one in held) == 16 * 1_000
    assert all(one.base is None for one in held)
