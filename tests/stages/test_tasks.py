"""The tasks stage: as many tasks of each kind as wanted, none twice, never more requests than allowed."""

import asyncio
import json
from collections import Counter
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from finegrade.config.toml import parse_config
from finegrade.errors import InputError
from finegrade.records import KINDS, Task
from finegrade.stages.pipeline import call_stage
from finegrade.stages.tasks import brainstorm, quotas_of, task_refusal, with_sides
from finegrade.storage.run_folder import TASKS, TASKS_SET_ASIDE, RunFolder
from finegrade.storage.tables import read_rows
from finegrade.synthesis.prompts.task import GENRES, MAX_DESCRIPTION, MAX_INSTRUCTION, WHAT
from finegrade.synthesis.requests import topics
from finegrade.text import content_hash, content_words, jaccard
from helpers.fake_llm import FakeLLM
from helpers.scripted_llm import ScriptedLLM, asked


def made_task(request_body) -> str:
    """Words of its own for each request."""
    return content_hash(json.dumps(request_body, sort_keys=True))


def some_tasks(unique, number):
    """Tasks that have few words in common."""
    return {
        "tasks": [
            {
                "description": f"Given a {unique}a{i} with {unique}b{i}, find the {unique}c{i} for its {unique}d{i}.",
                "instruction": f"Retrieve the {unique}c{i}",
            }
            for i in range(number)
        ]
    }


def good(body):
    return FakeLLM.reply(json.dumps(some_tasks(made_task(body), 10)))


@pytest.fixture
def config(fake_llm, no_retries):
    fake_llm.answer = good

    def config(seed=0, draws=None, source=None, concurrency=1, backbone="all-minilm-l6-v2", **tasks):
        data = {
            "seed": seed,
            "source": {"kind": "tasks"} | (source or {}),
            "llm": {"base_url": fake_llm.base_url, "model": "m", "concurrency": concurrency},
            "tasks": {"number": 30} | tasks,
            "training": {"backbone": backbone},
        }
        return parse_config(data | ({"draws": draws} if draws else {}), "test")

    return config


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run")


def tasks(run) -> list[Task]:
    return read_rows(run.path(TASKS), Task)


def set_aside(run) -> list[dict]:
    return [json.loads(line) for line in run.path(TASKS_SET_ASIDE).read_text().splitlines()]


def turn(body) -> str:
    return body["messages"][-1]["content"]


def test_tasks_of_all_kinds_are_written_in_equal_number(config, run, fake_llm, capsys):
    call_stage("tasks", config(), run)
    made = tasks(run)
    assert Counter(task.kind for task in made) == dict.fromkeys(KINDS, 6)
    assert len({task.id for task in made}) == 30
    assert all(task.id == content_hash(task.kind, task.description) for task in made)
    assert len(fake_llm.requests) == 5
    assert {row["reason"] for row in set_aside(run)} == {"more than were wanted"}
    details = run.record("tasks")["details"]
    assert details["kinds"] == dict.fromkeys(KINDS, 6)
    assert details["set_aside"] == {"more than were wanted": 20}
    assert details["usage"]["replies"] == 5
    assert "tasks: 30 of 30 wanted" in capsys.readouterr().err


def test_weights_decide_how_many_of_each_kind(config, run):
    call_stage("tasks", config(number=20, kinds={"sts": 3, "long-long": 1, "short-long": 0}), run)
    assert Counter(task.kind for task in tasks(run)) == {"sts": 15, "long-long": 5}


weights = st.dictionaries(st.sampled_from(KINDS), st.floats(0, 1e9), min_size=1).filter(lambda w: sum(w.values()) > 0)


@given(weights, st.integers(1, 5_000))
def test_quotas_add_up_and_none_is_off_by_one_or_more(given_weights, number):
    quotas = quotas_of(given_weights, number)
    total = sum(given_weights.values())
    assert sum(quotas.values()) == number
    assert min(quotas.values()) > 0
    for name, weight in given_weights.items():
        assert abs(quotas.get(name, 0) - number * (weight / total)) < 1 + 1e-6
        assert weight or name not in quotas


