"""Pairs from JSONL: good rows, and the one line for each bad one."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finegrade.data.pairs import Pair, read_pairs
from finegrade.data.readers.text_files import MAX_ROW_BYTES
from finegrade.errors import InputError

GOOD = b'{"query": "How?", "positive": "So."}\n'


def read(tmp_path, content: bytes) -> list[Pair]:
    path = tmp_path / "pairs.jsonl"
    path.write_bytes(content)
    return list(read_pairs(path))


def test_query_positive_and_group_are_read(tmp_path):
    content = GOOD + b'{"query": "Why?", "positive": "Because.", "group": "a", "more": 1}\n'
    assert read(tmp_path, content) == [
        Pair(query="How?", positive="So.", group="How?"),
        Pair(query="Why?", positive="Because.", group="a"),
    ]


@pytest.mark.parametrize("group", [7, "7"])
def test_group_may_be_a_number(tmp_path, group):
    row = {"query": "q", "positive": "p", "group": group}
    assert read(tmp_path, json.dumps(row).encode())[0].group == "7"


def test_white_space_is_folded_and_blank_lines_are_passed_over(tmp_path):
    content = b'\n  \n{"query": " How\\n so? ", "positive": "So\\t it is."}\r\n\n' + GOOD.rstrip()
    assert [(p.query, p.positive) for p in read(tmp_path, content)] == [("How so?", "So it is."), ("How?", "So.")]


def test_byte_order_mark_is_taken(tmp_path):
    assert len(read(tmp_path, b"\xef\xbb\xbf" + GOOD)) == 1


BAD_ROWS = [
    (b'{"query": "a"}', '"positive": got no such field; wanted a text'),
    (b'{"positive": "a"}', '"query": got no such field; wanted a text'),
    (b'{"query": "", "positive": "a"}', "\"query\": got str ''; wanted a text"),
    (b'{"query": "  ", "positive": "a"}', "\"query\": got str ' '; wanted a text"),
    (b'{"query": null, "positive": "a"}', '"query": got NoneType None; wanted a text'),
    (b'{"query": 3, "positive": "a"}', '"query": got int 3; wanted a text'),
    (b'{"query": ["a"], "positive": "a"}', "\"query\": got list ['a']; wanted a text"),
    (b'{"query": "a", "positive": {}}', '"positive": got dict {}; wanted a text'),
    (b'{"query": "\\ud800", "positive": "a"}', '"query": got a lone surrogate; wanted a text'),
    (b'["a", "b"]', "got no JSON object; wanted a JSON object"),
    (b'"a"', "got no JSON object; wanted"),
    (b"null", "got no JSON object;"),
    (b"query,positive", "got no JSON; wanted a JSON object"),
    (b'{"query": "a", "positive": ', "got no JSON; wanted a JSON object"),
    (b"\x00\x01", "got no JSON; wanted a JSON object"),
    (b"[" * 100_000, "got no JSON; wanted a JSON object"),
    (b'{"query": ' + b"9" * 5_000 + b"}", "got no JSON; wanted a JSON object"),
    (b'{"query": "\xfcber", "positive": "a"}', "got byte 0xfc, which is not UTF-8"),
    (b'{"query": "a' + b"x" * MAX_ROW_BYTES, "got row of more than 4,000,000 bytes"),
]


@pytest.mark.parametrize(("row", "told"), BAD_ROWS, ids=[told[:45] for _, told in BAD_ROWS])
def test_bad_row_is_told_with_file_and_line(tmp_path, row, told):
    with pytest.raises(InputError) as error:
        read(tmp_path, GOOD + b"\n" + GOOD + row + b"\n")
    line = str(error.value)
    assert line.startswith(f"{tmp_path / 'pairs.jsonl'}, line 4: ")
    assert told in line
    assert error.value.remedy in line
    assert error.value.remedy
    assert "\n" not in line
    assert len(line) < 700


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_empty_file(tmp_path, content):
    with pytest.raises(InputError, match=r"pairs\.jsonl: got an empty file; wanted a JSONL file of pairs"):
        read(tmp_path, content)


def test_missing_file_and_folder(tmp_path):
    for path in (tmp_path / "none.jsonl", tmp_path):
        with pytest.raises(InputError, match="wanted a JSONL file") as error:
            list(read_pairs(path))
        assert str(path) in str(error.value)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(content=st.binary(max_size=80))
def test_any_bytes_give_pairs_or_one_line(tmp_path, content):
    try:
        assert read(tmp_path, content)
    except InputError as error:
        assert "\n" not in str(error)


texts = st.text(st.characters(exclude_categories=("C", "Z")) | st.just(" "), max_size=29).map(lambda text: f"{text}x")


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(rows=st.lists(st.tuples(texts, texts, texts), min_size=1, max_size=5), escaped=st.booleans())
def test_what_json_writes_is_read_back(tmp_path, rows, escaped):
    lines = [json.dumps({"query": q, "positive": p, "group": g}, ensure_ascii=escaped) for q, p, g in rows]
    found = read(tmp_path, "\n".join(lines).encode())
    fold = [tuple(" ".join(text.split()) for text in row) for row in rows]
    assert [(pair.query, pair.positive, pair.group) for pair in found] == fold
