"""Labelled pairs, as cross-encoders are trained on: all the pairs of a query are verified as one row."""

import random
import sys
import tracemalloc
from collections.abc import Iterable
from itertools import product

import pytest

from finegrade.cli.main import main
from finegrade.data.formats import labelled_pairs, open_external
from finegrade.data.formats.base import ExternalRow, VerifiedRow
from finegrade.data.readers.text_files import MAX_ROW_BYTES
from helpers.external_data import TABLES, all_kept, drawn, left, lines, read_table, verified, write_table
from helpers.verification import Words

ROWS = [
    {"id": 10 + i, "query": query, "text": text, "label": label}
    for i, (query, text, label) in enumerate([
        ("q", "yes", 1), ("q", "no 1", 0), ("q", "no 2", 0), ("q", "too", 1),
        ("r", "no 3", 0), ("r", "certainly", 1),
        ("s", "no 4", 0),
        ("t", "alone", 1),
    ])
]  # fmt: skip
EXTERNAL = [
    ExternalRow("q", ("yes", "too"), ("no 1", "no 2")),
    ExternalRow("r", ("certainly",), ("no 3",)),
    ExternalRow("t", ("alone",), ()),
]


@pytest.mark.parametrize(("suffix", "kind"), [*product(TABLES, (int, float)), (".jsonl", bool), (".parquet", bool)])
def test_labelled_pairs(tmp_path, suffix, kind):
    rows = [row | {"label": kind(row["label"])} for row in ROWS]
    data = open_external(write_table(tmp_path / f"a{suffix}", rows))
    assert list(data.rows()) == EXTERNAL
    assert data.passed_over == {"query: no text that answers": 1}
    assert data.about == "queries: query, texts: text, 1 or 0: label"
    decided = [VerifiedRow(((1, 3),), (0,), (0, 1)), VerifiedRow(((0, 1),), (), (0,)), VerifiedRow((), (), ())]
    file, levels = data.write(decided, tmp_path / f"out{suffix}")
    one, zero = (str(kind(n)) if suffix in (".csv", ".tsv") else kind(n) for n in (1, 0))
    wanted = [(10, "q", "yes", one), (11, "q", "no 1", one), (12, "q", "no 2", zero), (13, "q", "too", one),
              (14, "r", "no 3", zero), (15, "r", "certainly", one)]  # fmt: skip
    assert [(int(row["id"]), *list(row.values())[1:]) for row in read_table(file)] == wanted
    assert lines(levels) == [{"row": i, "levels": [[], [], [3], [], [1], []][i]} for i in range(6)]


@pytest.mark.parametrize("suffix", TABLES)
def test_other_texts_beside_labelled_pairs_stay_as_they_are(tmp_path, suffix):
    rows = [{"query": row["query"], "title": f"Title {i}", "text": row["text"], "label": row["label"], "src": "x"}
            for i, row in enumerate(ROWS)]  # fmt: skip
    data = open_external(write_table(tmp_path / f"a{suffix}", rows))
    assert list(data.rows()) == EXTERNAL
    file, _ = data.write(verified(data, all_kept), tmp_path / f"out{suffix}")
    wanted = [(row["title"], row["text"], row["src"]) for row in rows if row["query"] != "s"]
    assert [(row["title"], row["text"], row["src"]) for row in read_table(file)] == wanted


@pytest.mark.parametrize("seed", range(20))
def test_what_is_written_is_read_as_what_was_left(tmp_path, seed):
    data = open_external(write_table(tmp_path / "a.parquet", ROWS))
    decided = verified(data, drawn(random.Random(seed)))
    (file, _) = data.write(decided, tmp_path / "out.parquet")
    if read_table(file):
        assert by_text(open_external(file).rows()) == by_text(left(EXTERNAL, decided))
    (file, _) = data.write(verified(data, all_kept), tmp_path / "out.parquet")
    assert list(open_external(file).rows()) == EXTERNAL


def by_text(rows: Iterable[ExternalRow]) -> list[ExternalRow]:
    """What is written stands in the order of the file, whatever was decided."""
    return sorted(ExternalRow(row.query, *(tuple(sorted(texts)) for texts in row[1:])) for row in rows)


@pytest.mark.parametrize("suffix", TABLES)
def test_pairs_in_no_order(tmp_path, suffix):
    rows = [
        {"id": 5 * query + n, "query": f"q {query}", "text": f"t {query} {n}", "label": int(n == 0)}
        for query in range(200) for n in range(5)
    ]  # fmt: skip
    random.Random(0).shuffle(rows)
    data = open_external(write_table(tmp_path / f"a{suffix}", rows))
    given = list(data.rows())
    assert data.passed_over == {}
    assert [row.query for row in given] == list(dict.fromkeys(row["query"] for row in rows))
    assert {(row.positives, len(row.negatives)) for row in given} == {((f"t {n} 0",), 4) for n in range(200)}
    file, levels = data.write(verified(data, all_kept), tmp_path / f"out{suffix}")
    assert [int(row["id"]) for row in read_table(file)] == [row["id"] for row in rows]
    assert sorted(level for line in lines(levels) for level in line["levels"]) == sorted([1, 2, 3, 4] * 200)


