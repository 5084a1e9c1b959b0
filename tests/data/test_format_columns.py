"""Columns as sentence-transformers has them: what is read, what verification leaves of it, and nothing else changed."""

import json
import random
from collections import Counter
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from datasets import load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.data.formats import open_external
from finegrade.data.formats.base import ExternalRow, VerifiedRow
from finegrade.errors import InputError
from finegrade.export import data as data_export
from helpers.external_data import TABLES, TEXTS, all_kept, drawn, left, lines, read_table, verified, write_table

ALL = VerifiedRow(((0, 1), (1, 2), (2, 3)), (), (0,))


def rows_of(number: int, negatives: int = 3) -> list[dict[str, str]]:
    return [
        {"anchor": f"query {i}", "positive": f"positive {i}"}
        | {f"negative_{n}": f"negative {i} {n}" for n in range(1, negatives + 1)}
        for i in range(number)
    ]


def as_rows(rows: list[dict[str, str]]) -> list[ExternalRow]:
    return [ExternalRow(query, (positive,), tuple(negatives)) for query, positive, *negatives in map(dict.values, rows)]


def read(path: Path) -> list[ExternalRow]:
    return list(open_external(path).rows())


@pytest.mark.parametrize("suffix", TABLES)
def test_columns_are_read_by_their_names(tmp_path, suffix):
    path = write_table(tmp_path / f"a{suffix}", rows_of(3))
    data = open_external(path)
    assert list(data.rows()) == as_rows(rows_of(3))
    assert data.passed_over == Counter()
    assert data.about == "queries: anchor, positives: positive, negatives: negative_1, negative_2, negative_3"


@pytest.mark.parametrize("names", [
    ("query", "answer", "negative"), ("question", "document", "hard_negative"), ("Query", "Positive", "Negative"),
    ("premise", "entailment", "contradiction"), ("a", "b", "c"), ("query", "pos", "neg"), ("question", "text", "other"),
])  # fmt: skip
@pytest.mark.parametrize("suffix", TABLES)
def test_columns_of_other_names_are_read_in_their_order(tmp_path, suffix, names):
    path = write_table(tmp_path / f"a{suffix}", [dict(zip(names, ("q", "p", "n"), strict=True))])
    assert read(path) == [ExternalRow("q", ("p",), ("n",))]


def test_names_go_before_order(tmp_path):
    row = {"language": "en", "negative_2": "n2", "positive": "p", "title": "t", "negative_1": "n1", "query": "q"}
    assert read(write_table(tmp_path / "a.parquet", [row])) == [ExternalRow("q", ("p",), ("n2", "n1"))]


@pytest.mark.parametrize("suffix", TABLES)
def test_what_is_no_text_is_no_negative(tmp_path, suffix):
    row = {"id": 7, "query": "q", "text": "p", "other": "n", "source": "s", "rating": 0.5, "nothing": None}
    assert read(write_table(tmp_path / f"a{suffix}", [row])) == [ExternalRow("q", ("p",), ("n",))]


def test_columns_of_known_names_may_hold_numbers_in_a_csv_file(tmp_path):
    row = {"question": "1 + 1", "answer": "2", "negative": "3", "rating": "4"}
    assert read(write_table(tmp_path / "a.csv", [row])) == [ExternalRow("1 + 1", ("2",), ("3",))]


def test_negatives_under_keys_that_come_later_are_not_overlooked(tmp_path):
    rows = [{"query": "q", "positive": "p", "negative_1": "n", "negative_2": None}] * 150
    rows += [{**rows[0], "negative_2": "m"}, {**rows[0], "negative_3": "m"}]
    data = open_external(write_table(tmp_path / "a.jsonl", rows))
    assert list(data.rows())[-1] == ExternalRow("q", ("p",), ("n", "m"))
    assert data.passed_over == {"negatives: a column that the first rows do not have": 1}


