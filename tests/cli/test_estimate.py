"""What an estimate says is asked for is what is asked for, in every mode; and never more than the most it names."""

import asyncio
import json
from collections import Counter

import pytest

from finegrade.cli.estimate import estimate
from finegrade.config import JUDGED
from finegrade.config.toml import parse_config
from finegrade.data.chunking import CHARS_PER_TOKEN
from finegrade.records import Task
from finegrade.stages.tasks import brainstorm, quotas_of, with_sides
from finegrade.synthesis.requests import orders_for_seeds, orders_for_tasks
from finegrade.synthesis.writer import Writer
from helpers.corpus import made_seeds
from helpers.fake_openai import made_up
from helpers.scripted_llm import ScriptedLLM, wanted

NUMBER = 40
MIXED = {"4": {"llm": 1, "mined": 1}, "3": {"mined": 1}, "1": {"llm": 1, "random": 3}}
FEW = {"4": {"llm": 1, "mined": 9}, "3": {"mined": 1}, "2": {"mined": 1}, "1": {"random": 1}}


def config(source="tasks", llm_samples=NUMBER, tasks=None, llm=None, **synthesis):
    data = {
        "source": {"kind": source} if source == "tasks" else {"kind": source, "path": "x"},
        "llm": {"base_url": "http://127.0.0.1:1/v1", "model": "m"} | (llm or {}),
        "synthesis": {"llm_samples": llm_samples} | synthesis,
        "tasks": {"number": 20} | (tasks or {}),
        "verification": {"second_opinion_written": []},  # grades apart: below
    }
    return parse_config(data, "test").resolved


def invented(request):
    body = {"messages": [message.model_dump() for message in request.messages], "seed": request.seed}
    return made_up(body | {"response_format": {"json_schema": {"schema": request.reply_schema}}})


def made_tasks(number):
    made = [
        Task(id=str(i), kind="sts", description=f"task {i}", instruction="Find it", side="train") for i in range(number)
    ]
    return with_sides(made, 0.2, 0)


def what(request):
    fields = wanted(request)
    return {"text": "style guard", "passage": "rewrites", "flaw": "negatives"}.get(fields[0], "samples")


def asked(settings, answer=invented):
    """How many requests are made, by what for."""
    llm, writer = ScriptedLLM(answer), Writer(settings.synthesis, settings.llm, settings.seed)
    if settings.source.is_tasks:
        orders = list(orders_for_tasks(made_tasks(20), settings.synthesis, settings.draws, settings.seed))
    else:
        orders = orders_for_seeds(made_seeds(), settings.synthesis, settings.draws, settings.seed)
    for order in orders:
        asyncio.run(writer.write(llm.complete, order))
    return Counter(map(what, llm.requests))


def estimated(settings):
    return {one.what: one for one in estimate(settings).asked if one.what != "tasks"}


MODES = [
    ("tasks", {"mode": "one-call"}),
    ("tasks", {"mode": "one-call", "levels": 8}),
    ("tasks", {"mode": "stepwise"}),
    ("tasks", {"mode": "stepwise", "levels": 2}),
    ("tasks", {"mode": "stepwise", "sources": {"1": {"random": 1}, "2": {"mined": 1}}}),
    ("pairs", {"mode": "one-call"}),
    ("pairs", {"mode": "stepwise", "levels": 6}),
    ("pairs", {"mode": "sibling"}),
    ("pairs", {"mode": "sibling", "style_guard": True}),
    ("pairs", {"mode": "one-call", "style_guard": True}),
    ("pairs", {"mode": "stepwise", "style_guard": True}),
    ("pairs", {"mode": "one-call", "sources": {str(level): {"mined": 1} for level in range(1, 5)}}),
]


@pytest.mark.parametrize(("source", "settings"), MODES, ids=str)
@pytest.mark.slow
def test_requests_are_what_is_asked(source, settings):
    settings = config(source, **settings)
    assert {name: one.requests for name, one in estimated(settings).items() if one.requests} == asked(settings)