def test_what_repeats_is_set_aside_and_made_up_for(config, run, fake_llm):
    """Of ten tasks in a reply one is new: as many requests are made as it takes."""

    def one_new(body):
        told = some_tasks(content_hash("always the same " + turn(body).partition(".")[0]), 9)
        told["tasks"] += some_tasks(made_task(body), 1)["tasks"]
        return FakeLLM.reply(json.dumps(told))

    fake_llm.answer = one_new
    call_stage("tasks", config(number=60), run)
    assert Counter(task.kind for task in tasks(run)) == dict.fromkeys(KINDS, 12)
    assert len(fake_llm.requests) > 10
    assert Counter(row["reason"] for row in set_aside(run))["same as another task"] > 5 * 9


def test_no_two_tasks_of_a_kind_are_nearly_the_same(config, run, fake_llm):
    call_stage("tasks", config(number=50), run)
    for kind in KINDS:
        own = [content_words(task.description) for task in tasks(run) if task.kind == kind]
        assert all(jaccard(one, other) < 0.6 for i, one in enumerate(own) for other in own[:i])


BEFORE = [Task(id="1", kind="sts", description="Given a letter to a landlord, find another one that says the same.",
               instruction="Find it", side="train")]  # fmt: skip
LONG = "Given a report of a broken machine, find the report that tells of the same fault. " * 4


@pytest.mark.parametrize(
    ("description", "instruction", "told"),
    [
        ("Given a recipe for bread, find another way to put it.", "Find the same recipe", None),
        (LONG[: MAX_DESCRIPTION - 1] + ".", "Find it", None),
        (LONG[:MAX_DESCRIPTION] + ".", "Find it", "too long"),
        ("Given a recipe for bread, find another way to put it.", "x" * (MAX_INSTRUCTION + 1), "too long"),
        ("Given a text, find another.", "Find it", "says too little"),
        ("给定一个关于锅炉故障的问题，找到说明如何修理的手册段落。", "检索回答该问题的段落", None),
        ("Given a recipe for bread, find another way to put it.", "of the", "says too little"),
        (WHAT["sts"].task, WHAT["sts"].instruction, "copies the prompt's example"),
        (WHAT["sts"].task.replace("weather", "rain"), "Find it", "copies the prompt's example"),
        (WHAT["long-long"].task, "Find it", None),  # another kind's: the prompt does not show it
        (BEFORE[0].description.upper(), "Find it", "same as another task"),
        (BEFORE[0].description.replace("Given a", "From one strange"), "Find it", "nearly the same as another task"),
        (BEFORE[0].description.replace("letter to a landlord", "speech of a mayor"), "Find it", None),
    ],
    ids=range(13),
)
def test_why_a_task_is_set_aside(description, instruction, told):
    assert task_refusal("sts", description, instruction, BEFORE) == told


def test_the_same_words_may_be_a_task_of_another_kind(config, run, fake_llm):
    fake_llm.answer = lambda body: FakeLLM.reply(json.dumps(some_tasks("same", 6)))
    call_stage("tasks", config(), run)
    assert len({task.id for task in tasks(run)}) == len({task.description for task in tasks(run)}) * 5 == 30


def test_copies_of_the_prompt_s_example_are_set_aside(config, run, fake_llm):
    def copying(body):
        (kind,) = (kind for kind in KINDS if WHAT[kind].description in turn(body))
        told = some_tasks(made_task(body), 9)
        told["tasks"].insert(0, {"description": WHAT[kind].task, "instruction": WHAT[kind].instruction})
        return FakeLLM.reply(json.dumps(told))

    fake_llm.answer = copying
    call_stage("tasks", config(), run)
    assert Counter(row["reason"] for row in set_aside(run))["copies the prompt's example"] == 5
    assert not {task.description for task in tasks(run)} & {sort.task for sort in WHAT.values()}