@pytest.mark.parametrize("suffix", [".parquet", ".jsonl"])
def test_a_column_of_lists(tmp_path, suffix):
    rows = [
        {"query": "q", "positive": "p", "title": "t", "negatives": ["a", "b", "c"], "scores": [1.0, 0.1, 0.2, 0.3]},
        {"query": "r", "positive": "o", "title": "t", "negatives": ["d", None, " "], "scores": [1.0, 0.4, 0.5, 0.6]},
        {"query": "s", "positive": "u", "title": "t", "negatives": [], "scores": [1.0]},
    ]
    path = write_table(tmp_path / f"a{suffix}", rows)
    data = open_external(path)
    assert list(data.rows()) == [
        ExternalRow("q", ("p",), ("a", "b", "c")),
        ExternalRow("r", ("o",), ("d",)),
        ExternalRow("s", ("u",), ()),
    ]
    decided = [VerifiedRow(((2, 1), (0, 4)), (1,), (0,)), VerifiedRow(((0, 2),), (), (0,)), VerifiedRow((), (), (0,))]
    files = data.write(decided, tmp_path / f"out{suffix}")
    assert [file.name for file in files] == [f"out{suffix}", "out.levels.jsonl", f"out.0{suffix}"]
    assert read_table(files[0]) == [
        rows[0] | {"negatives": ["c", "a"], "scores": [1.0, 0.3, 0.1]},
        rows[0] | {"positive": "b", "negatives": ["c", "a"], "scores": [0.2, 0.3, 0.1]},
        rows[1] | {"negatives": ["d"], "scores": [1.0, 0.4]},
    ]
    assert [line["levels"] for line in lines(files[1])] == [[1, 4], [1, 4], [2]]
    assert read_table(files[2]) == [{"query": "s", "positive": "u", "title": "t"}]


@pytest.mark.parametrize("suffix", TABLES)
def test_rows_go_to_files_by_the_number_of_negatives_that_are_left(tmp_path, suffix):
    data = open_external(write_table(tmp_path / f"a{suffix}", rows_of(6)))
    decided = [
        ALL,
        VerifiedRow(((2, 1), (0, 2), (1, 4)), (), (0,)),
        VerifiedRow(((1, 3),), (), (0,)),
        VerifiedRow((), (), (0,)),
        VerifiedRow(((0, 1), (1, 1)), (2,), (0,)),
        VerifiedRow(((0, 1), (1, 1), (2, 1)), (), ()),  # the positive does not stay: set aside
    ]
    files = data.write(decided, tmp_path / "made" / f"out{suffix}")
    names = [f"out{suffix}", "out.levels.jsonl", f"out.1{suffix}", "out.1.levels.jsonl", f"out.0{suffix}"]
    assert [file.name for file in files] == [*names, f"out.2{suffix}", "out.2.levels.jsonl"]
    assert sorted(file.name for file in (tmp_path / "made").iterdir()) == sorted(file.name for file in files)
    full, levels, one, one_levels, none, two, two_levels = files
    assert [tuple(row.values()) for row in read_table(full)] == [
        ("query 0", "positive 0", "negative 0 1", "negative 0 2", "negative 0 3"),
        ("query 1", "positive 1", "negative 1 3", "negative 1 1", "negative 1 2"),
    ]
    assert lines(levels) == [{"row": 0, "levels": [1, 2, 3]}, {"row": 1, "levels": [1, 2, 4]}]
    assert read_table(one) == [{"anchor": "query 2", "positive": "positive 2", "negative_1": "negative 2 2"}]
    assert lines(one_levels) == [{"row": 0, "levels": [3]}]
    assert read_table(none) == [{"anchor": "query 3", "positive": "positive 3"}]
    assert [tuple(row.values()) for row in read_table(two)] == [
        ("query 4", "positive 4", "negative 4 1", "negative 4 2"),
        ("query 4", "negative 4 3", "negative 4 1", "negative 4 2"),
    ]
    assert lines(two_levels) == [{"row": 0, "levels": [1, 1]}, {"row": 1, "levels": [1, 1]}]
    kind = {".parquet": "parquet", ".jsonl": "json"}.get(suffix, "csv")
    more = {"sep": "\t"} if suffix == ".tsv" else {}
    loaded = load_dataset(kind, data_files=str(two), split="train", cache_dir=str(tmp_path / "cache"), **more)
    assert loaded.column_names == ["anchor", "positive", "negative_1", "negative_2"]


