"""Files of every format become documents; what cannot be read is named with its reason and stops nothing."""

import csv
import io
import json
import time
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from finegrade.data.readers.document import Document, Unread
from finegrade.data.readers.files import list_files, read_files
from finegrade.data.readers.tables import read_csv, read_parquet
from finegrade.data.readers.text_files import csv_records
from finegrade.errors import InputError
from finegrade.storage.run_folder import RunFolder

TEXT = "The valve opens when the pressure rises above two bar. It closes again below one."


def read(root: Path, text_field: str | None = None, title_field: str | None = None):
    files, _ = list_files(root)
    told: list[tuple[str, str]] = []
    found = [d for _, d in read_files(root, files, text_field, title_field, 0, lambda *g: told.append(g))]
    return sorted(found), told


def one(root: Path) -> Document:
    (document,), _ = read(root)
    assert isinstance(document, Document)
    return document


def texts(document: Document) -> list[tuple[str, str]]:
    return [(block.heading, " ".join(block.text.split())) for block in document.blocks]


def test_markdown_has_headings_and_offsets(tmp_path: Path) -> None:
    source = (
        f"---\ntitle: x\n---\n# Valves\n\nIntro.\n\n## Opening\n\n{TEXT} See [the manual](http://x.y/z).\n\n"
        "- a\n- b\n\n```\ncode\n```\n"
    )
    (tmp_path / "a.md").write_text(source)
    document = one(tmp_path)
    assert document.path == "a.md"
    assert texts(document) == [
        ("Valves", "Intro."),
        ("Valves > Opening", f"{TEXT} See the manual."),
        ("Valves > Opening", "a b"),
        ("Valves > Opening", "code"),
    ]
    assert [source[block.offset :][:5] for block in document.blocks] == ["Intro", "The v", "- a\n-", "```\nc"]


def test_plain_text_is_cut_at_blank_lines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"One\r\ntwo.\r\n\r\n  \r\nThree.")
    assert one(tmp_path).blocks == [("", "One\ntwo.\n", 0), ("", "Three.", 13)]


