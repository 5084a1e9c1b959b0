"""Hostile tables: each bad row is passed over with its reason, and the rows around it are read."""

import codecs
import csv
import json
import tracemalloc
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finegrade.data.formats import open_external, tables
from finegrade.data.formats.base import ExternalRow, PassedRow, VerifiedRow
from finegrade.data.readers import text_files
from finegrade.errors import InputError
from helpers.external_data import TABLES, all_kept, read_table, verified, write_table

GOOD = {"anchor": "q", "positive": "p", "negative": "n"}
READ = ExternalRow("q", ("p",), ("n",))
LARGE = "x" * 10_000_000


def opened(path: Path, content: bytes):
    path.write_bytes(content)
    return open_external(path)


def passed_over(data) -> dict[str, int]:
    for row in data.rows():
        assert row == READ
    return dict(data.passed_over)


@pytest.mark.parametrize(("row", "reason"), [
    ({"anchor": None}, "anchor: empty"), ({"positive": ""}, "positive: empty"), ({"anchor": " \n"}, "anchor: empty"),
    ({"anchor": 5}, "anchor: int in place of a text"), ({"positive": ["p"]}, "positive: list in place of a text"),
    ({"negative": {"a": 1}}, "negative: dict in place of a text"), ({"negative": "\udcff"}, "negative: not Unicode"),
    ({"anchor": "\ud83d"}, "anchor: not Unicode"),
])  # fmt: skip
def test_rows_of_jsonl_that_are_no_texts(tmp_path, row, reason):
    data = open_external(write_table(tmp_path / "a.jsonl", [GOOD, GOOD | row, GOOD]))
    assert passed_over(data) == {reason: 1}
    (written, _) = data.write(verified(data, all_kept), tmp_path / "b.jsonl")
    assert read_table(written) == [GOOD, GOOD]


@pytest.mark.parametrize(("line", "reason"), [
    (b"", None), (b"  ", None), (b"null", "no JSON object"), (b"[1]", "no JSON object"), (b"{", "no JSON"),
    (b'{"anchor": "\xff"}', "byte 0xff, which is not UTF-8"), (b"[" * 100_000, "no JSON"),
    (json.dumps(GOOD | {"negative": LARGE}).encode(), "row of more than 4,000,000 bytes"),
])  # fmt: skip
def test_lines_of_jsonl_that_are_no_rows(tmp_path, line, reason):
    good = json.dumps(GOOD).encode()
    data = opened(tmp_path / "a.jsonl", b"\n".join([good, line, good, b'{"anchor": "torn']))
    assert passed_over(data) == ({reason: 1} if reason else {}) | {"no JSON": 1 + (reason == "no JSON")}


@pytest.mark.parametrize("bad", [
    {"query": 1984}, {"query": ["q"]}, {"positive": {"text": "p"}}, {"negatives": "n"}, {"negatives": [1]},
])  # fmt: skip
@pytest.mark.parametrize("first", [True, False])
def test_one_row_of_other_kinds_decides_nothing(tmp_path, bad, first):
    good = {"title": "t", "query": "q", "positive": "p", "negatives": ["n"]}
    rows = [good] * 3
    rows.insert(0 if first else 3, good | bad)
    data = open_external(write_table(tmp_path / "a.jsonl", rows))
    assert data.about == "queries: query, positives: positive, negatives: negatives"
    assert list(data.rows()) == [READ] * 3
    assert sum(data.passed_over.values()) == 1


def test_queries_that_are_all_numbers_are_no_reason_to_take_another_column(tmp_path):
    rows = [{"title": "t", "query": 1984, "positive": "p", "negative": "n"}] * 3
    data = open_external(write_table(tmp_path / "a.jsonl", rows))
    assert list(data.rows()) == []
    assert data.passed_over == {"query: int in place of a text": 3}


def test_a_list_of_other_things_than_texts(tmp_path):
    rows = [{"q": "q", "p": "p", "negatives": negatives} for negatives in (["n"], [None, "n"], ["n", 3], "n", None)]
    data = open_external(write_table(tmp_path / "a.jsonl", rows))
    assert list(data.rows()) == [READ, READ, ExternalRow("q", ("p",), ())]
    assert data.passed_over == {
        "negatives: int in place of a text": 1, "negatives: str in place of a list of texts": 1,
    }  # fmt: skip


def test_a_row_of_too_many_negatives(tmp_path):
    rows = [{"query": "q", "positive": "p", "negatives": ["n"] * number} for number in (1_000, 1_001, 100_000)]
    data = open_external(write_table(tmp_path / "a.jsonl", rows))
    assert [len(row.negatives) for row in data.rows()] == [1_000]
    assert data.passed_over == {"negatives: more than 1,000 texts": 2}


