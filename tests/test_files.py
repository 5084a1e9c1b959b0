"""Files of every format become documents; what cannot be read is named with its reason and stops nothing."""

import csv
import json
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finegrade.errors import InputError
from finegrade.sources.document import Document, Unread
from finegrade.sources.files import list_files, read_files

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
        ("a.jsonl#5", "not UTF-8"), ("a.jsonl#6", "no text in 'text'"),
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
