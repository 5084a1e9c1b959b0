"""`finegrade verify --input`: others' data goes in, and comes out in the same format, verified and graded."""

import json
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from finegrade.cli import main
from finegrade.config_file import plain_config
from finegrade.errors import InputError
from finegrade.given_data import default_output, default_run, verify_given
from finegrade.records import Verdict
from finegrade.row_files import read_rows
from finegrade.store import VERDICTS, RunFolder
from test_verification import Words

ROWS = [(f"query {i}", f"answer {i}", [f"far {i} text", f"near {i} text"]) for i in range(10)]


@pytest.fixture(autouse=True)
def scorers(monkeypatch):
    """Name -> the scorer that is loaded for it."""
    loaded = {}
    monkeypatch.setattr("finegrade.panel.load_scorer", lambda name, length: loaded.setdefault(name, Words()))
    return loaded


def command(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["finegrade", "verify", *map(str, arguments)])
    try:
        main()
    except SystemExit as end:
        return end.code
    return 0


def flag_embedding(path, rows):
    path.write_text("".join(json.dumps({"query": q, "pos": [p], "neg": n}) + "\n" for q, p, n in rows))
    return path


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_triplets_in_parquet_come_back_as_triplets(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    triplets = [(q, p, n) for q, p, negatives in ROWS for n in negatives] + [("query 3", "answer 3", "same 3 text")]
    columns = dict(zip(("anchor", "positive", "negative"), map(list, zip(*triplets, strict=True)), strict=True))
    pq.write_table(pa.table(columns), tmp_path / "triplets.parquet")
    assert command(monkeypatch, "--input", "triplets.parquet") == 0
    found = pq.read_table("triplets.verified.parquet").to_pydict()
    assert list(zip(*found.values(), strict=True)) == triplets[:-1]
    levels = [row["levels"] for row in lines(Path("triplets.verified.levels.jsonl"))]
    assert levels == [[1], [3]] * len(ROWS)  # far: 0.1 of the way to a positive, near: 0.5
    pairs = pq.read_table("triplets.verified.0.parquet").to_pydict()
    assert pairs == {"anchor": ["query 3"], "positive": ["answer 3"]}
    told = capsys.readouterr().err
    assert "of 21 negatives 20 kept, 1 dropped" in told
    assert "runs/verify-triplets" in told


def test_flag_embedding_comes_back_hardest_first_with_levels(tmp_path):
    path = flag_embedding(
        tmp_path / "data.jsonl", [*ROWS, ("query 20", "answer 20", ["same 20 text", "better 20 text"])]
    )
    verify_given(path, tmp_path / "out.jsonl", plain_config(), RunFolder(tmp_path / "run"))
    found = lines(tmp_path / "out.jsonl")
    assert [(row["query"], row["pos"], row["neg"]) for row in found] == [(q, [p], n[::-1]) for q, p, n in ROWS]
    assert found[0]["neg_levels"] == [3, 1]
    (left,) = lines(tmp_path / "out.0.jsonl")
    assert left["pos"] == ["answer 20", "better 20 text"]  # promoted


def test_a_negative_goes_that_one_of_several_positives_makes_false(tmp_path):
    path = tmp_path / "data.jsonl"
    flag_embedding(path, ROWS)
    row = {
        "query": "query 30",
        "pos": ["answer 30", "nearer 30"],
        "neg": ["near 30 text", "far 30 text", "same 30 text"],
    }
    weak = {"query": "query 31", "pos": ["answer 31", "weak 31"], "neg": ["near 31 text"]}
    with path.open("a") as file:
        file.write(json.dumps(row) + "\n" + json.dumps(weak) + "\n")
    settings = ["verification.margin=0.15", "verification.promote=false"]
    verify_given(path, tmp_path / "out.jsonl", plain_config(settings), RunFolder(tmp_path / "run"))
    found = {row["query"]: row for row in lines(tmp_path / "out.jsonl")}
    assert found["query 30"]["neg"] == ["far 30 text"]  # near: 0.5, of which 0.6 is not 0.15 away
    assert found["query 31"]["pos"] == ["answer 31"]
    assert found["query 31"]["neg"] == ["near 31 text"]


def test_a_row_whose_positives_are_all_weak_is_left_out(tmp_path):
    path = flag_embedding(tmp_path / "data.jsonl", [*ROWS, ("query 40", "weak 40", ["far 40 text"])])
    verify_given(path, tmp_path / "out.jsonl", plain_config(), RunFolder(tmp_path / "run"))
    assert "query 40" not in {row["query"] for row in lines(tmp_path / "out.jsonl")}


def test_the_same_command_again_scores_nothing_and_writes_the_same(tmp_path, scorers):
    path = flag_embedding(tmp_path / "data.jsonl", ROWS)
    outputs = []
    for margin in ("0.05", "0.05", "0.6"):
        scorers.clear()
        settings = [f"verification.margin={margin}"]
        verify_given(path, tmp_path / "out.jsonl", plain_config(settings), RunFolder(tmp_path / "run"))
        outputs.append((tmp_path / "out.jsonl").read_bytes())
        asked = sum(len(scorer.asked) for scorer in scorers.values())
        assert (asked > 0) == (len(outputs) == 1)
    assert outputs[0] == outputs[1] != outputs[2]


def test_changed_data_is_verified_anew(tmp_path):
    path = flag_embedding(tmp_path / "data.jsonl", ROWS)
    run = RunFolder(tmp_path / "run")
    verify_given(path, tmp_path / "out.jsonl", plain_config(), run)
    flag_embedding(path, [*ROWS, ("query 50", "answer 50", ["far 50 text"])])
    verify_given(path, tmp_path / "out.jsonl", plain_config(), run)
    assert lines(tmp_path / "out.jsonl")[-1]["query"] == "query 50"
    assert len(read_rows(run.path(VERDICTS), Verdict)) == 21


def test_verdicts_of_given_negatives_have_no_level_before(tmp_path):
    path = flag_embedding(tmp_path / "data.jsonl", ROWS)
    run = RunFolder(tmp_path / "run")
    verify_given(path, tmp_path / "out.jsonl", plain_config(), run)
    assert {(v.level_before, v.source) for v in read_rows(run.path(VERDICTS), Verdict)} == {(None, "given")}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--input", "gone.parquet"], "gone.parquet: got no such file"),
        (["--input", "data.jsonl", "--output", "data.jsonl"], "got the input itself"),
        (["--input", "data.jsonl", "--output", "data.csv"], "wanted .jsonl, as the input is"),
        (["--output", "data.csv"], "wanted --input beside it"),
        (["--input", "data.jsonl", "--config", "gone.toml"], "gone.toml"),
        (["--input", "data.jsonl", "--set", "verification.margin=-1"], "verification.margin: got -1"),
    ],
)
def test_bad_input_is_one_line(tmp_path, monkeypatch, capsys, arguments, told):
    monkeypatch.chdir(tmp_path)
    before = flag_embedding(tmp_path / "data.jsonl", ROWS).read_bytes()
    assert command(monkeypatch, *arguments) == 2
    last = capsys.readouterr().err.strip().splitlines()[-1]
    assert told in last
    assert (tmp_path / "data.jsonl").read_bytes() == before


def test_the_configuration_beside_the_data_counts(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    flag_embedding(tmp_path / "data.jsonl", ROWS)
    (tmp_path / "finegrade.toml").write_text('[source]\nkind = "python-docs"\n[verification]\nmargin = 0.6\n')
    assert command(monkeypatch, "--input", "data.jsonl") == 0
    assert all(row["neg"] == [f"far {i} text"] for i, row in enumerate(lines(tmp_path / "data.verified.jsonl")))


def test_names_of_results_and_run_folders(tmp_path):
    (tmp_path / "corpus.jsonl").touch()
    assert default_output(tmp_path / "run.trec") == tmp_path.with_name(f"{tmp_path.name}-verified")
    assert default_output(Path("a/b.csv")) == Path("a/b.verified.csv")
    assert default_run(Path("a/b.csv")) == Path("runs/verify-b")


def test_data_that_is_none_leaves_no_run_folder(tmp_path):
    (tmp_path / "x.parquet").write_bytes(b"no parquet")
    with pytest.raises(InputError):
        verify_given(tmp_path / "x.parquet", tmp_path / "y.parquet", plain_config(), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()