@pytest.mark.parametrize("number", [2, 5, 8, 11])
def test_however_many_tasks_there_are_their_made_up_pairs_pass_the_checks(number):
    """Else nothing that is asked after a pair would be counted."""
    found = estimated(config(tasks={"number": number}, mode="stepwise"))
    assert found["samples"].requests == NUMBER
    assert found["negatives"].requests == pytest.approx(4 * NUMBER * (1 - max(1, round(number / 5)) / number), rel=0.2)
    assert found["negatives"].most == 2 * 4 * NUMBER


@pytest.mark.parametrize("mode", ["one-call", "stepwise"])
@pytest.mark.parametrize("source", ["tasks", "pairs"])
@pytest.mark.slow
def test_requests_are_about_what_is_asked_where_sources_are_drawn(source, mode):
    settings = config(source, llm_samples=60, mode=mode, sources=MIXED)
    for name, one in estimated(settings).items():
        assert one.requests == pytest.approx(asked(settings)[name], rel=0.15)


def never_readable(request):
    return "no"


def pairs_only(request):
    return invented(request) if "positive" in wanted(request) and "flaw" not in wanted(request) else "no"


DRAWN = [(source, {"mode": "stepwise", "sources": drawn}) for source in ("tasks", "pairs") for drawn in (MIXED, FEW)]


@pytest.mark.parametrize("answer", [never_readable, pairs_only])
@pytest.mark.parametrize(("source", "settings"), [*MODES, *DRAWN], ids=str)
@pytest.mark.parametrize("number", [1, 7, NUMBER])
@pytest.mark.slow
def test_never_more_than_the_most(source, settings, answer, number):
    settings = config(source, llm_samples=number, **settings)
    most = {name: one.most for name, one in estimated(settings).items()}
    for name, requests in asked(settings, answer).items():
        assert requests <= most[name]


@pytest.mark.parametrize("most", [1, 4, 200])
def test_tasks_are_about_as_many_requests_as_they_say_and_never_more_than_the_most(most):
    settings = config(tasks={"number": 100, "max_requests": most})

    def ask_all(answer):
        llm = ScriptedLLM(answer)
        for kind, number in quotas_of(settings.tasks.kinds, 100).items():
            asyncio.run(brainstorm(llm.complete, kind, number, settings.tasks, settings.llm, settings.seed))
        return len(llm.requests)

    (found,) = (one for one in estimate(settings).asked if one.what == "tasks")
    assert ask_all(never_readable) <= found.most
    assert ask_all(invented) <= found.requests <= found.most


@pytest.mark.parametrize("style_guard", [False, True])
@pytest.mark.parametrize("mode", ["one-call", "stepwise", "sibling"])
@pytest.mark.parametrize("words", [20, 100, 2_000])
def test_tokens_are_about_what_the_user_s_own_texts_take(tmp_path, mode, words, style_guard):
    seeds = [
        seed.model_copy(update={"positives": (f"{seed.positives[0]} {'word ' * words}",)}) for seed in made_seeds()
    ]
    path = tmp_path / "pairs.jsonl"
    rows = [{"query": seed.query, "positive": seed.positives[0], "group": seed.group} for seed in seeds if seed.query]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    settings = config("pairs", mode=mode, style_guard=style_guard)
    settings = settings.model_copy(update={"source": settings.source.model_copy(update={"path": path})})
    llm, writer = ScriptedLLM(invented), Writer(settings.synthesis, settings.llm, settings.seed)
    for order in orders_for_seeds(seeds, settings.synthesis, settings.draws, settings.seed):
        asyncio.run(writer.write(llm.complete, order))
    read = sum(len(message.content) for request in llm.requests for message in request.messages) / CHARS_PER_TOKEN
    found = [one for one in estimate(settings).asked if one.requests]
    assert bool(found) == bool(llm.requests) or mode == "sibling"
    if llm.requests:
        each = sum(one.tokens_in for one in found) / sum(one.requests for one in found)
        assert each == pytest.approx(read / len(llm.requests), rel=0.3)


def test_without_samples_the_llm_writes_none():
    assert estimated(config(llm_samples=0)) == {}
    assert estimate(config("pairs", llm_samples=0)).asked == ()


def test_thoughts_are_written_too():
    silent, thinking = (config(llm_samples=10, llm={"thinking_tokens": tokens}) for tokens in (0, 500))
    more = estimate(thinking).tokens - estimate(silent).tokens
    assert more == 500 * estimate(silent).requests


