"""The tasks stage: embedding tasks of all kinds, thought up by the LLM, balanced and without repetition."""

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from math import ceil

from finegrade.config import DrawsConfig, LLMConfig, SourceConfig, TasksConfig
from finegrade.console import progress, say
from finegrade.data.languages import check_language
from finegrade.errors import InputError
from finegrade.llm.ledger import Ledger
from finegrade.llm.request import ChatRequest
from finegrade.llm.session import Ask, ask_each, reply_settings, request_settings
from finegrade.llm.structured import ask_for
from finegrade.records import Kind, Record, Task
from finegrade.storage.run_folder import LEDGER, LLM_LOG, TASKS, TASKS_SET_ASIDE, RunFolder
from finegrade.storage.tables import write_lines, write_rows
from finegrade.synthesis.prompts.task import (
    GENRES,
    MAX_DESCRIPTION,
    MAX_INSTRUCTION,
    SYSTEM,
    WHAT,
    WrittenTask,
    WrittenTasks,
    tasks_request,
)
from finegrade.synthesis.requests import topics
from finegrade.text import content_hash, content_words, jaccard, normalised

SAME = 0.6
"""Jaccard of content words from which two tasks of a kind are one."""

_SPREAD, _FEWEST_WORDS, _FEWEST_TASKS = 3, 5, 2


class TaskSetAside(Record):
    """A task, or a whole reply, that is not used, and why."""

    kind: Kind
    reason: str
    text: str


@dataclass
class Brainstormed:
    """What came of asking for one kind."""

    tasks: list[Task] = field(default_factory=list)
    set_aside: list[TaskSetAside] = field(default_factory=list)


def write_tasks(
    run: RunFolder,
    *,
    source: SourceConfig,
    tasks: TasksConfig,
    draws: DrawsConfig,
    llm: LLMConfig,
    models: Sequence[tuple[str, str]],
    seed: int,
) -> None:
    """Writes ``tasks.parquet``.

    Args:
        run: The run folder.
        source: How many tasks are held out.
        tasks: How many of which kind.
        draws: The languages of their texts.
        llm: Thinks them up.
        models: Setting and name of each model; they must speak these languages.
        seed: Of the draws, and of the LLM's sampling.

    Raises:
        InputError: The models do not speak the languages that are drawn; the LLM cannot be had; fewer than two tasks
            that it wrote are of use.
    """
    settings = {
        "llm": reply_settings(llm),
        "tasks": tasks.model_dump(mode="json"),
        "test_share": source.test_share,
        "seed": seed,
    }
    with run.stage("tasks", settings) as stage:
        if stage.done:
            return
        weights = draws.languages
        languages = {name: weight / sum(weights.values()) for name, weight in weights.items() if weight}
        check_language(languages, models, source.language)
        with Ledger(run.path(LEDGER), stage.name) as ledger:
            found = asyncio.run(_brainstorm(tasks, llm, seed, run, ledger))
            usage = ledger.totals()
        written = with_sides([task for one in found for task in one.tasks], source.test_share, seed)
        set_aside = [row for one in found for row in one.set_aside]
        write_lines(run.path(TASKS_SET_ASIDE), set_aside)
        if len(written) < _FEWEST_TASKS:
            remedy = f"Raise tasks.number, name another LLM, or see {TASKS_SET_ASIDE}."
            wanted = "one to train on and one to test with, at least"
            raise InputError("tasks", got=f"{len(written)} of use", wanted=wanted, remedy=remedy)
        write_rows(run.path(TASKS), written, Task)
        reasons = Counter(row.reason for row in set_aside)
        kinds = Counter(task.kind for task in written)
        details = {
            "kinds": dict(kinds),
            "set_aside": dict(reasons.most_common()),
            "usage": usage,
            "prompts": {"tasks": SYSTEM},
        }
        stage.finish([run.path(TASKS), run.path(TASKS_SET_ASIDE)], details)
        listed = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
        say(f"tasks: {len(written):,} of {tasks.number:,} wanted ({listed}), {len(set_aside):,} set aside")