def test_triplets(tmp_path):
    data = open_external(write_table(tmp_path / "a.parquet", rows_of(3, negatives=1)))
    decided = [VerifiedRow(((0, 2),), (), (0,)), VerifiedRow((), (), (0,)), VerifiedRow((), (0,), (0,))]
    files = data.write(decided, tmp_path / "out.parquet")
    assert [tuple(row.values()) for row in read_table(files[0])] == [("query 0", "positive 0", "negative 0 1")]
    pairs = [("query 1", "positive 1"), ("query 2", "positive 2"), ("query 2", "negative 2 1")]
    assert [tuple(row.values()) for row in read_table(files[2])] == pairs


@settings(max_examples=40, deadline=None)
@given(data=st.data(), negatives=st.integers(1, 4), suffix=st.sampled_from(TABLES), is_list=st.booleans())
def test_everything_kept_is_everything_as_it_was(tmp_path_factory, data, negatives, suffix, is_list):
    """And whatever is decided, what is written is read as what was left."""
    folder = tmp_path_factory.mktemp("columns")
    rows = data.draw(st.lists(st.lists(TEXTS, min_size=2 + negatives, max_size=2 + negatives), min_size=1, max_size=6))
    names = ["anchor", "positive", *(f"negative_{n}" for n in range(negatives))]
    tables = [dict(zip(names, row, strict=True)) for row in rows]
    if is_list and suffix in (".parquet", ".jsonl"):
        tables = [{"anchor": query, "positive": positive, "negatives": others} for query, positive, *others in rows]
    path = write_table(folder / f"a{suffix}", tables)
    opened = open_external(path)
    before = list(opened.rows())
    assert before == [ExternalRow(query, (positive,), tuple(others)) for query, positive, *others in rows]
    (whole, _) = opened.write(verified(opened, all_kept), folder / f"b{suffix}")
    assert read_table(whole) == tables == read_table(path)
    assert read(whole) == before

    decided = verified(opened, drawn(random.Random(repr(rows))))
    files = opened.write(decided, folder / f"c{suffix}")
    wanted = [row._replace(positives=(one,)) for row in left(before, decided) for one in row.positives]
    found = Counter(row for file in files if _has_negatives(file) for row in read(file))
    found.update(ExternalRow(row["anchor"], (row["positive"],), ()) for file in files if ".0." in file.name
                 for row in read_table(file))  # fmt: skip
    assert found == Counter(wanted)
    levels = [line["levels"] for file in files if file.name.endswith(".levels.jsonl") for line in lines(file)]
    graded = [[n for _, n in one.kept] for one in decided if one.kept_positives for _ in (0, *one.promoted) if one.kept]
    assert sorted(levels) == sorted(graded)


def _has_negatives(path: Path) -> bool:
    return not path.name.endswith(".levels.jsonl") and ".0." not in path.name