@pytest.mark.parametrize(("line", "reason"), [
    ("q,p", "fewer cells than the header has"), ("q,p,n,x", "more cells than the header has"), ("", None),
    (",p,n", "anchor: empty"), (b"q,\xff,n", "positive: not Unicode"),
    (f"q,p,{LARGE}", "a line of more than 4,000,000 characters"), ("q\0,p,", None),
])  # fmt: skip
@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_lines_of_csv_that_are_no_rows(tmp_path, line, reason, end):
    line = line if isinstance(line, bytes) else line.encode()
    data = opened(tmp_path / "a.csv", end.encode().join([b"anchor,positive,negative", b"q,p,n", line, b"q,p,n", b""]))
    if b"\0" in line:
        assert list(data.rows())[1] == ExternalRow("q\0", ("p",), ())
    else:
        assert passed_over(data) == ({reason: 1} if reason else {})
    (written, *_) = data.write(verified(data, all_kept), tmp_path / "b.csv")
    assert written.read_bytes().count(end.encode()) == 3
    assert written.read_bytes() == end.join(["anchor,positive,negative", "q,p,n", "q,p,n", ""]).encode()


def test_a_torn_last_line_of_csv(tmp_path):
    data = opened(tmp_path / "a.csv", b'anchor,positive,negative\nq,p,n\nq,p,"torn')
    assert list(data.rows()) == [READ, ExternalRow("q", ("p",), ('"torn',))]  # or a quote that is none


@pytest.mark.parametrize("quotes", [1, 2])
def test_a_quote_that_is_none_stays_in_its_cell(tmp_path, quotes):
    """Of an even number in a line the last may be open, too."""
    query = 'a 5" screen' if quotes == 2 else "a screen"
    data = opened(tmp_path / "a.tsv", f'anchor\tpositive\tnegative\n{query}\tp\t"half\nq\tp\tn\n'.encode())
    told: list[PassedRow] = []
    assert list(data.rows(told.append)) == [ExternalRow(query, ("p",), ('"half',)), READ]
    assert not told


def test_rows_that_cannot_be_used_have_the_numbers_of_the_file(tmp_path):
    told: list[PassedRow] = []
    list(opened(tmp_path / "a.csv", b'anchor,positive,negative\nq,p,n\n\nq,p,"half\nq,,n\n').rows(told.append))
    line = b'{"query": "q", "positive": "p", "negative": "n"}\n'
    list(opened(tmp_path / "a.jsonl", line + b"\n\n" + line + b"{}\n").rows(told.append))
    assert [(row.row, row.reason) for row in told] == [(5, "positive: empty"), (5, "query: empty")]


def test_a_file_that_was_swapped_is_one_line(tmp_path):
    data = open_external(write_table(tmp_path / "a.parquet", [{"anchor": "q", "positive": "p", "negative": "n"}]))
    write_table(tmp_path / "a.parquet", [{"query": "q", "positive": "p", "negative": "n"}])
    with pytest.raises(InputError, match="got other rows than were verified"):
        list(data.rows())


@pytest.mark.parametrize("end", ["last,p,n", 'q,p,"'])
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_stray_quote_glues_no_rows(tmp_path, suffix, end):
    """At the begin of a cell; far below there may be another."""
    rows = [["anchor", "positive", "negative"], *[["q", "p", "n"]] * 700, end.split(",")]
    rows[3] = ["q", '"Foo', "n"]
    separator = "," if suffix == ".csv" else "\t"
    data = opened(tmp_path / f"a{suffix}", "\n".join(map(separator.join, rows)).encode())
    read = list(data.rows())
    assert len(read) == 701
    assert read[2] == ExternalRow("q", ('"Foo',), ("n",))
    assert read.count(READ) >= 699
    assert not data.passed_over


@pytest.mark.parametrize("inner", [0, 1, 5])
@pytest.mark.parametrize(("begin", "end"), [
    (["q", "p", '"Foo'], ["q", "p", '"']), (["q", '"Foo', "n"], ["q", 'bar"', "n"]),
    (['"Foo', "p", "n"], ['"', "p", "n"]),
])  # fmt: skip
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_stray_quote_with_a_partner_in_its_column_glues_no_rows(tmp_path, suffix, begin, end, inner):
    rows = [
        ["anchor", "positive", "negative"],
        ["q", "p", "n"],
        begin,
        *[["q", "p", "n"]] * inner,
        end,
        ["q", "p", "n"],
    ]
    data = opened(tmp_path / f"a{suffix}", "\n".join(map({".csv": ",", ".tsv": "\t"}[suffix].join, rows)).encode())
    told: list[PassedRow] = []
    query, positive, negative = end
    wanted = [READ] * (1 + inner) + [ExternalRow(query, (positive,), (negative,)), READ]
    assert list(data.rows(told.append)) == wanted
    ((line, reason, _),) = told
    assert line == 3
    assert reason.startswith("a quote that closes in a later row")


