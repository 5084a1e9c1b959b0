"""``finegrade export --data``: whole samples that belong together, as other tools read them, and their data card."""

import json
import sys
from functools import partial

import pyarrow.parquet as pq
import pytest
from datasets import load_dataset

from finegrade.cli import main
from finegrade.config.toml import parse_config
from finegrade.errors import InputError
from finegrade.export.data import EXCHANGE, FLAG_EMBEDDING, FLAT, TRIPLETS, export_data
from finegrade.records import IN_BENCHMARK, LeftOut, Negative, Sample
from finegrade.stages.pipeline import call_stage
from finegrade.storage.run_folder import LEFT_OUT, SAMPLES, VERIFIED, RunFolder
from finegrade.storage.tables import part_paths, read_rows, write_rows
from helpers.fake_llm import FakeLLM
from helpers.fake_openai import made_up

HOSTILE = 'A "text"\twith <b>, \x1b[31m, \u2028 | and \U0001f600 in it.'


def negative(level, text=None, source="llm"):
    return Negative(text=text or f"Negative {level}.", level=level, source=source)


def sample(number, levels, **more):
    negatives = tuple(map(negative, levels))
    values = {"id": str(number), "query": f"Query {number}?", "positive": f"Positive {number}.", "group": "g"}
    return Sample(**(values | {"negatives": negatives} | more))


SAMPLES_MADE = [
    sample(0, [1, 2, 3]),
    sample(1, [1, 3], kind="sts", instruction="Find the same"),
    sample(2, []),
    sample(3, [1, 2, 4]),  # as many as there are levels, and not these
    sample(4, [1, 2, 3], positive=HOSTILE, kind="short-long", instruction="Find it"),
]
DETAILS = {
    "model": "some|model\x1b[31m", "mode": "one-call", "levels": 3, "orders": 5, "samples": 5, "negatives": {},
    "prompts": {"sample": "Write <it>."}, "set_aside": {"llm: no words": 2}, "probe": {"a": 0.7, "b": None},
    "usage": {"requests": 9, "replies": 9, "prompt_tokens": 1000, "completion_tokens": 200, "seconds": 3, "cost": 0},
}  # fmt: skip


def finish(run, name, path, samples, after=(), details=DETAILS, **settings):
    with run.stage(name, settings, after) as stage:
        if not stage.done:
            write_rows(run.path(path), samples, Sample)
            stage.finish([run.path(path)], details)


synthesized = partial(finish, name="synthesize", path=f"{SAMPLES}/part-000000.parquet")
VERIFICATION = {
    "decisions": {"kept": 7, "promoted": 2}, "left_out": {f"{IN_BENCHMARK} some|set\x1b[31m": 1},
    "benchmarks": {"some|set": {"query": 1_300, "document": 2}},
}  # fmt: skip
LEAK = LeftOut(
    sample="9", query="q", positive="p", reason=f"{IN_BENCHMARK} some|set", evidence=f"its query is {HOSTILE}"
)


def verified(run, samples):
    write_rows(run.path(LEFT_OUT), [LEAK], LeftOut)
    finish(run, "verify", VERIFIED, samples, after=["synthesize"], details=VERIFICATION)


@pytest.fixture
def run(tmp_path):
    run = RunFolder(tmp_path / "run")
    synthesized(run, samples=SAMPLES_MADE)
    return run


def rows(path):
    kind = "json" if path.suffix == ".jsonl" else "parquet"
    return load_dataset(kind, data_files=str(path), split="train", cache_dir=str(path.parent / "cache"))


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


@pytest.fixture
def exported(run):
    export_data(run.root, None)
    return run.root / "data"


def test_flat_has_a_column_a_level_and_takes_no_gaps(exported):
    flat = rows(exported / FLAT)
    assert flat.column_names == ["anchor", "positive", "negative_1", "negative_2", "negative_3"]
    assert flat["anchor"][:] == ["Query 0?", "Query 4?"]
    assert flat["positive"][:] == ["Positive 0.", HOSTILE]
    assert [flat[f"negative_{level}"][0] for level in (1, 2, 3)] == ["Negative 1.", "Negative 2.", "Negative 3."]


def test_triplets_have_a_row_a_negative_easiest_first(exported):
    triplets = rows(exported / TRIPLETS)
    assert triplets.column_names == ["anchor", "positive", "negative"]
    wanted = [(one.query, one.positive, own.text) for one in SAMPLES_MADE for own in one.negatives]
    assert [tuple(row.values()) for row in triplets] == wanted


def test_flag_embedding_has_the_hardest_first_and_no_sample_without_negatives(exported):
    found = lines(exported / FLAG_EMBEDDING)
    assert [row["query"] for row in found] == ["Query 0?", "Query 1?", "Query 3?", "Query 4?"]
    assert found[0] == {
        "query": "Query 0?", "pos": ["Positive 0."], "neg": ["Negative 3.", "Negative 2.", "Negative 1."],
    }  # fmt: skip
    assert found[1]["prompt"] == "Find the same"
    assert len(rows(exported / FLAG_EMBEDDING)) == 4


def test_the_exchange_format_has_all_that_is_known(exported):
    assert [Sample(**row) for row in lines(exported / EXCHANGE)] == SAMPLES_MADE