def test_many_negatives_of_one_query_are_verified_in_pieces(tmp_path):
    rows = [{"query": "q", "text": f"no {n}", "label": 0} for n in range(2_500)]
    rows[1_200:1_200] = [{"query": "r", "text": "other", "label": 1}, {"query": "q", "text": "yes", "label": 1}]
    data = open_external(write_table(tmp_path / "a.parquet", rows))
    pieces = list(data.rows())
    assert [(row.query, row.positives, len(row.negatives)) for row in pieces] == [
        ("q", ("yes",), 1_000), ("q", ("yes",), 1_000), ("q", ("yes",), 500), ("r", ("other",), 0),
    ]  # fmt: skip
    assert [text for row in pieces for text in row.negatives] == [f"no {n}" for n in range(2_500)]
    assert data.passed_over == {}
    decided = [VerifiedRow(tuple((place, 2) for place in range(len(row.negatives))), (), (0,)) for row in pieces]
    file, _ = data.write(decided, tmp_path / "out.parquet")
    assert read_table(file) == rows


def test_a_query_that_too_many_texts_answer_is_set_aside(tmp_path):
    rows = [{"query": "q", "text": f"yes {n}", "label": 1} for n in range(101)] + ROWS
    data = open_external(write_table(tmp_path / "a.parquet", rows))
    assert [row.query for row in data.rows()] == ["r", "t"]
    assert data.passed_over == {"query: more than 100 texts that answer": 105, "query: no text that answers": 1}


def test_pairs_that_are_too_long_are_set_aside(tmp_path):
    rows = [*ROWS, {"query": "q", "text": "x" * MAX_ROW_BYTES, "label": 0}]
    data = open_external(write_table(tmp_path / "a.parquet", rows))
    assert list(data.rows()) == EXTERNAL
    assert data.passed_over["row of more than 4,000,000 bytes"] == 1


@pytest.mark.slow
def test_memory_holds_no_texts_of_pairs_in_no_order(tmp_path):
    rows = [{"query": f"q {n % 500}", "text": f"{n} " * 500, "label": int(n < 500)} for n in range(3_000)]
    data = open_external(write_table(tmp_path / "a.jsonl", rows))
    tracemalloc.start()
    data.write(map(all_kept, data.rows()), tmp_path / "out.jsonl")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 0.2 * sum(len(row["text"]) for row in rows)


def test_pairs_in_no_order_and_in_pieces_are_verified(tmp_path, monkeypatch):
    monkeypatch.setattr("finegrade.verification.ensemble.load_scorer", lambda name, length: Words())
    monkeypatch.setattr(labelled_pairs, "MAX_NEGATIVES", 1)
    kinds = {"answer": 1, "far": 0, "near": 0, "better": 0}
    rows = [
        {"query": f"query {i}", "text": f"{kind} {i}", "label": label}
        for i in range(10) for kind, label in kinds.items()
    ]  # fmt: skip
    random.Random(1).shuffle(rows)
    write_table(tmp_path / "a.jsonl", rows)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["finegrade", "verify", "--input", "a.jsonl", "--output", "b.jsonl"])
    with pytest.raises(SystemExit, match="0"):
        main()
    assert lines(tmp_path / "b.jsonl") == [
        row | {"label": int(row["text"].startswith(("answer", "better")))} for row in rows
    ]  # fmt: skip
    found = {row["text"].split()[0]: levels["levels"] for row, levels in zip(
        lines(tmp_path / "b.jsonl"), lines(tmp_path / "b.levels.jsonl"), strict=True
    )}  # fmt: skip
    assert found == {"answer": [], "better": [], "far": [1], "near": [3]}


def test_hostile_pairs(tmp_path):
    rows = [*ROWS, {"query": "q", "text": "x", "label": 2}, {"query": "q", "text": None, "label": 1},
            {"query": "q", "text": "x", "label": None}, {"query": "q", "text": "x", "label": "1 "}]  # fmt: skip
    data = open_external(write_table(tmp_path / "a.jsonl", rows))
    assert list(data.rows()) == [EXTERNAL[0]._replace(positives=("yes", "too", "x")), *EXTERNAL[1:]]
    assert data.passed_over["label: neither 0 nor 1"] == 2
    assert data.passed_over["text: empty"] == 1
