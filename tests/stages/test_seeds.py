"""The seeds stage on a user's pairs."""

import json

import pytest

from finegrade.config import Config
from finegrade.config.toml import parse_config
from finegrade.errors import InputError
from finegrade.records import Seed
from finegrade.stages.pipeline import call_stage
from finegrade.storage.run_folder import TEST_SEEDS, TRAIN_SEEDS, RunFolder
from finegrade.storage.tables import read_rows


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run")


def config(path, seed=0, **source) -> Config:
    return parse_config({"seed": seed, "source": {"path": str(path), **source}}, "test")


def seeds(run):
    return read_rows(run.path(TRAIN_SEEDS), Seed), read_rows(run.path(TEST_SEEDS), Seed)


def test_train_and_test_seeds_are_written_and_counted(run, pairs_file, capsys):
    call_stage("seeds", config(pairs_file), run)
    train, test = seeds(run)
    details = run.record("seeds")["details"]
    assert len(train) == details["counts"]["train"] > 0
    assert len(test) == details["counts"]["test"] > 0
    assert not {s.group for s in train} & set(details["test_groups"])
    assert {s.group for s in test} <= set(details["test_groups"])
    message = capsys.readouterr().err
    assert details["corpus_hash"] in message
    assert "pairs 120" in message


def test_second_run_reads_nothing(run, pairs_file, monkeypatch, capsys):
    call_stage("seeds", config(pairs_file), run)
    monkeypatch.setattr("finegrade.stages.seeds.read_pairs", None)
    call_stage("seeds", config(pairs_file), run)
    assert "seeds: kept from" in capsys.readouterr().err


def test_edited_file_is_read_again(run, pairs_file):
    call_stage("seeds", config(pairs_file), run)
    before = run.record("seeds")["details"]
    row = {"query": "What is quite new here?", "positive": "Something that was not there.", "group": "fresh"}
    with pairs_file.open("a") as file:
        file.write(json.dumps(row) + "\n")
    call_stage("seeds", config(pairs_file), run)
    after = run.record("seeds")["details"]
    assert after["counts"]["pairs"] == before["counts"]["pairs"] + 1
    assert after["corpus_hash"] != before["corpus_hash"]


def test_settings_of_other_stages_change_nothing(run, pairs_file, monkeypatch):
    call_stage("seeds", config(pairs_file), run)
    monkeypatch.setattr("finegrade.stages.seeds.read_pairs", None)
    other = {"source": {"path": str(pairs_file)}, "training": {"learning_rate": 1.0}, "synthesis": {"llm_samples": 1}}
    before = run.record("seeds")
    call_stage("seeds", parse_config(other, "test"), run)
    assert run.record("seeds") == before


def test_queries_over_max_test_are_not_asked_but_stay_in_the_corpus(run, pairs_file):
    call_stage("seeds", config(pairs_file), run)
    _, everything = seeds(run)
    call_stage("seeds", config(pairs_file, max_test=3), run)
    _, test = seeds(run)
    assert [s.positives for s in test] == [s.positives for s in everything]
    assert sum(bool(s.query) for s in test) == 3
    assert run.record("seeds")["details"]["counts"]["test queries asked"] == 3


def test_same_seed_gives_the_same_files_and_another_gives_others(tmp_path, pairs_file):
    results = []
    for number, seed in enumerate((0, 0, 5)):
        run = RunFolder(tmp_path / f"run{number}")
        call_stage("seeds", config(pairs_file, seed), run)
        results.append(run.record("seeds")["outputs"])
    assert results[0] == results[1] != results[2]


def test_bad_row_leaves_the_earlier_seeds_in_place(run, pairs_file):
    call_stage("seeds", config(pairs_file), run)
    before = seeds(run)
    with pairs_file.open("a") as file:
        file.write('{"query": "no positive"}\n')
    with pytest.raises(InputError, match=r'line 121: "positive": got no such field'):
        call_stage("seeds", config(pairs_file), run)
    assert seeds(run) == before


@pytest.mark.parametrize("path", ["missing.jsonl", "."])
def test_file_that_cannot_be_read(run, tmp_path, path):
    with pytest.raises(InputError, match="wanted a JSONL file"):
        call_stage("seeds", config(tmp_path / path), run)


def test_rows_without_group_are_split_by_query(run, tmp_path):
    path = tmp_path / "plain.jsonl"
    rows = [{"query": f"question number {i}", "positive": f"answer {i} to it"} for i in range(20)]
    path.write_text("\n".join(map(json.dumps, rows)))
    call_stage("seeds", config(path), run)
    train, test = seeds(run)
    assert len(test) == 4
    assert len(train) == 16


def test_python_docs_are_read_again_when_what_is_installed_changes(run, monkeypatch, pairs_file):
    from finegrade.data.pairs import read_pairs
    from finegrade.stages import seeds as seeding

    reads = []
    monkeypatch.setattr(seeding, "read_python_docs", lambda packages: reads.append(packages) or read_pairs(pairs_file))
    docs = parse_config({"source": {"kind": "python-docs"}}, "test")
    for versions in ("a", "a", "b"):
        monkeypatch.setattr(seeding, "installed_versions", lambda versions=versions: versions)
        call_stage("seeds", docs, run)
    assert len(reads) == 2