@pytest.mark.parametrize("cell", [
    "Dear Sir, I\nthank you, very much", "a,b\nand so on\nc,d", "def f():\n\tif x:\n\t\treturn y", "1,2,3\n4,5,6",
    "a\nb",
])  # fmt: skip
@pytest.mark.parametrize("suffix", [".csv", ".tsv"])
def test_a_cell_of_several_lines_stays_one(tmp_path, suffix, cell):
    data = open_external(write_table(tmp_path / f"a{suffix}", [GOOD, GOOD | {"negative": cell}, GOOD]))
    assert list(data.rows()) == [READ, ExternalRow("q", ("p",), (cell,)), READ]
    assert not data.passed_over


def test_spaces_are_part_of_a_cell(tmp_path):
    data = opened(tmp_path / "a.csv", b"anchor,positive,negative\nq, p,n\n")
    assert list(data.rows()) == [ExternalRow("q", (" p",), ("n",))]


def test_cells_with_everything_in_them(tmp_path):
    cell = 'a "quoted", one;\r\nof two\tlines\n\n| and \u2028 more'
    for suffix in TABLES:
        data = open_external(write_table(tmp_path / f"a{suffix}", [GOOD | {"negative": cell}, GOOD | {"anchor": cell}]))
        assert list(data.rows()) == [ExternalRow("q", ("p",), (cell,)), ExternalRow(cell, ("p",), ("n",))]
        (written, _) = data.write(verified(data, all_kept), tmp_path / f"b{suffix}")
        assert list(open_external(written).rows()) == list(data.rows())


@pytest.mark.parametrize("end", ["\n", "\r\n"])
@pytest.mark.parametrize("cell", ["a\rb", "\r", "a\nb", "a\r\nb", "a\n\rb", '"', 'a "b" c', '""', "a,b;c\td|e"])
@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
def test_cells_that_have_to_be_quoted(tmp_path, separator, cell, end):
    """By every reader of CSV."""
    with (tmp_path / "a.csv").open("w", newline="") as file:
        writer = csv.writer(file, delimiter=separator, lineterminator=end, quoting=csv.QUOTE_ALL)
        writer.writerows([["anchor", "positive", "negative", "notes of mine"], ["q", f"{cell}p", "n", cell]])
        writer.writerow(["q", "p", f"n{cell}", ""])
    data = open_external(tmp_path / "a.csv")
    assert list(data.rows()) == [ExternalRow("q", (f"{cell}p",), ("n",)), ExternalRow("q", ("p",), (f"n{cell}",))]
    (written, _) = data.write(verified(data, all_kept), tmp_path / "b.csv")
    assert list(open_external(written).rows()) == list(data.rows())
    with written.open(newline="") as file:
        assert list(csv.reader(file, delimiter=separator))[1][3] == cell
    assert pd.read_csv(written, sep=separator)["notes of mine"][0] == cell


@pytest.mark.slow
def test_a_row_of_csv_without_end(tmp_path, monkeypatch):
    """Each line closes one quoted cell and opens the next."""
    monkeypatch.setattr(text_files, "MAX_ROW_BYTES", 10_000)
    data = opened(tmp_path / "a.csv", b'anchor,positive,negative\nq,p,n\nq,p,"\n' + b'","\n' * 50_000 + b"q,p,n\n")
    tracemalloc.start()
    read = list(data.rows())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert read == [READ, ExternalRow("q", ("p",), ('"',)), READ]
    assert data.passed_over == {"fewer cells than the header has": 50_000}
    assert peak < 1_000_000


@pytest.mark.parametrize("separator", [",", ";", "\t", "|"])
@pytest.mark.parametrize("mark", [b"", codecs.BOM_UTF8])
def test_a_csv_file_stays_as_it_is(tmp_path, separator, mark):
    """Separator, byte order mark and bytes of other columns that are no UTF-8."""
    content = mark + b"anchor,positive,note,negative\nq,p,\xff\xfe,n\n".replace(b",", separator.encode())
    data = opened(tmp_path / "a.csv", content)
    assert data.about == "queries: anchor, positives: positive, negatives: negative"
    assert passed_over(data) == {}
    (written, _) = data.write(verified(data, all_kept), tmp_path / "b.csv")
    assert written.read_bytes() == content


