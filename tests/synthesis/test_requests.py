"""What the LLM is to write: the same for the same configuration, and more of it is more of the same."""

from collections import Counter
from itertools import pairwise

import pytest

from finegrade.config.toml import parse_config
from finegrade.records import KINDS, Task
from finegrade.synthesis.requests import orders_for_seeds, orders_for_tasks, sources_of
from finegrade.text import content_hash
from helpers.corpus import made_seeds

TASKS = [
    Task(id=content_hash(kind, str(i)), kind=kind, description=f"task {i}", instruction="Find it",
         side="test" if i == 0 else "train")
    for kind in KINDS for i in range(3)
]  # fmt: skip


def config(kind="tasks", seed=0, **synthesis):
    source = {"kind": kind} if kind == "tasks" else {"kind": kind, "path": "x"}
    data = {"seed": seed, "source": source, "llm": {"base_url": "http://127.0.0.1:1/v1", "model": "m"}}
    return parse_config(data | {"synthesis": synthesis}, "test").resolved


def for_tasks(**settings):
    made = config(**settings)
    return list(orders_for_tasks(TASKS, made.synthesis, made.draws, made.seed))


def for_seeds(seeds=None, **settings):
    made = config("pairs", **settings)
    seeds = made_seeds() if seeds is None else seeds
    return orders_for_seeds(seeds, made.synthesis, made.draws, made.seed)


MANY = pytest.mark.parametrize("orders", [for_tasks, for_seeds], ids=["tasks", "seeds"])
MODES = pytest.mark.parametrize("mode", ["one-call", "stepwise", "sibling"])


@MANY
def test_the_same_configuration_gives_the_same_orders_and_another_seed_others(orders):
    first = orders(llm_samples=40)
    assert len(first) == 40
    assert len({order.id for order in first}) == 40
    assert orders(llm_samples=40) == first != orders(llm_samples=40, seed=1)


@MANY
def test_more_samples_are_the_same_ones_and_then_more(orders):
    wanted = {number: orders(llm_samples=number) for number in (0, 1, 7, 15, 16, 40)}
    for fewer, more in pairwise(wanted):
        assert wanted[more][:fewer] == wanted[fewer]
        assert len(wanted[more]) == more


def test_more_samples_of_siblings_are_the_same_ones_and_then_more():
    assert for_seeds(mode="sibling", llm_samples=9)[:5] == for_seeds(mode="sibling", llm_samples=5)


def test_tasks_get_equally_many_samples():
    counts = Counter(order.task.id for order in for_tasks(llm_samples=40))
    assert set(counts) == {task.id for task in TASKS}
    assert set(counts.values()) == {2, 3}


def test_two_samples_of_a_task_are_never_asked_for_in_the_same_way():
    """Of short kinds there are few draws that differ: the turn makes the requests different."""
    orders = [order for order in for_tasks(llm_samples=600) if order.task == TASKS[0]]
    assert sorted(order.turn for order in orders) == list(range(40))


def test_what_is_tested_with_gets_no_negatives():
    for order in for_tasks(llm_samples=30):
        assert order.levels == (() if order.task.side == "test" else (4, 3, 2, 1))


def test_seeds_without_a_query_are_not_ordered():
    seeds = made_seeds()
    mute = [seed.model_copy(update={"query": ""}) for seed in seeds[:30]] + seeds[30:]
    assert {order.seed.id for order in for_seeds(mute, llm_samples=100)} == {seed.id for seed in seeds[30:]}


@MODES
def test_each_mode_orders_the_levels_that_the_llm_writes_in_it(mode):
    for order in for_seeds(mode=mode, llm_samples=10):
        assert order.levels == ((4,) if mode == "sibling" else (4, 3, 2, 1))
        assert bool(order.sibling) == (mode == "sibling")
        if mode == "sibling":
            assert order.sources == {1: "random", 2: "mined", 3: "mined", 4: "llm"}


def test_sources_are_mixed_by_weight_and_a_sample_s_own_whatever_else_is_ordered():
    mixed = config(levels=3, sources={"3": {"llm": 3, "mined": 1}, "1": {"random": 1}})
    number = 2_000
    drawn = {str(i): sources_of(str(i), mixed.synthesis, 0) for i in range(number)}
    counts = {level: Counter(sources[level] for sources in drawn.values()) for level in (1, 2, 3)}
    assert counts[1] == {"random": number}
    assert counts[2] == {"llm": number}  # what is not said
    assert set(counts[3]) == {"llm", "mined"}
    assert counts[3]["llm"] / number == pytest.approx(0.75, abs=0.04)
    assert sources_of("17", mixed.synthesis, 0) == drawn["17"]


def test_a_level_whose_sources_change_leaves_the_others_as_they_are():
    half = {"llm": 1, "mined": 1}
    before, after = config(sources={"3": half, "1": half}), config(sources={"3": half, "1": {"random": 1}, "2": half})
    ids = [content_hash(str(i)) for i in range(60)]
    assert [sources_of(one, before.synthesis, 0)[3] for one in ids] == [
        sources_of(one, after.synthesis, 0)[3] for one in ids
    ]
    assert (
        len({(sources_of(one, before.synthesis, 0)[3], sources_of(one, before.synthesis, 0)[1]) for one in ids}) == 4
    )  # each is a draw of its own


def test_levels_that_the_llm_does_not_write_are_not_ordered():
    sources = {"1": {"random": 1}, "2": {"mined": 1}}
    assert {order.levels for order in for_tasks(llm_samples=40, sources=sources)} == {(), (4, 3)}


def test_a_small_corpus_is_ordered_once():
    assert len(for_seeds(llm_samples=1_000)) == len(made_seeds())