def test_other_columns_types_and_metadata_stay(tmp_path):
    table = pa.table({
        "id": pa.array([3, 1, 2], pa.uint8()),
        "anchor": pa.array(["q1", "q2", "q3"], pa.large_string()),
        "when": pa.array([1, 2, None], pa.timestamp("ns", "UTC")),
        "positive": ["p1", "p2", "p3"],
        "negative_1": pa.array(["a1", "a2", "a3"]).dictionary_encode(),
        "negative_2": pa.array(["b1", "b2", "b3"]),
        "domain": pa.array(["x", "y", "x"]).dictionary_encode(),
        "half": pa.array([[1.5], [], None], pa.list_(pa.float32())),
        "nested": [{"a": [1]}, None, {"a": []}],
        "bytes": pa.array([b"\xff", b"", None]),
        "nothing": pa.nulls(3),
    }).replace_schema_metadata({"made by": "somebody"})  # fmt: skip
    pq.write_table(table, tmp_path / "a.parquet")
    data = open_external(tmp_path / "a.parquet")
    decided = [
        VerifiedRow(((0, 1), (1, 2)), (), (0,)),
        VerifiedRow((), (), ()),
        VerifiedRow(((1, 1), (0, 2)), (), (0,)),
    ]
    written = pq.read_table(data.write(decided, tmp_path / "out.parquet")[0])
    wanted = table.take([0, 2])
    for column in table.column_names:
        if not column.startswith("negative"):
            assert written.schema.field(column) == table.schema.field(column)
            assert written[column].to_pylist() == wanted[column].to_pylist()
    assert written.column_names == table.column_names
    assert written.schema.metadata == table.schema.metadata
    assert written["negative_1"].to_pylist() == ["a1", "b3"]
    assert written["negative_2"].to_pylist() == ["b1", "a3"]


def test_keys_that_only_some_rows_have_stay_in_their_row(tmp_path):
    row = {"query": "q", "positive": "p", "negative": "n"}
    others = [{"a": None}, {"b": [1, {"c": "\ud800"}]}, {"x": float("inf")}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row | other) + "\n" for other in others))
    data = open_external(tmp_path / "a.jsonl")
    assert lines(data.write(verified(data, all_kept), tmp_path / "b.jsonl")[0]) == [row | other for other in others]


def test_labels_stay_in_step_with_their_texts(tmp_path):
    margins = [{**row, "label": [0.1, 0.2, 0.3]} for row in rows_of(2)]
    data = open_external(write_table(tmp_path / "a.parquet", margins))
    decided = [VerifiedRow(((2, 1), (0, 2)), (1,), (0,)), VerifiedRow((), (2,), (0,))]
    files = data.write(decided, tmp_path / "out.parquet")
    assert [row["label"] for row in read_table(files[0])] == [[0.3, 0.1]]
    assert read_table(files[2]) == [
        {"anchor": "query 1", "positive": "positive 1"}, {"anchor": "query 1", "positive": "negative 1 3"},
    ]  # fmt: skip
    assert data.not_written == {"a negative that answers: no label of it is known": 1}
    with_positive = [{**row, "scores": [0.9, 0.1, 0.2, 0.3]} for row in rows_of(1)]
    data = open_external(write_table(tmp_path / "b.parquet", with_positive))
    files = data.write(decided[:1], tmp_path / "out.parquet")
    assert [row["scores"] for row in read_table(files[0])] == [[0.9, 0.3, 0.1], [0.2, 0.3, 0.1]]
    assert data.not_written == {}


def test_labels_stay_in_step_where_there_are_gaps(tmp_path):
    row = {"query": "q", "positive": "p", "negatives": [None, "a", "b"], "scores": [0.9, 0.0, 0.1, 0.2]}
    data = open_external(write_table(tmp_path / "a.jsonl", [row]))
    (file, _) = data.write([VerifiedRow(((1, 1),), (0,), (0,))], tmp_path / "out.jsonl")
    left = row | {"negatives": ["b"], "scores": [0.9, 0.2]}
    assert read_table(file) == [left, left | {"positive": "a", "scores": [0.1, 0.2]}]


def test_keys_are_written_in_one_order(tmp_path):
    """sentence-transformers takes the columns in the order in which they are read."""
    first = {"anchor": "q", "positive": "p", "negative": "n"}
    data = open_external(write_table(tmp_path / "a.jsonl", [first, dict(reversed(first.items())) | {"more": 1}]))
    (file, _) = data.write(verified(data, all_kept), tmp_path / "out.jsonl")
    assert [list(row) for row in lines(file)] == [["anchor", "positive", "negative"], [*first, "more"]]