@pytest.mark.parametrize("content", [b"", b"\n", b"anchor,positive,negative\n", b"anchor,positive,negative\nq"])
def test_a_csv_file_without_rows(tmp_path, content):
    with pytest.raises(InputError, match=r"no rows|an empty file"):
        opened(tmp_path / "a.csv", content)


@pytest.mark.parametrize("content", [b"\xff\xfea\0,\0b\0\n\0", b"\xffabc,d\n1,2\n", b"PK\0\x03,,,\n1,2,3,4\n"])
def test_a_csv_file_that_is_none(tmp_path, content):
    with pytest.raises(InputError, match="no UTF-8 text"):
        opened(tmp_path / "a.csv", content)


@pytest.mark.parametrize("content", [b"", b"\n\n", b"{", b"[\n1\n]"])
def test_a_jsonl_file_without_rows(tmp_path, content):
    with pytest.raises(InputError, match=r"no JSON( object)? in its first line|an empty file"):
        opened(tmp_path / "a.jsonl", content)


def test_two_columns_of_one_name(tmp_path):
    arrays = [pa.array(["q"]), pa.array(["p"]), pa.array(["n"]), pa.array(["m"])]
    pq.write_table(
        pa.Table.from_arrays(arrays, names=["anchor", "positive", "negative", "negative"]), tmp_path / "a.parquet"
    )
    for opening in (
        lambda: open_external(tmp_path / "a.parquet"), lambda: opened(tmp_path / "a.csv", b"a,b,b\n1,2,3\n"),
    ):  # fmt: skip
        with pytest.raises(InputError, match="more than one column"):
            opening()


def parquet(path: Path, **columns: pa.Array) -> Path:
    pq.write_table(pa.table(columns), path)
    return path


def test_rows_of_parquet_that_are_no_texts(tmp_path):
    bad = pa.array([b"p", b"\xff", b"p", None]).view(pa.string())  # nobody checks it
    path = parquet(
        tmp_path / "a.parquet", anchor=pa.array(["q", "q", "", "q"]), positive=bad, negative=pa.array(["n"] * 4)
    )
    data = open_external(path)
    assert passed_over(data) == {"positive: not Unicode": 1, "anchor: empty": 1, "positive: empty": 1}
    (written, _) = data.write(verified(data, all_kept), tmp_path / "b.parquet")
    assert read_table(written) == [GOOD]


def test_lists_of_parquet_that_are_no_texts(tmp_path):
    bad = pa.array([[b"n"], [b"\xff"], [None, b"n"], None, []], pa.list_(pa.binary())).cast(
        pa.list_(pa.string()), safe=False
    )
    data = open_external(parquet(tmp_path / "a.parquet", q=pa.array(["q"] * 5), p=pa.array(["p"] * 5), negatives=bad))
    assert list(data.rows()) == [READ, READ, ExternalRow("q", ("p",), ()), ExternalRow("q", ("p",), ())]
    assert data.passed_over == {"negatives: not Unicode": 1}


@pytest.mark.parametrize("kind", [
    pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()),
])  # fmt: skip
def test_all_types_of_texts(tmp_path, kind):
    """Also a dictionary that has no place for the texts that come in from another column."""
    numbers = range(200)
    first, second = (pa.array([f"{name} {i % most}" for i in numbers]) for name, most in (("a", 100), ("b", 200)))
    path = parquet(tmp_path / "a.parquet", anchor=pa.array(["q"] * 200), positive=pa.array(["p"] * 200),
                   negative_1=first.cast(kind) if kind.num_fields == 0 else first.dictionary_encode().cast(kind),
                   negative_2=second)  # fmt: skip
    data = open_external(path)
    assert [row.negatives for row in data.rows()] == [(f"a {i % 100}", f"b {i}") for i in numbers]
    decided = [one._replace(kept=((1, 1), (0, 2))) for one in verified(data, all_kept)]
    written = pq.read_table(data.write(decided, tmp_path / "b.parquet")[0])
    assert written["negative_1"].to_pylist() == second.to_pylist()


def test_lists_of_one_length(tmp_path):
    """A list that loses a value has another length."""
    kinds = pa.list_(pa.string(), 2), pa.list_(pa.float32(), 3)
    columns = {"query": pa.array(["q"]), "positive": pa.array(["p"]), "negatives": pa.array([["a", "b"]], kinds[0]),
               "scores": pa.array([[1.0, 0.5, 0.25]], kinds[1])}  # fmt: skip
    data = open_external(parquet(tmp_path / "a.parquet", **columns))
    (file, _) = data.write([VerifiedRow(((1, 3),), (), (0,))], tmp_path / "b.parquet")
    assert read_table(file) == [{"query": "q", "positive": "p", "negatives": ["b"], "scores": [1.0, 0.25]}]
    assert pq.read_schema(file).field("scores").type == pa.list_(pa.float32())