def test_the_card_counts_and_escapes(exported):
    card = (exported / "README.md").read_text(encoding="utf-8")
    for part in (
        "negatives NOT verified", "| flat.parquet | 2 |", "| flagembedding.jsonl | 4 |", "| samples.jsonl | 5 |",
        "| triplets.parquet | 11 |", "| 3 | llm | 3 |", "| sts | 1 |", "| pairs of the source | 3 |",
        "| synthesize | 9 | 1,000 | 200 | no prices named |", "| llm: no words | 2 |", "| a | 0.7 |",
        "**sample**: Write \\<it\\>.", "some\\|model", "What the run tests with is not in it",
    ):  # fmt: skip
        assert part in card
    assert "\x1b" not in card
    assert HOSTILE not in card
    assert card.startswith("---\n")


def test_a_card_of_samples_that_no_llm_wrote_names_none(tmp_path, monkeypatch):
    monkeypatch.setitem(DETAILS, "orders", 0)
    run = RunFolder(tmp_path / "mined")
    synthesized(run, samples=[sample(0, [1, 2, 3])])
    export_data(run.root, tmp_path / "out")
    card = (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    assert "no LLM wrote any of them" in card
    assert "some\\|model" not in card


def test_a_card_names_what_was_paid(run, monkeypatch):
    monkeypatch.setitem(DETAILS["usage"], "cost", 1.25)
    synthesized(run, samples=SAMPLES_MADE, a=2)
    export_data(run.root, None)
    assert "| 200 | 1.25 |" in run.path("data", "README.md").read_text(encoding="utf-8")


def test_verified_samples_go_before_unverified_ones(run):
    verified(run, samples=SAMPLES_MADE[:1])
    export_data(run.root, None)
    assert len(lines(run.path("data", EXCHANGE))) == 1
    assert "negatives verified" in run.path("data", "README.md").read_text(encoding="utf-8")


def test_the_card_shows_what_was_left_out_and_why(run):
    verified(run, SAMPLES_MADE[:1])
    export_data(run.root, None)
    card = (run.root / "data" / "README.md").read_text(encoding="utf-8")
    assert "| promoted | 2 |" in card
    assert "| in benchmark some\\|set" in card
    assert "\x1b" not in card
    assert "- in benchmark some\\|set: its query is" in card
    assert "| some\\|set | query | 1,300 |" in card
    assert HOSTILE not in card


def test_samples_that_were_verified_before_they_were_made_again_are_not_taken(run):
    verified(run, samples=SAMPLES_MADE[:1])
    synthesized(run, samples=SAMPLES_MADE[1:], a=2)
    with pytest.raises(InputError, match=r"verify: got one that was made from another result of synthesize.*"
                       "Run `finegrade verify` first"):  # fmt: skip
        export_data(run.root, None)
    assert not run.path("data").exists()


def test_what_a_kill_left_half_made_is_not_taken(run):
    with pytest.raises(KeyboardInterrupt), run.stage("synthesize", {"a": 2}):
        write_rows(part_paths(run.path(SAMPLES))[0], SAMPLES_MADE[:1], Sample)
        raise KeyboardInterrupt
    with pytest.raises(InputError, match=r"synthesize: got one that lacks files.*Run `finegrade synthesize` first"):
        export_data(run.root, None)


def test_nothing_is_taken_while_a_stage_is_at_work(run):
    with run.locked(), pytest.raises(InputError, match="another finegrade at work"):
        export_data(run.root, None)


def test_without_a_run_nothing_is_made(tmp_path):
    with pytest.raises(InputError, match="Run `finegrade synthesize` first"):
        export_data(tmp_path / "none", None)
    assert not (tmp_path / "none").exists()


def test_no_samples_are_empty_files(tmp_path):
    run = RunFolder(tmp_path / "run")
    synthesized(run, samples=[])
    export_data(run.root, None)
    assert pq.read_table(run.path("data", FLAT)).num_rows == 0
    assert lines(run.path("data", EXCHANGE)) == []


@pytest.mark.slow
def test_a_run_of_tasks_from_the_command_line(tmp_path, fake_llm, no_retries, monkeypatch, capsys):
    """What tests is not exported; the card has the prompts of both stages."""
    fake_llm.answer = lambda body: FakeLLM.reply(json.dumps(made_up(body)))
    data = {
        "source": {"kind": "tasks"}, "llm": {"base_url": fake_llm.base_url, "model": "m"},
        "synthesis": {"llm_samples": 20, "levels": 3}, "tasks": {"number": 10, "per_request": 5},
    }  # fmt: skip
    run = RunFolder(tmp_path / "run")
    settings = parse_config(data, "test")
    for stage in ("tasks", "synthesize"):
        call_stage(stage, settings, run)
    monkeypatch.setattr(sys, "argv", ["finegrade", "export", "--data", "--run", str(run.root)])
    with pytest.raises(SystemExit, match="0"):
        main.main()
    assert "unverified samples" in capsys.readouterr().err
    trained = read_rows(run.path(SAMPLES), Sample)
    assert [row["id"] for row in lines(run.path("data", EXCHANGE))] == [one.id for one in trained]
    card = run.path("data", "README.md").read_text(encoding="utf-8")
    for prompt in ("tasks", "pair", "sample", "level 3"):
        assert f"**{prompt}**: " in card