def test_more_levels_are_more_tokens_and_requests_only_stepwise():
    one_call, stepwise = ({levels: config(mode=mode, levels=levels) for levels in (2, 8)} for mode in MODES_OF_TASKS)
    assert estimate(one_call[2]).requests == estimate(one_call[8]).requests
    assert estimate(one_call[2]).tokens < estimate(one_call[8]).tokens
    assert estimate(stepwise[2]).requests < estimate(stepwise[8]).requests


MODES_OF_TASKS = ("one-call", "stepwise")


@pytest.mark.slow
def test_invented_texts_of_the_fake_server_pass_the_gates():
    """So that what is counted and timed with it is what an LLM that does its work would make."""
    for mode in MODES_OF_TASKS:
        settings, llm = config(mode=mode, llm_samples=100), ScriptedLLM(invented)
        writer = Writer(settings.synthesis, settings.llm, settings.seed)
        for order in orders_for_tasks(made_tasks(20), settings.synthesis, settings.draws, settings.seed):
            written = asyncio.run(writer.write(llm.complete, order))
            assert json.dumps([row.model_dump() for row in written.set_aside]) == "[]"
            assert [negative.level for negative in written.draft.negatives] == list(order.levels)


@pytest.mark.parametrize(
    ("mode", "rules", "expected"),
    [
        ("sibling", {}, NUMBER),
        ("sibling", {"doubt_written": 0}, None),
        ("one-call", {}, 3 * NUMBER),  # three quarters of those of four levels are near enough
        ("one-call", {"scorer": "llm", "second_opinion_written": []}, 4 * 1000),
        ("one-call", {"second_opinion": ["llm"], "doubt": 0.1}, 3 * NUMBER + 0.2 * 4 * (1000 - NUMBER)),
        ("one-call", {"second_opinion": ["llm"], "doubt": 0.1, "doubt_written": 0}, 0.2 * 4 * (1000 - NUMBER)),
        ("one-call", {"second_opinion_written": []}, None),
        ("sibling", {"scorer": "llm", "second_opinion_written": []}, 4 * 1000),
        ("sibling", {"second_opinion": ["llm"], "doubt": 0.1}, NUMBER + 0.2 * (4 * 1000 - NUMBER)),
    ],
)
def test_grades_are_counted(mode, rules, expected):
    data = {
        "source": {"kind": "pairs", "path": "x", "max_train": 1000}, "verification": rules,
        "llm": {"base_url": "http://127.0.0.1:1/v1", "model": "m"},
        "synthesis": {
            "llm_samples": NUMBER, "mode": mode,
            "sources": {str(n): {"llm": 1} for n in (range(1, 5) if mode == "one-call" else [4])},
        },
    }  # fmt: skip
    found = {one.what: one for one in estimate(parse_config(data, "test")).asked}
    if expected is None:
        assert "grades" not in found
    else:
        assert found["grades"].requests == pytest.approx(expected + 2 * JUDGED, abs=1)
        of_corpus = "scorer" in rules or "doubt" in rules
        may_be_asked = 4 * 1000 if of_corpus else NUMBER * (1 if mode == "sibling" else 4)
        assert found["grades"].most == 2 * (may_be_asked + 2 * JUDGED)  # each once more, where the reply cannot be read


def test_without_texts_of_an_llm_nothing_is_graded():
    data = {"source": {"kind": "pairs", "path": "x"}, "synthesis": {"llm_samples": 0}}
    assert estimate(parse_config(data, "test")).asked == ()


def test_minutes_are_those_of_as_many_pairs_as_there_are(tmp_path):
    def minutes(lines):
        path = tmp_path / "pairs.jsonl"
        path.write_text('{"query": "q", "positive": "p"}\n\n' * lines)
        plain = config("pairs")
        source = plain.source.model_copy(update={"path": path})
        return estimate(plain.model_copy(update={"source": source})).minutes["verify"]

    assert minutes(200) == pytest.approx(2 * minutes(100), rel=0.01)
    assert minutes(100) < estimate(config("pairs")).minutes["verify"]