# requests


@pytest.mark.parametrize(("number", "most"), [(100, 1), (100, 3), (100, 7), (100, 50), (10, 12)])
def test_no_more_requests_than_max_requests(config, run, fake_llm, number, most):
    fake_llm.answer = lambda body: FakeLLM.reply(json.dumps(some_tasks("same", 1)))
    with suppress(InputError):  # one task is not enough
        call_stage("tasks", config(number=number, max_requests=most, concurrency=4), run)
    assert len(fake_llm.requests) == most


@given(weights, st.integers(2, 60), st.integers(1, 40), st.integers(1, 12))
def test_the_cap_holds_over_all_kinds_whatever_the_weights(given_weights, number, most, per_request):
    tasks_settings = {"kinds": given_weights, "number": number, "max_requests": most, "per_request": per_request}
    settings = parse_config({"source": {"kind": "tasks"}, "tasks": tasks_settings, "llm": LLM}, "test")
    llm = ScriptedLLM(lambda request: some_tasks("same", 1))
    for kind, wanted in quotas_of(given_weights, number).items():
        asyncio.run(brainstorm(llm.complete, kind, wanted, settings.tasks, settings.llm, 0))
    assert len(llm.requests) <= most


LLM = {"base_url": "http://127.0.0.1:1/v1", "model": "m"}


def test_every_request_spreads_over_other_subjects(config, run, fake_llm):
    call_stage("tasks", config(number=200), run)
    spreads = [turn(body).rpartition("Subjects: ")[2].partition(".\n")[0].split("; ") for body in fake_llm.requests]
    assert all(set(spread) <= set(topics()) for spread in spreads)
    assert len({tuple(spread) for spread in spreads}) == len(spreads) == 20
    assert len({body["seed"] for body in fake_llm.requests}) > 1


def test_a_domain_is_in_every_request_with_kinds_of_text_in_place_of_subjects(config, run, fake_llm):
    call_stage("tasks", config(domain='Care of "old" ships\n and boats.'), run)
    for body in fake_llm.requests:
        assert "Domain of all of them: Care of" in turn(body)
        assert "Subjects: " not in turn(body)
        assert sum(genre in turn(body) for genre in GENRES) >= 3


def test_unreadable_replies_are_asked_for_once_more_and_then_set_aside_raw(config, run, fake_llm):
    fake_llm.answer = lambda body: FakeLLM.reply("Sure!") if "mean the same" in str(body["messages"]) else good(body)
    call_stage("tasks", config(max_requests=10), run)
    assert {task.kind for task in tasks(run)} == set(KINDS) - {"sts"}
    rows = [row for row in set_aside(run) if row["kind"] == "sts"]
    assert [(row["reason"], row["text"]) for row in rows] == [("not the JSON that was asked for", "Sure!")] * 2
    assert sum("That cannot be used" in turn(body) for body in fake_llm.requests) == 2


def test_control_signs_and_line_ends_in_tasks_are_folded_away(config, run, fake_llm):
    def odd(body):
        told = some_tasks(made_task(body), 6)
        for one in told["tasks"]:
            one["description"] = f"  \x1b[31m{one['description']}\x00\r\n\ud800 "
        return FakeLLM.reply(json.dumps(told))

    fake_llm.answer = odd
    call_stage("tasks", config(), run)
    assert len(tasks(run)) == 30
    assert all(task.description.isprintable() and task.description.startswith("[31mGiven") for task in tasks(run))


# sides, languages, resume


def test_a_share_of_the_tasks_is_held_out(config, run):
    call_stage("tasks", config(source={"test_share": 0.3}), run)
    assert Counter(task.side for task in tasks(run)) == {"train": 21, "test": 9}