def test_labels_of_other_texts_set_the_row_aside(tmp_path):
    rows = [{**row, "scores": scores} for row, scores in zip(rows_of(3), ([1.0] * 4, [1.0], None), strict=True)]
    data = open_external(write_table(tmp_path / "a.jsonl", rows))
    assert len(list(data.rows())) == 2
    assert data.passed_over == {"scores: not one for each text": 1}


def test_lists_beside_the_negatives_stay_in_step(tmp_path):
    row = {"query": "q", "positive": "p", "negatives": ["a", "b"], "negative_ids": ["d1", "d2"], "neg_scores": [1, 2],
           "negative_source": "bm25"}  # fmt: skip
    data = open_external(write_table(tmp_path / "a.parquet", [row]))
    assert list(data.rows()) == [ExternalRow("q", ("p",), ("a", "b"))]
    (file, _) = data.write([VerifiedRow(((1, 1), (0, 2)), (), (0,))], tmp_path / "out.parquet")
    changed = {"negatives": ["b", "a"], "negative_ids": ["d2", "d1"], "neg_scores": [2, 1]}
    assert read_table(file) == [row | changed]
    with pytest.raises(InputError, match="columns neg_more"):
        open_external(write_table(tmp_path / "a.jsonl", [row | {"neg_more": [{"a": 1}, {"a": 2}]}]))


def test_columns_that_begin_alike(tmp_path):
    rows = [{"query": "q", "text": "p", "text_2": "n", "text_3": "m"}]
    data = open_external(write_table(tmp_path / "a.parquet", rows))
    assert list(data.rows()) == [ExternalRow("q", ("p",), ("n", "m"))]
    (file, _) = data.write([VerifiedRow(((0, 1),), (1,), (0,))], tmp_path / "out.parquet")
    assert [row["text"] for row in read_table(file)] == ["p", "m"]


def test_a_positive_with_an_id_gets_no_other_text(tmp_path):
    rows = [{**row, "positive_id": "d1"} for row in rows_of(1)]
    data = open_external(write_table(tmp_path / "a.csv", rows))
    (file, _) = data.write([VerifiedRow(((0, 1),), (1,), (0,))], tmp_path / "out.csv")
    assert [row["positive"] for row in read_table(file)] == ["positive 0"]
    assert sum(data.not_written.values()) == 1


def test_gaps_among_the_negatives(tmp_path):
    rows = [*rows_of(1), *(row | {"negative_1": None, "negative_3": " "} for row in rows_of(1))]
    data = open_external(write_table(tmp_path / "a.parquet", rows))
    assert list(data.rows())[1:] == [ExternalRow("query 0", ("positive 0",), ("negative 0 2",))]
    files = data.write(verified(data, all_kept), tmp_path / "out.parquet")
    assert files[2].name == "out.1.parquet"
    assert read_table(files[2]) == [{"anchor": "query 0", "positive": "positive 0", "negative_1": "negative 0 2"}]


@pytest.mark.parametrize(("row", "got"), [
    ({"anchor": "q", "positive": "p"}, "none of them of negatives"),
    ({"sentence1": "q", "sentence2": "p", "score": 0.5}, "none of them of negatives"),
    ({"text": "q"}, "none of them of positives"),
    ({"id": 1, "score": 2.0}, "none of them of queries"),
    ({"query": "q", "a": "p", "b": "n", "label": 1}, "columns label, a, b; wanted beside label"),
    ({"query": "q", "positive": "p", "negative_1": "n", "negative_2": "m", "negative_1_id": "3", "negative_2_id": "4"},
     "columns negative_1_id, negative_2_id"),
    ({"query": "q", "positive": "p", "negative_1": "n", "negative_2": "m", "scores": "[1, 2]"}, "columns scores"),
    ({"negative": "n", "positive": "p"}, "none of them of positives"),
])  # fmt: skip
@pytest.mark.parametrize("suffix", TABLES)
def test_columns_that_do_not_tell_what_they_are(tmp_path, suffix, row, got):
    with pytest.raises(InputError, match=got):
        open_external(write_table(tmp_path / f"a{suffix}", [row]))