def test_html_has_headings_and_no_navigation(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text(
        f"<html><head><title>t</title><style>b{{}}</style></head><body><nav><a href=x>Home</a> <a href=y>Next</a></nav>"
        f"<main><h1>Valves</h1><p>{TEXT}</p><h2>Closing</h2><p>{TEXT} &amp; so on.</p><ul><li>one</li></ul></main>"
        f"<script>alert(1)</script><footer>Copyright</footer></body></html>"
    )
    found = texts(one(tmp_path))
    assert ("Valves", TEXT) in found
    assert ("Valves > Closing", f"{TEXT} & so on.") in found
    told = str(found)
    assert not [word for word in ("Home", "alert", "Copyright", "<p>") if word in told]


def test_rows_of_tables_are_documents(tmp_path: Path) -> None:
    rows = [{"_id": f"d{i}", "title": f"Valve {i}", "text": f"{i}: {TEXT}"} for i in range(3)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "b.parquet")
    with (tmp_path / "c.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    with (tmp_path / "d.tsv").open("w", newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter="\t")
        writer.writeheader()
        writer.writerows(rows)
    found, _ = read(tmp_path)
    assert [d.path for d in found] == [
        f"{n}#d{i}" for n in ("a.jsonl", "b.parquet", "c.csv", "d.tsv") for i in range(3)
    ]
    assert {tuple(texts(d)) for d in found} == {((f"Valve {i}", f"{i}: {TEXT}"),) for i in range(3)}


def test_columns_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": "not this", "was": TEXT, "über": "Title"}) + "\n")
    (document,), _ = read(tmp_path, "was", "über")
    assert texts(document) == [("Title", TEXT)]


@pytest.mark.parametrize(("text_field", "told"), [("nothing", "no column 'nothing'"), (None, "columns x, y")])
def test_a_table_without_a_text_is_told(tmp_path: Path, text_field, told) -> None:
    (tmp_path / "a.jsonl").write_text('{"x": 1, "y": [2]}\n')
    with pytest.raises(InputError, match=told):
        read(tmp_path, text_field)


def test_bad_rows_are_named_and_the_others_read(tmp_path: Path) -> None:
    lines = [
        json.dumps({"text": TEXT}).encode(),
        b"{",
        b'["x"]',
        b'{"text": 3}',
        b'{"text": "\xff"}',
        b"",
        b'{"text": " "}',
    ]
    (tmp_path / "a.jsonl").write_bytes(b"\n".join(lines))
    found, _ = read(tmp_path)
    assert [d for d in found if isinstance(d, Unread)] == [
        ("a.jsonl#2", "no JSON"), ("a.jsonl#3", "no JSON object"), ("a.jsonl#4", "no text in 'text'"),
        ("a.jsonl#5", "byte 0xff, which is not UTF-8"), ("a.jsonl#6", "no text in 'text'"),
    ]  # fmt: skip
    assert len(found) == 6


def test_an_encoding_is_guessed_and_told(tmp_path: Path) -> None:
    german = (
        "Das Öffnen der Tür erfolgt über die Tasten. Größe und Höhe müssen übereinstimmen, sonst fällt sie zu. " * 3
    )
    (tmp_path / "a.txt").write_bytes(german.encode("cp1252"))
    (tmp_path / "b.txt").write_bytes(german.encode("utf-8-sig"))
    (tmp_path / "c.txt").write_bytes(german.encode("utf-16"))
    found, told = read(tmp_path)
    assert {texts(document)[0][1] for document in found} == {german.strip()}
    assert [path for path, _ in told] == ["a.txt"]


def test_what_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"\x00\x01\x02" * 100)
    (tmp_path / "b.parquet").write_bytes(b"no parquet")
    (tmp_path / "c.pdf").write_bytes(b"%PDF-1.4 nothing")
    found, _ = read(tmp_path)
    assert [(d.path.partition("#")[0], type(d)) for d in found] == [
        ("a.txt", Unread), ("b.parquet", Unread), ("c.pdf", Unread),
    ]  # fmt: skip


def test_hidden_files_links_and_other_formats_are_passed_over(tmp_path: Path) -> None:
    for name in (".git/a.md", ".hidden.md", "sub/b.md", "picture.png", "c.MD", "README"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(TEXT)
    (tmp_path / "link.md").symlink_to("/etc/passwd")
    (tmp_path / "loop").symlink_to(tmp_path)
    files, others = list_files(tmp_path)
    assert [path.relative_to(tmp_path).as_posix() for path in files] == ["c.MD", "sub/b.md"]
    assert others == {".png": 1, "(none)": 1}


@pytest.mark.parametrize("name", ["nowhere", "empty"])
def test_nothing_to_read_is_told(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"Endings that are read: .*\.md"):
        list_files(tmp_path / name)


def test_a_table_without_a_text_does_not_stop_a_folder(tmp_path: Path) -> None:
    (tmp_path / "numbers.csv").write_text("a,b\n1,2\n")
    (tmp_path / "notes.md").write_text("# Valves\n\nThey open.")
    found, _ = read(tmp_path)
    assert [one.path for one in found if isinstance(one, Document)] == ["notes.md"]
    (unread,) = (one for one in found if isinstance(one, Unread))
    assert unread.path == "numbers.csv"
    assert "columns a, b" in unread.reason


def test_the_first_rows_need_not_hold_a_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": null, "id": 0}\n{"id": 0, "text": "Valves open."}\n')
    found, _ = read(tmp_path)
    assert found[1] == Unread("a.jsonl#1", "no text in 'text'")
    assert found[0].path == "a.jsonl#0"


def test_tables_with_other_columns_are_read_together(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "Valves open."}\n')
    (tmp_path / "b.jsonl").write_text('{"body": "Pipes leak."}\n')
    found, _ = read(tmp_path, text_field="body")
    assert [one.path for one in found if isinstance(one, Document)] == ["b.jsonl#1"]
    assert [one.path for one in found if isinstance(one, Unread)] == ["a.jsonl"]


@pytest.mark.parametrize("before", [0, 50_000])
@pytest.mark.slow
def test_the_encoding_of_a_table_is_guessed_and_told(tmp_path: Path, before: int) -> None:
    rows = "text,x\n" + "Pipes leak.,1\n" * before + "Das Ventil öffnet für die Spülung; größer als üblich.,1\n" * 20
    (tmp_path / "a.csv").write_bytes(rows.encode("latin-1"))
    found, told = read(tmp_path)
    assert [path for path, _ in told] == ["a.csv"]
    assert len(found) == before + 20
    last = next(document for document in found if document.path == f"a.csv#{before + 20}")
    assert texts(last)[0][1] == "Das Ventil öffnet für die Spülung; größer als üblich."


def test_a_table_with_a_byte_order_mark_is_read_by_it(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("title;text\nVentil;Es öffnet.\n".encode("utf-16"))
    assert texts(one(tmp_path)) == [("Ventil", "Es öffnet.")]


@pytest.mark.parametrize("rows", ["text\n" + "x" * 500_000 + "\n", 'text\n"' + "x" * 500_000 + '"\n'])
def test_long_cells_are_read(tmp_path: Path, rows: str) -> None:
    (tmp_path / "a.csv").write_text(rows)
    assert len(texts(one(tmp_path))[0][1]) == 500_000


@pytest.mark.parametrize(
    ("rows", "read_singly"), [("x" * 3000 + "\n", []), ('"' + "x\n" * 1500, ['"x', *["x"] * 1499])]
)
def test_cells_without_an_end_are_not_held(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rows: str, read_singly: list[str]
) -> None:
    monkeypatch.setattr("finegrade.data.readers.text_files.MAX_ROW_BYTES", 1000)
    (tmp_path / "a.csv").write_text(f"text\nfirst\n{rows}last\n")
    found, _ = read(tmp_path)
    documents = sorted((d for d in found if isinstance(d, Document)), key=lambda d: int(d.path.partition("#")[2]))
    assert [texts(document)[0][1] for document in documents] == ["first", *read_singly, "last"]
    reasons = [one.reason for one in found if isinstance(one, Unread)]
    assert reasons == ([] if read_singly else ["line 3: a line of more than 1,000 characters"])


def csv_cells(path: Path, content: str, column: str = "text") -> list[str | None]:
    path.write_text(content)
    return [row if isinstance(row, str) else row[column] for row in read_csv(path, lambda _: None)]


@pytest.mark.parametrize(
    ("name", "rows", "wanted"),
    [
        ("a.tsv", ["1\tone", '2\t"odd', "3\tthree", "4\tfour"], ["one", '"odd', "three", "four"]),
        ("a.tsv", ["1\tone", '2\t"odd', '3\t"three', "4\tfour"], ["one", '"odd', '"three', "four"]),
        ("a.tsv", ["1\tone", '2\t"odd', '"3\tthree', "4\tfour"], ["one", '"odd', "three", "four"]),
        ("a.tsv", ["1\tone", '2\t"Romeo and Juliet" author', "3\t5\" nails"],
         ["one", '"Romeo and Juliet" author', '5" nails']),
        ("a.tsv", ['1\t"def f():', "\tif x:", '\treturn ""1"""', "2\tx"], ['def f():\n\tif x:\n\treturn "1"', "x"]),
        ("a.csv", ['1,"two', 'lines, and ""three"""', '2,"odd', "3,x", "4,y"],
         ['two\nlines, and "three"', '"odd', "x", "y"]),
        ("a.csv", ["1,a, b", "2,ok", "", "3", "4,ok,,"], ["line 2: more cells than the header has", "ok", None, "ok"]),
        ("a.csv", ['1,"two', 'lines, here"', '2,"odd', "3,x", '4,"y"', '5,odd"', "6,z"],
         ["two\nlines, here", '"odd', "x", "y", 'odd"', "z"]),
        ("a.csv", ["1,one", '2,"odd', "3,x", '4,odd"', "5,y"],
         ["one", "line 3: a quote that closes in a later row: double it, or quote the whole cell", "x", 'odd"', "y"]),
    ],
)  # fmt: skip
def test_a_quote_that_is_none_glues_no_rows(tmp_path: Path, name: str, rows: list[str], wanted: list[str]) -> None:
    separator = "\t" if name == "a.tsv" else ","
    assert csv_cells(tmp_path / name, "\n".join([f"id{separator}text", *rows]) + "\n") == wanted


def test_of_a_single_column_commas_are_text(tmp_path: Path) -> None:
    assert csv_cells(tmp_path / "a.csv", 'text\nwhat is a, b?\n"a, b"\n') == ["what is a, b?", "a, b"]


@pytest.mark.slow
def test_many_odd_quotes_take_no_time_that_is_a_square(tmp_path: Path) -> None:
    began = time.process_time()
    for line in ('1\t"x', '1\t"x ""y', '1\t""x', '"', '1\t"'):
        csv_cells(tmp_path / "a.tsv", "id\ttext\n" + f"{line}\n" * 10_000)
    assert time.process_time() - began < 5


def each_line_looks_like_a_row(row: list[str]) -> bool:
    lines = io.StringIO(newline="")
    csv.writer(lines).writerow(row)
    lines.seek(0)
    return all(len(line.split(",")) == 2 for line in lines) and len(lines.getvalue().splitlines()) > 1


@given(rows=st.lists(st.lists(st.text('ab",\n\r\t; ', max_size=6), min_size=2, max_size=2), max_size=6))
def test_what_a_csv_writer_wrote_is_read_as_it_was(tmp_path_factory: pytest.TempPathFactory, rows) -> None:
    path = tmp_path_factory.mktemp("csv") / "a.csv"
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([["id", "text"], *rows])
    assume(not any(each_line_looks_like_a_row(row) for row in rows))
    found = [list(row.values()) for row in read_csv(path, lambda _: None)]
    assert [[cell.lstrip(" ") for cell in row] for row in found] == [[cell.lstrip(" ") for cell in row] for row in rows]


def test_nested_texts_of_parquet_are_read_where_they_are_asked_for(tmp_path: Path) -> None:
    rows = [{"pos": ["a"], "answers": {"text": ["b"], "start": [1]}, "passages": [{"text": "c", "score": 0.5}],
             "image": {"bytes": b"x", "path": "y"}, "vector": [0.5]}]  # fmt: skip
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    assert list(read_parquet(tmp_path / "a.parquet", str, nested=True)) == [rows[0] | {"image": None, "vector": None}]
    assert list(read_parquet(tmp_path / "a.parquet", str)) == [dict.fromkeys(rows[0])]


def test_of_parquet_only_columns_of_text_and_numbers_are_read(tmp_path: Path) -> None:
    table = pa.table({"id": [7], "text": ["Valves open."], "vector": [[0.5] * 1000], "image": [b"x" * 1000]})
    pq.write_table(table, tmp_path / "a.parquet")
    (row,) = read_parquet(tmp_path / "a.parquet", str)
    assert row == {"id": 7, "text": "Valves open.", "vector": None, "image": None}


def test_run_folders_and_the_users_queries_are_no_documents(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("Valves open.")
    (tmp_path / "real.jsonl").write_text('{"query": "valve"}\n')
    run = RunFolder(tmp_path / "runs" / "run")
    with run.locked(), run.stage("documents", {}):
        run.path("queries_set_aside.jsonl").write_text('{"text": "no document"}\n')
    files, _ = list_files(tmp_path, tmp_path / "real.jsonl")
    assert files == [tmp_path / "a.md"]


@pytest.mark.parametrize("name", ["a.txt", "a.csv"])
def test_a_last_sign_that_is_not_utf8_is_guessed_and_told(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes("text\n\nWir treffen uns im Café".encode("latin-1"))
    found, told = read(tmp_path)
    last = texts(found[-1])[-1][1]
    assert last.startswith("Wir treffen uns im Caf")
    assert "\ufffd" not in last
    assert [path for path, _ in told] == [name]


def test_utf32_is_read_by_its_mark(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Das Ventil öffnet.".encode("utf-32"))
    assert texts(one(tmp_path)) == [("", "Das Ventil öffnet.")]


def test_a_file_without_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.html").write_text("<html><body><nav>Home</nav></body></html>")
    (tmp_path / "b.md").write_text("")
    found, _ = read(tmp_path)
    assert found == [Unread("a.html", "no text"), Unread("b.md", "no text")]


def test_columns_are_known_whatever_their_case(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("ID, Title ,Text\n7,Valve,It opens.\n")
    document = one(tmp_path)
    assert (document.path, texts(document)) == ("a.csv#7", [("Valve", "It opens.")])


def test_categories_and_views_are_text(tmp_path: Path) -> None:
    text = pa.array(["Valves open."]).dictionary_encode()
    pq.write_table(pa.table({"text": text, "title": pa.array(["Valve"], pa.string_view())}), tmp_path / "a.parquet")
    assert texts(one(tmp_path)) == [("Valve", "Valves open.")]


@pytest.mark.parametrize(
    ("text", "records"),
    [
        ('id,text,notes\n1,"one\ntwo, three"\n', [["id", "text", "notes"], ["1", "one\ntwo, three"]]),
        ('query,text\nHow many,"about\n1,000"\n', [["query", "text"], ["How many", "about\n1,000"]]),
        ('"que\nry",text\nq,b\n', [["que\nry", "text"], ["q", "b"]]),
        ('a,b,c\nq,"5\n6,7,8"\n', [["a", "b", "c"], ["q", "5\n6,7,8"]]),
    ],
)
def test_a_cell_of_several_lines_stays_one_whatever_the_number_of_cells(text, records):
    assert [cells for _, cells in csv_records(io.StringIO(text, newline=""), ",")] == records