@given(st.integers(0, 40), st.floats(0.001, 0.999), st.integers(0, 5))
def test_there_is_one_task_on_each_side_at_least(number, share, seed):
    made = [Task(id=str(i), kind="sts", description="x", instruction="x", side="train") for i in range(number)]
    sided = with_sides(made, share, seed)
    assert [task.id for task in sided] == [task.id for task in made]
    counts = Counter(task.side for task in sided)
    if number >= 2:
        assert counts["test"] >= 1
        assert counts["train"] >= 1
        assert abs(counts["test"] - share * number) <= 1
    assert sided == with_sides(made, share, seed)


@pytest.mark.parametrize("said", ["Sure!", json.dumps(some_tasks("same", 1))])
def test_fewer_than_two_tasks_are_told_and_what_was_said_is_kept(config, run, fake_llm, said):
    fake_llm.answer = lambda body: FakeLLM.reply(said)
    with pytest.raises(InputError, match=r"got [01] of use; wanted one to train on.* Raise tasks\.number"):
        call_stage("tasks", config(number=5, kinds={"sts": 1}, max_requests=3), run)
    assert set_aside(run)
    assert not run.path(TASKS).exists()


def test_languages_that_the_models_do_not_speak_stop_before_anything_is_asked(config, run, fake_llm):
    german = {"languages": {"en": 1, "de": 3, "fr": 0}}
    with pytest.raises(InputError, match=r"de in 75%.*training\.backbone.*--force") as error:
        call_stage("tasks", config(draws=german), run)
    assert "fr" not in str(error.value).partition(";")[0]
    assert fake_llm.requests == []
    call_stage("tasks", config(draws=german, source={"language": "any"}), run)
    assert len(tasks(run)) == 30


@pytest.mark.slow
def test_a_second_run_asks_nothing_and_gives_the_same(config, run, fake_llm, capsys):
    call_stage("tasks", config(), run)
    outputs, number = run.record("tasks")["outputs"], len(fake_llm.requests)
    call_stage("tasks", config(), run)
    assert "tasks: kept from" in capsys.readouterr().err
    run.path(TASKS).unlink()
    call_stage("tasks", config(concurrency=8), run)
    assert len(fake_llm.requests) == number
    assert run.record("tasks")["outputs"] == outputs


@pytest.mark.slow
def test_it_goes_on_after_a_breakdown_without_asking_again(config, run, fake_llm, tmp_path):
    call_stage("tasks", config(number=80), RunFolder(tmp_path / "whole"))
    whole = [turn(body) for body in fake_llm.requests]
    fake_llm.requests.clear()
    fake_llm.answer = lambda body: good(body) if len(fake_llm.requests) <= 3 else (401, {})
    with pytest.raises(InputError, match="refusal of the key"):
        call_stage("tasks", config(number=80), run)
    fake_llm.requests[3:] = []
    fake_llm.answer = good
    call_stage("tasks", config(number=80), run)
    assert sorted(turn(body) for body in fake_llm.requests) == sorted(whole)
    assert run.record("tasks")["outputs"] == RunFolder(tmp_path / "whole").record("tasks")["outputs"]


def test_another_seed_asks_for_others(config, run, fake_llm, tmp_path):
    call_stage("tasks", config(), run)
    first = {json.dumps(body) for body in fake_llm.requests}
    fake_llm.requests.clear()
    call_stage("tasks", config(seed=7), RunFolder(tmp_path / "other"))
    assert not first & {json.dumps(body) for body in fake_llm.requests}


def test_what_is_asked_names_the_kind_and_the_number():
    settings = parse_config({"source": {"kind": "tasks"}, "tasks": {"per_request": 4}, "llm": LLM}, "test")
    llm = ScriptedLLM(lambda request: some_tasks(str(request.seed), 4))
    found = asyncio.run(brainstorm(llm.complete, "long-short", 9, settings.tasks, settings.llm, 0))
    assert len(found.tasks) == 9
    assert len(llm.requests) == 3
    for request in llm.requests:
        assert WHAT["long-short"].description in asked(request)
        assert "Write 4 tasks of this kind." in asked(request)
        assert request.reply_schema["properties"]["tasks"]["minItems"] == 4