def test_the_kind_of_column_that_is_missing_is_named(tmp_path):
    row = {"query": "q", "positives": ["p"], "negatives": ["n"]}
    with pytest.raises(InputError, match=r"query \(text\), positives \(texts\), .*, none of them of positives"):
        open_external(write_table(tmp_path / "a.jsonl", [row]))


def test_two_columns_of_lists(tmp_path):
    with pytest.raises(InputError, match="columns some, others"):
        open_external(write_table(tmp_path / "a.jsonl", [{"query": "q", "text": "p", "some": ["n"], "others": ["n"]}]))


def test_the_input_is_never_written_over(tmp_path):
    path = write_table(tmp_path / "out.2.parquet", rows_of(1))
    for output in (path, tmp_path / "out.parquet"):
        with pytest.raises(InputError, match="the input itself"):
            open_external(path).check_output(output)
    with pytest.raises(InputError, match=r"got \.csv; wanted \.parquet"):
        open_external(path).check_output(tmp_path / "other.csv")
    assert open_external(path).check_output(tmp_path / "other.parquet") is None


def test_only_the_files_of_the_result_are_touched(tmp_path):
    data = open_external(write_table(tmp_path / "a.parquet", rows_of(1)))
    mine = [tmp_path / name for name in ("out.0.parquet", "out.2.parquet", "out.levels.jsonl")]
    for path in mine:
        path.write_text("mine")
    data.write([VerifiedRow(((0, 1),), (), (0,))], tmp_path / "out.parquet")
    assert [path.read_text() for path in mine] == ["mine"] * 3


def test_nothing_is_written_where_it_breaks_off(tmp_path):
    data = open_external(write_table(tmp_path / "a.parquet", rows_of(3)))

    def broken():
        yield ALL
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        data.write(broken(), tmp_path / "made" / "out.parquet")
    assert list((tmp_path / "made").iterdir()) == []


@pytest.mark.parametrize("number", [1, 3])
def test_a_file_that_changed_is_not_written(tmp_path, number):
    path = write_table(tmp_path / "a.jsonl", rows_of(2))
    data = open_external(path)
    decided = verified(data, all_kept)
    write_table(path, rows_of(number))
    with pytest.raises(InputError, match="other rows than were verified"):
        data.write(decided, tmp_path / "b.jsonl")
    assert not (tmp_path / "b.jsonl").exists()


def test_what_finegrade_exports_is_read(tmp_path):
    flat, triplets = tmp_path / data_export.FLAT, tmp_path / data_export.TRIPLETS
    rows = [("q", "p", "n1", "n2", "n3"), ("r", "o", "m1", "m2", "m3")]
    columns = ["anchor", "positive", "negative_1", "negative_2", "negative_3"]
    data_export._write_table(flat, columns, iter(rows))
    data_export._write_table(triplets, ["anchor", "positive", "negative"], iter(row[:3] for row in rows))
    assert read(flat) == [ExternalRow(query, (positive,), tuple(others)) for query, positive, *others in rows]
    assert read(triplets) == [ExternalRow(query, (positive,), (other,)) for query, positive, other, *_ in rows]
    data = open_external(flat)
    (written, levels) = data.write([ALL, ALL], tmp_path / "b.parquet")
    assert pq.read_table(written).equals(pq.read_table(flat))
    assert lines(levels) == [{"row": row, "levels": [1, 2, 3]} for row in range(2)]
