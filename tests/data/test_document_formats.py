"""Formats with a library behind them: PDF, saved data sets, the hub, and HTML as it comes."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.config import SourceConfig
from finegrade.data.documents import open_documents
from finegrade.data.readers.document import Document, markdown_blocks, pdf_blocks
from finegrade.data.readers.html import html_blocks
from finegrade.errors import InputError

TEXT = "The valve opens when the pressure rises above two bar."


def write_pdf(path: Path, pages: list[str]) -> Path:
    """A PDF file of one line of text a page, written by hand."""
    count = len(pages)
    kids = " ".join(f"{3 + 2 * i} 0 R" for i in range(count))
    font = "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>"
    objects = ["<< /Type /Catalog /Pages 2 0 R >>", f"<< /Type /Pages /Kids [{kids}] /Count {count} >>"]
    for i, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET"
        objects.append(
            f"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents {4 + 2 * i} 0 R "
            f"/Resources << /Font << /F1 {font} >> >> >>"
        )
        objects.append(f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream")
    data, places = "%PDF-1.4\n", []
    for number, content in enumerate(objects, start=1):
        places.append(len(data))
        data += f"{number} 0 obj\n{content}\nendobj\n"
    begin = len(data)
    data += f"xref\n0 {len(objects) + 1}\n0000000000 65535 f \n" + "".join(f"{p:010} 00000 n \n" for p in places)
    data += f"trailer\n<< /Size {len(objects) + 1} /Root 1 0 R >>\nstartxref\n{begin}\n%%EOF\n"
    path.write_text(data, encoding="latin-1")
    return path


def test_pdf_pages_are_blocks_with_their_number(tmp_path: Path) -> None:
    blocks = pdf_blocks(write_pdf(tmp_path / "a.pdf", [TEXT, "Second page."]))
    assert [(block.heading, block.text.strip()) for block in blocks] == [("page 1", TEXT), ("page 2", "Second page.")]
    assert blocks[0].offset == 0 < blocks[1].offset


@pytest.mark.parametrize("content", [b"", b"%PDF-1.4", b"no PDF", b"%PDF-1.7\n" + b"\xff" * 500])
def test_a_damaged_pdf_says_so(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.pdf").write_bytes(content)
    with pytest.raises(ValueError, match="no PDF that can be read"):
        pdf_blocks(tmp_path / "a.pdf")


def test_a_pdf_without_an_end_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("finegrade.data.readers.document.MAX_PAGES", 2)
    assert len(pdf_blocks(write_pdf(tmp_path / "a.pdf", [TEXT] * 2))) == 2
    with pytest.raises(ValueError, match="more than 2 pages"):
        pdf_blocks(write_pdf(tmp_path / "a.pdf", [TEXT] * 3))


def test_offsets_of_markdown_count_as_markdown_does() -> None:
    text = "# A\n\nfirst\x0cpage\u2028more\n\nsecond\n"
    assert [text[block.offset :].split()[0] for block in markdown_blocks(text)] == ["first", "second"]


def test_pdf_without_its_library_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pypdf", None)
    with pytest.raises(InputError, match=r"pip install .finegrade\[pdf\]"):
        pdf_blocks(write_pdf(tmp_path / "a.pdf", [TEXT]))


def saved(path: Path, split: str | None) -> Path:
    """A data set as save_to_disk writes it."""
    from datasets import Dataset, DatasetDict

    rows = Dataset.from_list([{"text": f"{i}: {TEXT}", "title": f"Valve {i}"} for i in range(5)])
    (DatasetDict({split: rows}) if split else rows).save_to_disk(str(path))
    return path


@pytest.mark.parametrize("split", [None, "train", "validation"])
def test_a_saved_data_set_is_read(tmp_path: Path, split: str | None) -> None:
    path = saved(tmp_path / "data", split)
    documents = open_documents(SourceConfig(kind="documents", path=path, split=split or "train"), 0)
    found = [document for _, document in documents.read(lambda *_: None)]
    assert [d.blocks[0].heading for d in found if isinstance(d, Document)] == [f"Valve {i}" for i in range(5)]


def test_a_saved_data_set_that_changes_is_another_one(tmp_path: Path) -> None:
    source = SourceConfig(kind="documents", path=saved(tmp_path / "data", None))
    before = open_documents(source, 0).identity()
    assert open_documents(source, 0).identity() == before
    (tmp_path / "data" / "state.json").write_text((tmp_path / "data" / "state.json").read_text() + " ")
    assert open_documents(source, 0).identity() != before


def test_an_unknown_split_lists_what_there_is(tmp_path: Path) -> None:
    documents = open_documents(SourceConfig(kind="documents", path=saved(tmp_path / "data", "validation")), 0)
    with pytest.raises(InputError, match=r"source.split: got train; wanted one of validation"):
        list(documents.read(lambda *_: None))


def test_a_damaged_data_set_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "state.json").write_text("{")
    documents = open_documents(SourceConfig(kind="documents", path=tmp_path), 0)
    with pytest.raises(InputError, match="save_to_disk"):
        list(documents.read(lambda *_: None))


def test_a_data_set_of_the_hub_is_streamed(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    asked = []

    def load_dataset(name, **options):
        asked.append((name, options))
        yield {"body": TEXT}

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    documents = open_documents(SourceConfig(kind="documents", dataset="owner/name", split="test"), 0)
    (found,) = [document for _, document in documents.read(lambda *_: None)]
    assert isinstance(found, Document)
    assert found.path == "name#1"
    assert asked == [("owner/name", {"split": "test", "streaming": True})]


def test_a_hub_that_cannot_be_reached_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    import datasets

    def load_dataset(*_, **__):
        raise ConnectionError("a message\nof several lines")

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    documents = open_documents(SourceConfig(kind="documents", dataset="owner/name"), 0)
    with pytest.raises(InputError, match="the data set owner/name: got a message; wanted its rows") as error:
        list(documents.read(lambda *_: None))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("page", "told"),
    [
        ("<p>One<p>Two", [("", "One"), ("", "Two")]),
        ("<title>T</title><p>One</p>", [("T", "One")]),
        ("<title>T</title><h2>A</h2><p>x</p>", [("T > A", "x")]),
        ("<title>T</title><h1>A</h1><p>x</p>", [("A", "x")]),
        ("<h1>A</h1><h3>B</h3><p>x</p><h2>C</h2><p>y</p>", [("A > B", "x"), ("A > C", "y")]),
        ("<h1>A<a class=headerlink href=x>¶</a></h1><p>x</p>", [("A", "x")]),
        ("<pre>a\n  b</pre>", [("", "a\n  b")]),
        ("<table><tr><td>a</td><td>b</td></tr><tr><td>c</td></tr></table>", [("", "a b"), ("", "c")]),
        ("<p>a<b>b</b>c<br>d</p>tail", [("", "abc\nd"), ("", "tail")]),
        ("<div role=navigation>n</div><article><p>xxxxxxx</p></article><p>out</p>", [("", "xxxxxxx")]),
        ("<article><p>x</p></article><p>most of the page</p>", [("", "x"), ("", "most of the page")]),
        ("<main><p>a</p></main><p>b</p><main><p>c</p></main>", [("", "a"), ("", "c")]),
        ("<p>Costs <!-- -->5<!-- --> a <b>month</b><!-- x --> in all.</p>", [("", "Costs 5 a month in all.")]),
        ("<p>a<?pi x?>b</p>", [("", "ab")]),
        ("<form id=aspnetForm><h1>T</h1><p>x</p><select><option>y</select></form>", [("T", "x")]),
        ("<p hidden>a</p><p style='color:red; display: none'>b</p><p>c</p>", [("", "c")]),
        ("<section id=cookies><h2>Cookies</h2><p>x</p></section>", [("Cookies", "x")]),
        ("<section id=skip-locked><h2>S</h2><p>x</p></section><div id=footer>f</div>", [("S", "x")]),
        ("<div class='content has-sidebar no-menu'><p>x</p></div>", [("", "x")]),
        ("<div class='a main-menu'>n</div><div class=sphinxsidebar><h3>T</h3></div><p>x</p>", [("", "x")]),
        ('<?xml version="1.0" encoding="latin-1"?><html><body><p>é</p></body></html>', [("", "é")]),
        ("<p>x</p><!-- no --><?pi no?>", [("", "x")]),
        ("<div class='page-sidebar'>n</div><p class='abstract'>x</p>", [("", "x")]),
    ],
)
def test_html_as_it_comes(page: str, told: list[tuple[str, str]]) -> None:
    assert [(block.heading, block.text) for block in html_blocks(page)] == told


@pytest.mark.parametrize("page", ["", "   ", "<!-- nothing -->"])
def test_html_without_a_page_says_so(page: str) -> None:
    try:
        assert html_blocks(page) == []
    except ValueError as error:
        assert "no HTML" in str(error)


def test_deeply_nested_html_is_read() -> None:
    assert [block.text for block in html_blocks("<div>" * 200 + "deep" + "</div>" * 200)] == ["deep"]


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("<>/a p h1 div \"'=&;!-?\x00\n")))
def test_no_html_makes_the_reader_fall(page: str) -> None:
    try:
        blocks = html_blocks(page)
    except ValueError:
        return
    assert all(block.text.strip() for block in blocks)
    offsets = [block.offset for block in blocks]
    assert offsets == sorted(offsets)


@settings(max_examples=150, deadline=None)
@given(st.text(st.sampled_from("#*_`[]()!> -+|a1\n\t\\")))
def test_no_markdown_makes_the_reader_fall(text: str) -> None:
    blocks = markdown_blocks(text)
    assert all(block.text.strip() for block in blocks)
    assert all(0 <= block.offset <= len(text) for block in blocks)
