"""Samples of tasks, from the first request to the seeds: in parts, the same however often the work is broken off."""

import json
import shutil
from collections import Counter
from functools import partial

import pytest

from finegrade.config.toml import parse_config
from finegrade.errors import InputError
from finegrade.llm.session import AHEAD
from finegrade.records import KINDS, Sample, Seed, Task
from finegrade.stages import synthesize as synthesis
from finegrade.stages.pipeline import call_stage, synthesize
from finegrade.storage.run_folder import (
    DRAFTS,
    SAMPLES,
    SET_ASIDE,
    TASKS,
    TEST_SAMPLES,
    TEST_SEEDS,
    TRAIN_SEEDS,
    RunFolder,
)
from finegrade.storage.tables import about, part_path, part_paths, read_rows, write_rows
from finegrade.synthesis import drafts as drafting
from finegrade.synthesis.drafts import Drafts
from finegrade.synthesis.requests import orders_for_tasks
from finegrade.text import content_hash
from helpers.fake_llm import FakeLLM
from helpers.fake_openai import made_up

NUMBER, ROWS = 17, 3
PARTS = -(-NUMBER // ROWS)
MADE = [
    Task(id=content_hash(kind, str(i)), kind=kind, description=f"Given a {i}, find its {kind}.", instruction="Find it",
         side="test" if i == 2 else "train")
    for kind in KINDS for i in range(3)
]  # fmt: skip


def invented(body):
    return FakeLLM.reply(json.dumps(made_up(body)))


def made_config(llm, concurrency=1, **settings):
    data = {
        "source": {"kind": "tasks"},
        "llm": {"base_url": llm.base_url, "model": "m", "concurrency": concurrency},
        "synthesis": {"llm_samples": NUMBER, "shard_rows": ROWS, "levels": 3} | settings,
        "tasks": {"number": 10, "per_request": 5},
    }
    return parse_config(data, "test")


def made_run(folder):
    """A run folder whose tasks stage is done."""
    run = RunFolder(folder)
    with run.stage("tasks", {}) as stage:
        write_rows(run.path(TASKS), MADE, Task)
        stage.finish([run.path(TASKS)], {})
    return run


@pytest.fixture
def config(fake_llm, no_retries):
    fake_llm.answer = invented
    return partial(made_config, fake_llm)


@pytest.fixture
def new_run(tmp_path):
    return lambda name="run": made_run(tmp_path / name)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The outputs of a run that nothing broke off; what it asked."""
    llm, run = FakeLLM(), made_run(tmp_path_factory.mktemp("whole"))
    llm.answer = invented
    synthesize(made_config(llm), run)
    llm.close()
    return run.record("synthesize")["outputs"], [json.dumps(body) for body in llm.requests]


def test_an_llm_that_writes_nothing_of_use_is_asked_for_no_more(config, new_run, fake_llm, monkeypatch):
    monkeypatch.setattr(drafting, "USELESS_FROM_THE_START", 5)
    fake_llm.answer = lambda body: fake_llm.reply("Sure!")
    with pytest.raises(InputError, match="nothing of use in its first 5 samples, most often: not the JSON"):
        synthesize(config(), new_run())
    assert len(fake_llm.requests) <= 2 * (5 + AHEAD)  # so many are talked about at once


@pytest.mark.slow
def test_without_a_single_sample_the_stage_says_why(config, new_run, fake_llm):
    fake_llm.answer = lambda body: fake_llm.reply("Sure!")
    run = new_run()
    with pytest.raises(InputError, match="17 texts that were set aside, most often: llm: not the JSON"):
        synthesize(config(), run)
    asked = len(fake_llm.requests)
    with pytest.raises(InputError, match="wanted a sample to train on"):
        synthesize(config(), run)
    assert len(fake_llm.requests) == asked


def outputs(run):
    return run.record("synthesize")["outputs"]


def samples(run, name=SAMPLES):
    return read_rows(run.path(name), Sample)


@pytest.mark.slow
def test_tasks_samples_and_seeds_follow_each_other(config, fake_llm, tmp_path):
    run, settings = RunFolder(tmp_path / "run"), config()
    call_stage("tasks", settings, run)
    synthesize(settings, run)
    call_stage("seeds", settings, run)
    made = read_rows(run.path(TASKS), Task)
    sides = {task.id: task.side for task in made}
    train, test = samples(run), samples(run, TEST_SAMPLES)
    assert len(train) + len(test) == NUMBER
    assert {sides[sample.group] for sample in train} == {"train"}
    assert {sides[sample.group] for sample in test} == {"test"}
    assert all([n.level for n in sample.negatives] == [1, 2, 3] for sample in train)
    assert all(sample.negatives == () for sample in test)
    assert {sample.instruction for sample in train} <= {task.instruction for task in made}
    for name, of in ((TRAIN_SEEDS, train), (TEST_SEEDS, test)):
        seeds = [(seed.id, seed.query, seed.positives, seed.group) for seed in read_rows(run.path(name), Seed)]
        assert seeds == [(sample.id, sample.query, (sample.positive,), sample.group) for sample in of]
    details = run.record("synthesize")["details"]
    assert details["orders"] == NUMBER
    assert details["samples"] == len(train)
    assert sum(details["kinds"].values()) == len(train)
    assert details["usage"]["replies"] == NUMBER
    assert run.record("seeds")["details"]["test_queries"] == "tasks"
    assert not run.path(DRAFTS).exists()
    number = len(fake_llm.requests)
    for stage in ("tasks", "synthesize", "seeds"):
        call_stage(stage, settings, run)
    assert len(fake_llm.requests) == number


@pytest.mark.slow
def test_samples_lie_in_parts_and_are_named_by_their_content(config, new_run):
    run = new_run()
    synthesize(config(), run)
    parts = part_paths(run.path(SAMPLES))
    assert len(parts) > 3
    assert set(outputs(run)) == {str(path.relative_to(run.root)) for path in run.root.rglob("part-*")} | {SET_ASIDE}
    assert [len(read_rows(part, Sample)) for part in parts[:-1]] == [ROWS] * (len(parts) - 1)
    everything = samples(run) + samples(run, TEST_SAMPLES)
    assert [sample.id for sample in everything] == [content_hash(s.query, s.positive) for s in everything]
    assert len({sample.id for sample in everything}) == NUMBER


@pytest.mark.parametrize("mode", ["one-call", "stepwise"])
@pytest.mark.slow
def test_concurrency_changes_nothing(config, new_run, fake_llm, mode):
    made, asked = [], []
    for concurrency in (1, 16):
        run = new_run(f"run{concurrency}")
        synthesize(config(concurrency, mode=mode), run)
        made.append(outputs(run))
        asked.append(Counter(json.dumps(body) for body in fake_llm.requests))
        fake_llm.requests.clear()
        assert run.path(SET_ASIDE).read_text() == ""
    assert made[0] == made[1]
    assert asked[0] == asked[1]


@pytest.mark.slow
def test_a_second_run_also_with_other_parts_and_gates_reads_the_ledger_and_asks_nothing(
    config, new_run, fake_llm, whole
):
    run = new_run()
    synthesize(config(), run)
    before = samples(run)
    for settings in ({}, {"concurrency": 16}, {"shard_rows": 7, "min_changed": 3}):
        shutil.rmtree(run.path(SAMPLES))
        synthesize(config(**settings), run)
        assert len(fake_llm.requests) == NUMBER
        assert samples(run) == before
        assert (outputs(run) == whole[0]) == ("shard_rows" not in settings)


@pytest.mark.slow
def test_more_samples_keep_those_that_were_there(config, new_run, fake_llm):
    run = new_run()
    synthesize(config(llm_samples=8), run)
    before = {sample.id for name in (SAMPLES, TEST_SAMPLES) for sample in samples(run, name)}
    synthesize(config(), run)
    assert before < {sample.id for name in (SAMPLES, TEST_SAMPLES) for sample in samples(run, name)}
    assert len(fake_llm.requests) == len({json.dumps(body) for body in fake_llm.requests}) == NUMBER
    synthesize(config(llm_samples=8), run)  # parts of the larger run are gone
    assert {sample.id for name in (SAMPLES, TEST_SAMPLES) for sample in samples(run, name)} == before


# broken off


@pytest.fixture
def writes(monkeypatch):
    """Counts the parts of drafts that are finished; breaks the work off before or after one."""
    seen, breaks = [], {}
    write = Drafts.write

    def spy(self, part, written):
        if breaks.get("before") == part:
            raise KeyboardInterrupt
        write(self, part, written)
        seen.append(part)
        if breaks.get("after") == part:
            raise KeyboardInterrupt

    monkeypatch.setattr(Drafts, "write", spy)
    return seen, breaks


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("part", [0, 3, PARTS - 1])
@pytest.mark.slow
def test_finished_parts_are_not_made_again(config, new_run, fake_llm, whole, writes, when, part):
    seen, breaks = writes
    run = new_run()
    breaks[when] = part
    with pytest.raises(KeyboardInterrupt):
        synthesize(config(), run)
    assert seen == list(range(part + (when == "after")))
    assert not run.path(SAMPLES).exists()
    breaks.clear()
    done = list(seen)
    synthesize(config(), run)
    assert seen == list(range(PARTS))
    assert not set(done) & set(seen[len(done) :])
    assert outputs(run) == whole[0]
    asked = Counter(json.dumps(body) for body in fake_llm.requests)
    assert set(asked) == set(whole[1])
    assert sum(asked.values()) - len(asked) <= 4  # those under way


def broken_off_after_drafts(config, run, monkeypatch):
    """All drafts are there, and no sample."""
    with monkeypatch.context() as patched:
        patched.setattr(synthesis, "Repeats", lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            synthesize(config(), run)
    assert len(part_paths(run.path(DRAFTS))) == PARTS


def damage(run, how):
    path = part_path(run.path(DRAFTS), 2)
    data = path.read_bytes()
    if how == "cut":
        path.write_bytes(data[: len(data) // 2])
    elif how == "empty":
        path.write_bytes(b"")
    elif how == "gone":
        path.unlink()
    elif how == "of another run":
        write_rows(path, [], drafting.Draft, {"finegrade": "another", "unanswered": "0"})
    else:
        write_rows(path, [], drafting.Draft)


@pytest.mark.parametrize("how", ["cut", "empty", "gone", "of another run", "of nobody"])
@pytest.mark.slow
def test_a_damaged_or_foreign_part_is_made_again_from_the_ledger(
    config, new_run, fake_llm, whole, writes, monkeypatch, how
):
    run = new_run()
    broken_off_after_drafts(config, run, monkeypatch)
    number = len(fake_llm.requests)
    damage(run, how)
    del writes[0][:]
    synthesize(config(), run)
    assert writes[0] == [2]
    assert len(fake_llm.requests) == number
    assert outputs(run) == whole[0]


@pytest.mark.slow
def test_a_part_that_is_damaged_within_is_told_once_and_then_made_again(config, new_run, fake_llm, whole, monkeypatch):
    run = new_run()
    broken_off_after_drafts(config, run, monkeypatch)
    number, path = len(fake_llm.requests), part_path(run.path(DRAFTS), 2)
    data = path.read_bytes()
    end = len(data) - int.from_bytes(data[-8:-4], "little") - 8  # the footer stays, and with it whose part it is
    path.write_bytes(data[:4] + b"\xff" * (end - 4) + data[end:])
    with pytest.raises(InputError, match=r"part-000002.*Run the same command again"):
        synthesize(config(), run)
    synthesize(config(), run)
    assert len(fake_llm.requests) == number
    assert outputs(run) == whole[0]


@pytest.mark.slow
def test_drafts_that_are_whole_start_no_llm(config, new_run, fake_llm, whole, monkeypatch):
    run = new_run()
    broken_off_after_drafts(config, run, monkeypatch)
    monkeypatch.setattr(drafting, "ask_each", None)
    synthesize(config(), run)
    assert outputs(run) == whole[0]


@pytest.mark.parametrize("name", ["write_parts", "write_lines", "probe"])
@pytest.mark.slow
def test_broken_off_while_samples_are_assembled(config, new_run, fake_llm, whole, monkeypatch, name):
    run = new_run()
    with monkeypatch.context() as patched:
        patched.setattr(synthesis, name, lambda *given: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            synthesize(config(), run)
    number = len(fake_llm.requests)
    synthesize(config(), run)
    assert len(fake_llm.requests) == number
    assert outputs(run) == whole[0]


@pytest.mark.slow
def test_drafts_of_other_settings_are_made_again(config, new_run, writes, monkeypatch):
    run = new_run()
    broken_off_after_drafts(config, run, monkeypatch)
    del writes[0][:]
    synthesize(config(min_changed=1), run)
    assert writes[0] == list(range(PARTS))


@pytest.mark.parametrize("answered", [1, 4, 9])
@pytest.mark.slow
def test_what_a_server_did_not_answer_before_it_broke_down_is_asked_in_the_next_run(
    config, new_run, fake_llm, whole, answered
):
    run = new_run()
    fake_llm.answer = lambda body: invented(body) if len(fake_llm.requests) <= answered else (500, {})
    with pytest.raises(InputError, match="HTTP status 500"):
        synthesize(config(), run)
    fake_llm.answer = invented
    synthesize(config(), run)
    assert outputs(run) == whole[0]


@pytest.mark.slow
def test_what_is_left_of_drafts_after_the_record_was_written_goes(config, new_run, monkeypatch):
    run = new_run()
    with monkeypatch.context() as patched:
        patched.setattr(synthesis.shutil, "rmtree", lambda *given, **options: None)
        synthesize(config(), run)
    assert run.path(DRAFTS).exists()
    synthesize(config(), run)
    assert not run.path(DRAFTS).exists()


# the parts


def test_parts_say_whose_they_are_and_are_of_the_size_that_is_wanted(tmp_path):
    drafts = Drafts(RunFolder(tmp_path), "fingerprint", 4, 10)
    assert drafts.missing() == [0, 1, 2]
    assert [drafts.size(part) for part in range(3)] == [4, 4, 2]
    drafts.write(1, [])
    assert drafts.missing() == [0, 2]
    assert about(part_path(tmp_path / DRAFTS, 1))["finegrade"] == "fingerprint"
    assert Drafts(RunFolder(tmp_path), "another", 4, 10).missing() == [0, 1, 2]
    assert Drafts(RunFolder(tmp_path), "fingerprint", 4, 0).missing() == []


def test_no_samples_wanted_are_no_seeds(config, new_run, fake_llm):
    run, settings = new_run(), config(llm_samples=0)
    synthesize(settings, run)
    assert fake_llm.requests == []
    assert samples(run) == samples(run, TEST_SAMPLES) == []
    with pytest.raises(InputError, match=r"got 0 train, 0 test; wanted both. Raise synthesis\.llm_samples"):
        call_stage("seeds", settings, run)


def test_orders_that_are_one_more_than_the_tasks_are_still_dealt_out(config):
    made = config(llm_samples=len(MADE) + 1).resolved
    orders = list(orders_for_tasks(MADE, made.synthesis, made.draws, made.seed))
    assert Counter(Counter(order.task.id for order in orders).values()) == {1: len(MADE) - 1, 2: 1}
