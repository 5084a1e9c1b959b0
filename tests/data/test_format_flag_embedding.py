"""FlagEmbedding's JSONL: lists that stay in step, keys that stay, and rows that FlagEmbedding can train on."""

import json
import random
from pathlib import Path

import pytest
from datasets import load_dataset
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.data.formats import open_external
from finegrade.data.formats.base import ExternalRow, VerifiedRow
from finegrade.data.formats.flag_embedding import FlagEmbedding
from finegrade.errors import InputError
from finegrade.export import data as data_export
from finegrade.records import Negative, Sample
from helpers.external_data import TEXTS, all_kept, drawn, left, lines, verified, write_table

ROW = {
    "query": "q", "pos": ["p1", "p2"], "neg": ["n1", "n2", "n3"],
    "pos_scores": [0.9, 0.8], "neg_scores": [0.1, 0.2, 0.3], "neg_ids": ["a", "b", "c"], "pos_tags": [],
    "prompt": "Find it", "type": "normal", "more": {"x": [1]},
}  # fmt: skip


def opened(folder: Path, *rows: dict) -> FlagEmbedding:
    data = open_external(write_table(folder / "a.jsonl", list(rows)))
    assert isinstance(data, FlagEmbedding)
    return data


def test_rows_are_read(tmp_path):
    assert list(opened(tmp_path, ROW).rows()) == [ExternalRow("q", ("p1", "p2"), ("n1", "n2", "n3"))]


def test_what_is_left_is_written_hardest_first_and_everything_in_step(tmp_path):
    data = opened(tmp_path, ROW)
    (file,) = data.write([VerifiedRow(((2, 1), (0, 3)), (1,), (1,))], tmp_path / "out.jsonl")
    assert lines(file) == [ROW | {
        "pos": ["p2", "n2"], "neg": ["n1", "n3"], "pos_scores": [0.8, 0.2], "neg_scores": [0.1, 0.3],
        "neg_ids": ["a", "c"], "neg_levels": [3, 1],
    }]  # fmt: skip
    assert list(lines(file)[0]) == [*ROW, "neg_levels"]


def test_rows_without_negatives_go_to_a_file_of_their_own(tmp_path):
    """FlagEmbedding divides by their number."""
    data = opened(tmp_path, ROW, ROW, ROW)
    decided = [all_kept(next(data.rows())), VerifiedRow((), (0, 1, 2), (0, 1)), VerifiedRow(((0, 1),), (), ())]
    whole, none = data.write(decided, tmp_path / "out.jsonl")
    assert (whole.name, none.name) == ("out.jsonl", "out.0.jsonl")
    assert len(lines(whole)) == 1
    (row,) = lines(none)
    assert (row["pos"], row["neg"], row["neg_scores"]) == (["p1", "p2", "n1", "n2", "n3"], [], [])
    assert row["pos_scores"] == [0.9, 0.8, 0.1, 0.2, 0.3]


@pytest.mark.parametrize("beside", [{}, {"neg_scores": []}, {"neg_scores": None}, {"neg_scores": 0.5}])
def test_no_text_gets_beside_the_positives_without_its_score(tmp_path, beside):
    """A gap among the scores ends the training by distillation."""
    row = {"query": "q", "pos": ["p"], "neg": ["a", "b"], "pos_scores": [1.0]} | beside
    data = opened(tmp_path, row)
    for _ in range(2):
        (file,) = data.write([VerifiedRow(((1, 2),), (0,), (0,))], tmp_path / "out.jsonl")
        assert lines(file) == [row | {"neg": ["b"], "neg_levels": [2]}]
        assert data.not_written == {"a negative that answers: no label of it is known": 1}


def test_only_the_files_of_the_result_are_touched(tmp_path):
    (tmp_path / "out.0.jsonl").write_text("mine")
    data = opened(tmp_path, ROW)
    data.write(verified(data, all_kept), tmp_path / "out.jsonl")
    assert (tmp_path / "out.0.jsonl").read_text() == "mine"


def test_what_was_graded_before_is_graded_anew(tmp_path):
    data = opened(tmp_path, {"query": "q", "pos": ["p"], "neg": ["n1", "n2"], "neg_levels": [4, 1]})
    (file,) = data.write([VerifiedRow(((0, 2), (1, 3)), (), (0,))], tmp_path / "out.jsonl")
    assert lines(file) == [{"query": "q", "pos": ["p"], "neg": ["n2", "n1"], "neg_levels": [3, 2]}]


@pytest.mark.parametrize(("row", "reason"), [
    ({"query": None}, "query: empty"), ({"query": 3}, "query: int in place of a text"), ({"pos": []}, "pos: empty"),
    ({"pos": None}, "pos: empty"), ({"pos": "p"}, "pos: str in place of a list of texts"),
    ({"pos": [None, ""]}, "pos: empty"), ({"neg": [1]}, "neg: int in place of a text"),
    ({"neg": "n"}, "neg: str in place of a list of texts"), ({"neg": ["\ud800"]}, "neg: not Unicode"),
    ({"neg_scores": [0.5]}, "neg_scores: not one for each text"), ({"neg_scores": None}, None),
    ({"pos_scores": [1, 2, 3]}, "pos_scores: not one for each text"), ({"neg_scores": float("nan")}, None),
    ({"neg_levels": [1]}, "neg_levels: not one for each text"), ({"neg": []}, "neg_scores: not one for each text"),
    ({"more": "\ud800"}, None), ({"neg": ["n"] * 1_001}, "neg: more than 1,000 texts"),
    ({"pos": ["p"] * 101}, "pos: more than 100 texts"),
])  # fmt: skip
def test_hostile_rows(tmp_path, row, reason):
    data = opened(tmp_path, ROW, ROW | row, ROW)
    with (tmp_path / "a.jsonl").open("ab") as file:
        file.write(b'[]\n\xff\n{"query": "torn')
    assert len(list(data.rows())) == (2 if reason else 3)
    others = {"no JSON object": 1, "byte 0xff, which is not UTF-8": 1, "no JSON": 1}
    assert data.passed_over == others | ({reason: 1} if reason else {})
    (written,) = data.write(verified(data, all_kept), tmp_path / "b.jsonl")
    assert lines(written)[0]["neg"] == ["n3", "n2", "n1"]
    assert len(lines(written)) == (2 if reason else 3)