@pytest.mark.parametrize("content", [b"", b"PAR1", b"PAR1" + b"\0" * 100 + b"PAR1", b"anchor,positive\n"])
def test_a_parquet_file_that_is_none(tmp_path, content):
    with pytest.raises(InputError, match="a Parquet file"):
        opened(tmp_path / "a.parquet", content)


def test_a_parquet_file_without_rows(tmp_path):
    empty = pa.array([], pa.string())
    with pytest.raises(InputError, match="no rows"):
        open_external(parquet(tmp_path / "a.parquet", anchor=empty, positive=empty, negative=empty))


def test_a_parquet_file_that_is_damaged_further_on(tmp_path):
    path = write_table(tmp_path / "a.parquet", [GOOD | {"anchor": f"q{i}"} for i in range(1_000)])
    content = bytearray(path.read_bytes())
    content[100:1_000] = b"\xff" * 900
    path.write_bytes(content)
    data = open_external(path)
    with pytest.raises(InputError, match="a Parquet file"):
        list(data.rows())


@pytest.mark.slow
def test_large_cells_are_read_a_few_at_a_time(tmp_path, monkeypatch):
    data = open_external(write_table(tmp_path / "a.parquet", [GOOD | {"negative": LARGE}] * 3))
    assert [len(row.negatives[0]) for row in data.rows()] == [len(LARGE)] * 3
    monkeypatch.setattr(tables, "BYTES_AT_ONCE", 100)
    rows = [GOOD | {"negative": f"{i} {'x' * 1_000}"} for i in range(20)]
    data = open_external(write_table(tmp_path / "b.parquet", rows))
    (written, _) = data.write(verified(data, all_kept), tmp_path / "c.parquet")
    assert read_table(written) == rows
    assert pq.ParquetFile(written).num_row_groups == 20


@pytest.mark.parametrize("suffix", TABLES)
@pytest.mark.slow
def test_memory_does_not_grow_with_the_rows(tmp_path, suffix, monkeypatch):
    monkeypatch.setattr(tables, "ROWS_AT_ONCE", 100)
    rows = [
        {"anchor": f"query {i}", "positive": f"positive {i} " * 20, "negative": f"n {i} " * 20} for i in range(1_200)
    ]
    peaks = []
    for number in (400, 1_200):
        data = open_external(write_table(tmp_path / f"{number}{suffix}", rows[:number]))
        tracemalloc.start()
        data.write(map(all_kept, data.rows()), tmp_path / f"out{suffix}")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.3 * peaks[0]


def carried(path: Path, number: int) -> Path:
    """A file with a large column that nobody looks at."""
    columns = {name: [name] * number for name in GOOD}
    images = [bytes([i % 250]) * 20_000 + str(i).encode() for i in range(number)]
    pq.write_table(pa.table(columns | {"image": images}), path, row_group_size=50)
    return path


@pytest.mark.parametrize("kept", [1, 10])
@pytest.mark.slow
def test_memory_does_not_grow_with_columns_that_are_carried_along(tmp_path, monkeypatch, kept):
    """Neither where all rows stay, nor where few of each batch do."""
    monkeypatch.setattr(tables, "BYTES_AT_ONCE", 400_000)
    data = open_external(carried(tmp_path / "a.parquet", 1_000))
    before = pa.total_allocated_bytes()  # tracemalloc does not see them
    peak = 0

    def decide():
        nonlocal peak
        for number, row in enumerate(data.rows()):
            peak = max(peak, pa.total_allocated_bytes() - before)
            yield all_kept(row) if number % kept == 0 else VerifiedRow((), (), ())

    (written, _) = data.write(decide(), tmp_path / "out.parquet")
    wanted = read_table(tmp_path / "a.parquet")[::kept]
    assert read_table(written) == wanted
    assert peak < 8_000_000  # of 20 MB


@pytest.mark.parametrize("name", ["a.xlsx", "a", "folder", "none.parquet", "none"])
def test_other_things_are_refused(tmp_path, name):
    (tmp_path / "a.xlsx").write_bytes(b"x")
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "folder").mkdir()
    with pytest.raises(InputError, match="wanted columns of query, positive and negatives"):
        open_external(tmp_path / name)
