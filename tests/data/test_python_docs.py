"""Docstrings as pairs: read with ast, never imported, prose only."""

import sys
import sysconfig

import pytest

from finegrade.data import python_docs
from finegrade.data.python_docs import MIN_CHARS, MIN_WORDS, pair_of_docstring, read_python_docs
from finegrade.errors import InputError
from finegrade.text import words

SUMMARY = "Return the median of a sequence of numbers."
PROSE = (
    "The numbers are sorted first and the one in the middle is taken. When their count is even, the two in the middle "
    "are added and the sum is halved, so that the result may not be one of them."
)
MORE = (
    "The window moves over the whole series by one row at a time, and whatever it covers is handed to the function "
    "together with its index. Rows that are missing count as nothing."
)


def docstring(body=PROSE, summary=SUMMARY):
    return f"{summary}\n\n{body}"


def test_summary_is_the_query_and_prose_the_positive():
    assert pair_of_docstring(docstring()) == (SUMMARY, PROSE)


@pytest.mark.parametrize(
    "header",
    [
        "Parameters\n----------", "Args:", "Returns", "Returns:", "Raises:", "Examples\n========", "Example::",
        "See Also", "Notes", ":param x: the numbers", ":returns: a number", ">>> median([1, 2])", ".. versionadded:: 3",
        "- a list item", "* a list item", "1. a first step", "@param x the numbers", "    Yields", "| a | table |",
    ],
)  # fmt: skip
def test_prose_ends_at_the_first_section_header(header):
    assert pair_of_docstring(docstring(f"{PROSE}\n\n{header}\n{MORE}")) == (SUMMARY, PROSE)


@pytest.mark.parametrize("header", ["Parameters", "Args:", ">>> median([1, 2])"])
def test_body_that_opens_with_a_section_has_no_prose(header):
    assert pair_of_docstring(docstring(f"{header}\n{PROSE}")) is None


def test_words_of_a_header_inside_a_sentence_are_prose():
    body = f"Returns the one in the middle. {PROSE}"
    assert pair_of_docstring(docstring(body)) == (SUMMARY, body)


def test_paragraphs_and_white_space_are_folded():
    assert pair_of_docstring(docstring(f"{PROSE}\n\n   {MORE}\t")) == (SUMMARY, f"{PROSE} {MORE}")


def test_markup_becomes_plain():
    body = f"See :func:`~statistics.mean` and ``x`` or :py:class:`the class <a.B>`. {PROSE}"
    assert pair_of_docstring(docstring(body)) == (SUMMARY, f"See `statistics.mean` and `x` or `the class`. {PROSE}")


def test_prose_that_breaks_off_is_cut_at_the_last_sentence():
    assert pair_of_docstring(docstring(f"{PROSE} For example this is")) == (SUMMARY, PROSE)


def test_long_prose_is_cut_at_a_sentence():
    pair = pair_of_docstring(docstring(" ".join([PROSE] * 20)))
    assert pair
    assert len(pair[1]) <= 1_200
    assert pair[1].endswith((" is taken.", "one of them."))