async def _brainstorm(
    tasks: TasksConfig, llm: LLMConfig, seed: int, run: RunFolder, ledger: Ledger
) -> list[Brainstormed]:
    quotas = quotas_of(tasks.kinds, tasks.number)

    async def talk(ask: Ask, kind: Kind) -> Brainstormed:
        return await brainstorm(ask, kind, quotas[kind], tasks, llm, seed)

    results = []
    with progress("the LLM thinks up tasks", tasks.number) as meter:
        async with aclosing(ask_each(list(quotas), talk, llm, ledger, run.path(LLM_LOG))) as found:
            async for _, one in found:
                meter.advance(len(one.tasks))
                results.append(one)
    return results


async def brainstorm(ask: Ask, kind: Kind, wanted: int, tasks: TasksConfig, llm: LLMConfig, seed: int) -> Brainstormed:
    """Asks for tasks of one kind until there are enough that differ, or the kind's share of the requests is spent."""
    found, asked = Brainstormed(), 0
    most = quotas_of(tasks.kinds, tasks.max_requests).get(kind, 0)
    while len(found.tasks) < wanted and asked < most:
        number = min(ceil((wanted - len(found.tasks)) / tasks.per_request), most - asked)
        requests = [_request(kind, asked + i, tasks, llm, seed) for i in range(number)]
        for answer in await asyncio.gather(*(ask_for(ask, request, WrittenTasks) for request in requests)):
            if answer.value is None:
                found.set_aside.append(TaskSetAside(kind=kind, reason=answer.reason, text=answer.reply.text))
            for written in answer.value.tasks if answer.value else ():
                _sort_in(written, kind, wanted, found)
        asked += number
    return found


def _request(kind: Kind, number: int, tasks: TasksConfig, llm: LLMConfig, seed: int) -> ChatRequest:
    dice = random.Random(f"{seed}/tasks/{kind}/{number}")
    spread = dice.sample(GENRES if tasks.domain else topics(), _SPREAD)
    asked_with = request_settings(llm, tasks.temperature, seed + number)
    return tasks_request(kind, tasks.per_request, tasks.domain, spread, asked_with)


def _sort_in(written: WrittenTask, kind: Kind, wanted: int, found: Brainstormed) -> None:
    description, instruction = written.description, written.instruction
    reason = task_refusal(kind, description, instruction, found.tasks)
    if reason is None and len(found.tasks) == wanted:
        reason = "more than were wanted"
    if reason is None:
        task_id = content_hash(kind, description)
        found.tasks.append(Task(id=task_id, kind=kind, description=description, instruction=instruction, side="train"))
    else:
        found.set_aside.append(TaskSetAside(kind=kind, reason=reason, text=f"{description} | {instruction}"))


def task_refusal(kind: Kind, description: str, instruction: str, before: Sequence[Task]) -> str | None:
    """Why a task is set aside, or None."""
    if len(description) > MAX_DESCRIPTION or len(instruction) > MAX_INSTRUCTION:
        return "too long"
    own = content_words(description)
    if len(own) < _FEWEST_WORDS or not content_words(instruction):
        return "says too little"
    if jaccard(own, content_words(WHAT[kind].task)) >= SAME:
        return "copies the prompt's example"
    if any(normalised(description) == normalised(task.description) for task in before):
        return "same as another task"
    if any(jaccard(own, content_words(task.description)) >= SAME for task in before):
        return "nearly the same as another task"
    return None


def with_sides(tasks: Sequence[Task], test_share: float, seed: int) -> list[Task]:
    """The tasks, a share of them (one at least) held out: all samples of a task are on its side."""
    number = min(max(1, round(len(tasks) * test_share)), len(tasks) - 1)
    held_out = set(random.Random(seed).sample([task.id for task in tasks], max(0, number)))
    return [task.model_copy(update={"side": "test" if task.id in held_out else "train"}) for task in tasks]


def quotas_of(weights: dict[str, float], number: int) -> dict[Kind, int]:
    """So many in all, dealt out by weight; the largest remainders round up."""
    total = sum(weights.values())
    exact = {name: number * (weight / total) for name, weight in weights.items() if weight}
    quotas = {name: int(share) for name, share in exact.items()}
    for name in sorted(exact, key=lambda name: quotas[name] - exact[name])[: number - sum(quotas.values())]:
        quotas[name] += 1
    return {name: quota for name, quota in quotas.items() if quota}  # type: ignore[misc]
