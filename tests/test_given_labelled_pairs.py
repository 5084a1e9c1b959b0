"""Labelled pairs, as cross-encoders are trained on: all the pairs of a query are verified as one row."""

import random
from itertools import product

import pytest

from finegrade.formats.given import Given, Judged
from finegrade.formats.opening import open_given
from given_data import TABLES, all_kept, drawn, judged, left, lines, read_table, write_table

ROWS = [
    {"id": 10 + i, "query": query, "text": text, "label": label}
    for i, (query, text, label) in enumerate([
        ("q", "yes", 1), ("q", "no 1", 0), ("q", "no 2", 0), ("q", "too", 1),
        ("r", "no 3", 0), ("r", "certainly", 1),
        ("s", "no 4", 0),
        ("t", "alone", 1),
    ])
]  # fmt: skip
GIVEN = [
    Given("q", ("yes", "too"), ("no 1", "no 2")),
    Given("r", ("certainly",), ("no 3",)),
    Given("t", ("alone",), ()),
]


@pytest.mark.parametrize(("suffix", "kind"), [*product(TABLES, (int, float)), (".jsonl", bool), (".parquet", bool)])
def test_labelled_pairs(tmp_path, suffix, kind):
    rows = [row | {"label": kind(row["label"])} for row in ROWS]
    data = open_given(write_table(tmp_path / f"a{suffix}", rows))
    assert list(data.rows()) == GIVEN
    assert data.passed_over == {"no text that answers follows or goes before it": 1}
    assert data.about == "queries: query, texts: text, 1 or 0: label"
    decided = [Judged(((1, 3),), (0,), (0, 1)), Judged(((0, 1),), (), (0,)), Judged((), (), ())]
    file, levels = data.write(decided, tmp_path / f"out{suffix}")
    one, zero = (str(kind(n)) if suffix in (".csv", ".tsv") else kind(n) for n in (1, 0))
    wanted = [(10, "q", "yes", one), (13, "q", "too", one), (11, "q", "no 1", one), (12, "q", "no 2", zero),
              (15, "r", "certainly", one), (14, "r", "no 3", zero)]  # fmt: skip
    assert [(int(row["id"]), *list(row.values())[1:]) for row in read_table(file)] == wanted
    assert lines(levels) == [{"row": i, "levels": [[], [], [], [3], [], [1]][i]} for i in range(6)]


@pytest.mark.parametrize("seed", range(20))
def test_what_is_written_is_read_as_what_was_left(tmp_path, seed):
    data = open_given(write_table(tmp_path / "a.parquet", ROWS))
    decided = judged(data, drawn(random.Random(seed)))
    (file, _) = data.write(decided, tmp_path / "out.parquet")
    if read_table(file):
        assert list(open_given(file).rows()) == left(GIVEN, decided)
    (file, _) = data.write(judged(data, all_kept), tmp_path / "out.parquet")
    assert list(open_given(file).rows()) == GIVEN


def test_hostile_pairs(tmp_path):
    rows = [*ROWS, {"query": "q", "text": "x", "label": 2}, {"query": "q", "text": None, "label": 1},
            {"query": "q", "text": "x", "label": None}, {"query": "q", "text": "x", "label": "1 "}]  # fmt: skip
    data = open_given(write_table(tmp_path / "a.jsonl", rows))
    assert len(list(data.rows())) == 4
    assert data.passed_over["label: neither 0 nor 1"] == 2
    assert data.passed_over["text: empty"] == 1