@pytest.mark.parametrize(
    "text",
    [
        "", SUMMARY, docstring("Too short."), docstring(PROSE.replace(".", ",")), docstring(summary="Return it."),
        docstring(summary="To be or not to be."), docstring(summary="word " * 60),
        docstring(summary="Parameters\nx : a"), docstring(summary=">>> median of the numbers in x"),
        docstring("x" * 500 + "."),
        f"{SUMMARY}\n{PROSE}",
    ],
    ids=["empty", "no body", "short", "no end", "short query", "no content word", "long query", "section",
         "doctest", "one word", "no blank line"],
)  # fmt: skip
def test_docstring_without_a_pair(text):
    assert pair_of_docstring(text) is None


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Two folders that stand for the standard library and site-packages; writes modules into them."""
    places = {"stdlib": tmp_path / "lib", "purelib": tmp_path / "site", "platlib": tmp_path / "site"}
    for place in places.values():
        place.mkdir(exist_ok=True)
    monkeypatch.setattr(sysconfig, "get_path", lambda name, *more: str(places[name]))

    def install(name: str, content: str | bytes, place: str = "purelib"):
        path = places[place] / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return install


def module(summary=SUMMARY, body=PROSE, code=""):
    return f'"""{summary}\n\n{body}\n"""\n{code}'


def queries(*packages):
    return sorted(pair.query for pair in read_python_docs(packages))


def test_modules_are_read_and_never_run(installed, tmp_path):
    written = tmp_path / "written"
    installed("harmful/__init__.py", module(code=f"open({str(written)!r}, 'w').close()\nraise SystemExit('was run')"))
    installed("harmful/more.py", module(SUMMARY.replace("median", "mean"), code="import harmful_too; 1 / 0"))
    before = set(sys.modules)
    pairs = list(read_python_docs())
    assert {pair.query for pair in pairs} == {SUMMARY, SUMMARY.replace("median", "mean")}
    assert {pair.group for pair in pairs} == {"harmful"}
    assert not written.exists()
    assert not {name for name in set(sys.modules) - before if name.startswith("harmful")}


def test_classes_methods_and_functions_are_read_and_inner_functions_are_not(installed):
    def body(i, indent):
        return f'{indent}"""{SUMMARY[:-1]} {i}.\n\n{indent}{PROSE}\n{indent}"""\n'

    code = (
        f"class A:\n{body(1, '    ')}    def f(self):\n{body(2, ' ' * 8)}        def g():\n{body(3, ' ' * 12)}\n"
        f"async def h():\n{body(4, '    ')}\nif True:\n    def k():\n{body(5, ' ' * 8)}\nx = 1\n"
    )
    installed("one.py", code)
    assert [query[-2] for query in queries()] == ["1", "2", "4", "5"]


def test_group_is_the_top_level_package(installed):
    installed("a/b/c.py", module())
    installed("d.py", module(SUMMARY.replace("median", "mean")))
    installed("e.py", module(SUMMARY.replace("median", "mode")), "stdlib")
    assert sorted(pair.group for pair in read_python_docs()) == ["a", "d", "e"]


def test_named_packages_only_but_always_the_standard_library(installed):
    installed("a/x.py", module("What a says on its numbers."))
    installed("b.py", module("What b says on its numbers."))
    installed("c.py", module("What c says on its numbers."), "stdlib")
    assert queries("a") == ["What a says on its numbers.", "What c says on its numbers."]


def test_package_that_is_not_installed_is_told(installed):
    installed("a/x.py", module())
    with pytest.raises(InputError, match=r"source.packages: got numpi, pandaz; wanted an installed package"):
        queries("a", "pandaz", "numpi")


def test_tests_and_vendored_packages_are_passed_over(installed):
    for name in ("a/tests/test_a.py", "a/_vendor/b.py", "tests/c.py", "a/test/d.py"):
        installed(name, module())
    installed("site-packages/e.py", module(), "stdlib")
    assert queries() == []


@pytest.mark.parametrize(
    "content",
    [
        b"def (", b"\xff\xfe\x00", module().encode("latin-1").replace(b"median", b"m\xe9dian"), b"\x00",
        b"(" * 100_000, b"x = " + b"9" * 10_000, b"x = '" + b"a" * 3_000_000 + b"'", b"",
    ],
    ids=["syntax", "not UTF-8", "latin-1", "zero byte", "nested", "long number", "too large", "empty"],
)  # fmt: skip
def test_files_that_cannot_be_read_are_passed_over(installed, content):
    installed("bad.py", content)
    installed("good.py", module())
    assert queries() == [SUMMARY]


def test_unusual_entries_are_passed_over(installed, tmp_path):
    good = installed("good.py", module())
    (tmp_path / "site" / "folder.py").mkdir()
    (tmp_path / "site" / "link.py").symlink_to(good)
    (tmp_path / "site" / "broken.py").symlink_to(tmp_path / "nowhere.py")
    (tmp_path / "site" / "data.txt").write_text("x")
    assert queries() == [SUMMARY]


def test_folder_that_is_not_there_is_passed_over(installed, tmp_path):
    installed("good.py", module(), "stdlib")
    (tmp_path / "site").rmdir()
    assert queries() == [SUMMARY]


def test_old_escapes_in_other_people_s_code_raise_no_warning(installed):
    installed("old.py", module(code="pattern = '\\d+'\n"))
    assert queries() == [SUMMARY]


def test_docstring_with_a_lone_surrogate_makes_no_pair(installed):
    installed("odd.py", module(SUMMARY.replace("median", "\\ud800")))
    assert all(query.encode() for query in queries())


@pytest.mark.slow
def test_real_standard_library_gives_hundreds_of_pairs(monkeypatch, tmp_path):
    real = sysconfig.get_path("stdlib")
    monkeypatch.setattr(sysconfig, "get_path", lambda name: real if name == "stdlib" else str(tmp_path))
    wanted = {"argparse", "statistics", "random", "logging", "asyncio", "pathlib", "heapq", "tarfile", "decimal"}
    all_files = python_docs._files
    monkeypatch.setattr(python_docs, "_files", lambda packages: [f for f in all_files(packages) if f[0] in wanted])
    pairs = list(read_python_docs())
    assert len(pairs) > 50
    assert all(len(p.positive) >= MIN_CHARS and len(words(p.positive)) >= MIN_WORDS for p in pairs)
    assert {p.group for p in pairs} <= wanted


def test_a_new_version_of_a_package_is_another_corpus(monkeypatch):
    class Found:
        def __init__(self, version: str) -> None:
            self.metadata, self.version = {"Name": "numbers"}, version

    names = {}
    for version in ("1.0", "1.1"):
        monkeypatch.setattr(python_docs, "distributions", lambda version=version: [Found(version)])
        names[version] = python_docs.installed_versions()
    assert names["1.0"] != names["1.1"]
