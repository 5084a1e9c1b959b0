"""Rows in memory: every container gives the same samples, and what is no row is named."""

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from finegrade.errors import InputError
from finegrade.records import LeftOut, Negative
from finegrade.rows import Result, as_dicts, as_samples, as_texts

EARLIER = Path(__file__).parent / "fixtures" / "before_packages"
ROWS = [
    {"query": "how tall", "positive": "330 metres", "negative_1": "blue", "negative_2": "red"},
    {"query": "which colour", "positive": "blue", "negative_1": "330 metres", "negative_2": None},
]
EXPECTED = [("how tall", "330 metres", ["blue", "red"]), ("which colour", "blue", ["330 metres"])]


def texts(samples):
    return [(s.query, s.positive, [n.text for n in s.negatives]) for s in samples]


def dataset(rows):
    from datasets import Dataset

    return Dataset.from_list(rows)


@pytest.mark.parametrize(
    "container",
    [list, tuple, iter, pd.DataFrame, pa.Table.from_pylist, pytest.param(dataset, marks=pytest.mark.slow), as_samples],
)
def test_every_container_gives_the_same_samples(container):
    assert texts(as_samples(container(ROWS))) == EXPECTED


@pytest.mark.parametrize(
    "row",
    [
        {"anchor": "q", "pos": ["p"], "neg": ["a", "b"]},
        {"question": "q", "answer": "p", "negatives": [{"text": "a"}, {"text": "b"}]},
        {"query": "q", "document": "p", "hard_negative_1": "a", "hard_negative_2": "b"},
    ],
)
def test_the_names_that_other_tools_use(row):
    assert texts(as_samples([row])) == [("q", "p", ["a", "b"])]


def test_a_missing_cell_of_pandas_is_no_negative():
    frame = pd.DataFrame({"query": ["q"], "positive": ["p"], "negative": [float("nan")]})
    assert texts(as_samples(frame)) == [("q", "p", [])]


def test_lists_of_numpy_and_nan_in_dicts_are_read():
    rows = [{"query": "q", "positive": "p", "negatives": np.array(["a", "b"]), "negative_2": float("nan")}]
    assert texts(as_samples(rows)) == [("q", "p", ["a", "b"])]


def test_a_table_of_others_with_the_columns_of_a_sample_is_no_record():
    row = {"id": 1, "query": "q", "positive": "p", "negatives": ["a"], "group": "g", 7: "seven"}
    (sample,) = as_samples([row])
    assert (sample.negatives[0].text, sample.group) == ("a", "g")


def test_levels_and_sources_stay_and_are_missing_where_there_are_none():
    row = {"query": "q", "positive": "p", "negatives": [{"text": "a", "level": 3, "source": "llm"}, "b"]}
    (sample,) = as_samples([row])
    assert sample.negatives == (
        Negative(text="a", level=3, source="llm"),
        Negative(text="b", level=None, source="external"),
    )


def test_samples_of_an_earlier_run_are_read_from_plain_parquet():
    rows = pq.read_table(EARLIER / "run" / "samples" / "part-000000.parquet").to_pylist()
    assert len(as_samples(rows)) == len(rows) > 70


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("text", "rows: got str"),
        ({"query": "q"}, "rows: got dict"),
        (3, "rows: got int"),
        ([1], "rows: got int at index 0"),
        ([{"query": "q", "positive": "p"}, {"query": "q"}], r"rows\[1\]: got columns query"),
        ([{"query": "q", "positive": ["a", "b"]}], r"rows\[0\]: got list in positive"),
        ([{"query": "", "positive": "p"}], r"rows\[0\]: got no text in query"),
        ([{"query": "q", "positive": "p", "negatives": [3]}], r"rows\[0\]: negatives: text: got int"),
        ([{"query": "q", "positive": "p", "negatives": [{"text": "a", "level": 0}]}], "negatives: level: got dict"),
        (pd.DataFrame([["q", "p", "a", "b"]], columns=["query", "positive", "neg", "neg"]), "wanted one column"),
    ],
)
def test_what_is_no_row_is_named(rows, message):
    with pytest.raises(InputError, match=message):
        as_samples(rows)


@pytest.mark.parametrize(
    "texts",
    [
        ["a", "b"],
        iter(["a", "b"]),
        {"1": "a", "2": "b"},
        [{"text": "a"}, {"text": "b"}],
        pd.DataFrame({"id": [1, 2], "content": ["a", "b"]}),
        pa.table({"text": ["a", "b"]}),
    ],
)
def test_texts_to_search_are_a_list_ids_or_rows(texts):
    assert as_texts(texts, "corpus") == ["a", "b"]


def test_a_missing_text_is_an_empty_one():
    assert as_texts(pd.DataFrame({"text": ["a", None]}), "corpus") == ["a", ""]


@pytest.mark.parametrize(
    ("texts", "message"),
    [("ab", "rows: got str"), (["a", 3], r"corpus\[1\]: got int"), ([{"other": "a"}], r"corpus\[0\]: got no such")],
)
def test_what_is_no_text_is_named(texts, message):
    with pytest.raises(InputError, match=message):
        as_texts(texts, "corpus")


@given(st.lists(st.fixed_dictionaries({"query": st.text("ab", min_size=1), "positive": st.text("cd", min_size=1)})))
def test_dicts_come_back_as_they_were(rows):
    assert as_dicts(as_dicts(rows)) == rows
    assert [(s.query, s.positive) for s in as_samples(as_samples(rows))] == [(r["query"], r["positive"]) for r in rows]


def test_reasons_are_counted_most_first():
    left_out = [LeftOut(sample=str(i), query="q", positive="p", reason="ab"[i > 1], evidence="") for i in range(5)]
    assert Result([], left_out).reasons == {"b": 3, "a": 2}