def test_one_row_that_is_none_does_not_make_it_another_format(tmp_path):
    data = opened(tmp_path, ROW | {"pos": "p"}, *[ROW] * 50)
    assert len(list(data.rows())) == 50
    assert data.passed_over == {"pos: str in place of a list of texts": 1}


def test_gaps_in_the_lists(tmp_path):
    data = opened(tmp_path, ROW | {"neg": ["n1", None, "n3"], "pos": ["", "p2"]})
    assert list(data.rows()) == [ExternalRow("q", ("p2",), ("n1", "n3"))]
    (file,) = data.write(verified(data, all_kept), tmp_path / "b.jsonl")
    (row,) = lines(file)
    assert (row["neg"], row["neg_scores"], row["pos"], row["pos_scores"]) == (["n3", "n1"], [0.3, 0.1], ["p2"], [0.8])


def test_a_row_without_negatives(tmp_path):
    data = opened(tmp_path, ROW, {"query": "r", "pos": ["p"]})
    assert list(data.rows())[1] == ExternalRow("r", ("p",), ())
    assert lines(data.write(verified(data, all_kept), tmp_path / "b.jsonl")[1]) == [
        {"query": "r", "pos": ["p"], "neg": [], "neg_levels": []},
    ]  # fmt: skip


@settings(max_examples=40, deadline=None)
@given(rows=st.lists(st.tuples(TEXTS, st.lists(TEXTS, min_size=1, max_size=3), st.lists(TEXTS, min_size=1, max_size=4)),
                     min_size=1, max_size=5))  # fmt: skip
def test_what_is_written_is_read_as_what_was_left(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("flag")
    data = opened(folder, *({"query": query, "pos": pos, "neg": neg} for query, pos, neg in rows))
    before = [ExternalRow(query, tuple(pos), tuple(neg)) for query, pos, neg in rows]
    assert list(data.rows()) == before
    for number, judge in enumerate((all_kept, drawn(random.Random(repr(rows))))):
        decided = verified(data, judge)
        data.write(decided, folder / f"{number}.jsonl")
        wanted = [row._replace(negatives=row.negatives[::-1]) for row in left(before, decided)]
        found = []
        for path in (folder / f"{number}.jsonl", folder / f"{number}.0.jsonl"):
            found += list(FlagEmbedding(path).rows()) if path.exists() else []
        assert sorted(found) == sorted(wanted)
        if judge is all_kept:
            assert found == wanted


def test_datasets_loads_what_is_written(tmp_path):
    """FlagEmbedding takes its rows from there, and draws among the texts of both lists."""
    rows = [ROW, ROW | {"neg": ["m"], "neg_scores": [0.5], "neg_ids": ["d"]}]
    data = opened(tmp_path, *rows)
    (file,) = data.write(verified(data, all_kept), tmp_path / "out.jsonl")
    loaded = load_dataset("json", data_files=str(file), split="train", cache_dir=str(tmp_path / "cache"))
    assert loaded["neg_levels"][:] == [[3, 2, 1], [1]]
    assert loaded["neg_scores"][:] == [[0.3, 0.2, 0.1], [0.5]]
    assert loaded["pos"][:] == [["p1", "p2"]] * 2
    assert loaded["neg"][:] == [["n3", "n2", "n1"], ["m"]]


def test_what_finegrade_exports_is_read(tmp_path):
    negatives = tuple(Negative(text=f"n{level}\u2028", level=level, source="llm") for level in (1, 2, 4))
    sample = Sample(id="1", query="q", positive="p", negatives=negatives, group="g", instruction="Find it")
    path = tmp_path / data_export.FLAG_EMBEDDING
    data_export._write_jsonl(path, map(data_export._for_flag_embedding, [sample, sample]))
    data = open_external(path)
    assert list(data.rows()) == [ExternalRow("q", ("p",), ("n4\u2028", "n2\u2028", "n1\u2028"))] * 2
    (file,) = data.write([VerifiedRow(((2, 1), (1, 2), (0, 4)), (), (0,))] * 2, tmp_path / "b.jsonl")
    assert "\u2028" not in file.read_text(encoding="utf-8")
    assert lines(file) == [line | {"neg_levels": [4, 2, 1]} for line in lines(path)]


def test_the_input_is_never_written_over(tmp_path):
    data = opened(tmp_path, ROW)
    for output, got in ((tmp_path / "a.jsonl", "the input itself"), (tmp_path / "b.json", r"got \.json")):
        with pytest.raises(InputError, match=got):
            data.write([], output)
    (tmp_path / "b.0.jsonl").write_text(json.dumps(ROW))
    with pytest.raises(InputError, match="the input itself"):
        open_external(tmp_path / "b.0.jsonl").check_output(tmp_path / "b.jsonl")
