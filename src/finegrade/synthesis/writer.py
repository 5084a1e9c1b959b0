"""One sample by the LLM: asked for in the configured mode, then through the checks."""

import asyncio
from collections.abc import Mapping
from typing import NamedTuple

from finegrade.config import SynthesisConfig
from finegrade.llm.request import RequestSettings
from finegrade.llm.session import LLM, Ask, request_settings
from finegrade.llm.structured import Answer, ask_for
from finegrade.records import Negative, Record, SetAside, Side
from finegrade.synthesis.filters import NegativeChecks, is_near_miss, pair_refusal, rephrasing_refusal, sibling_refusal
from finegrade.synthesis.levels import flaws
from finegrade.synthesis.prompts.sample import (
    PROMPTS,
    OneNegative,
    OneText,
    Pair,
    levels_form,
    negative_request,
    negatives_request,
    rephrase_request,
    sample_request,
)
from finegrade.synthesis.prompts.sibling import SIBLING_EXAMPLES, SIBLING_SYSTEM, Passage, sibling_request
from finegrade.synthesis.requests import Order

_REWRITING, _INVENTING = 0.2, 1.0  # temperatures


class Draft(Record):
    """What an LLM wrote of one sample, as far as it passed the checks.

    Args:
        id: Of the order.
        seed: Id of its seed; empty where it is from a task.
        query: The seed's, or written.
        positive: The seed's first, as it is or said again, or written.
        negatives: Those that the LLM wrote, hardest first.
        group: What train and test are split by.
        side: Whether it trains or tests.
        kind: Of its task.
        instruction: Of its task.
        language: Of its task's texts, ISO 639-1.
    """

    id: str
    seed: str
    query: str
    positive: str
    negatives: tuple[Negative, ...]
    group: str
    side: Side
    kind: str = ""
    instruction: str = ""
    language: str = ""


class Written(NamedTuple):
    """What came of an order."""

    draft: Draft | None
    set_aside: list[SetAside]

    @property
    def is_of_use(self) -> bool:
        """Whether there is anything that passed, or nothing that did not."""
        return not self.set_aside or (self.draft is not None and bool(self.draft.negatives or self.draft.kind))


class _Level(NamedTuple):
    """A negative as it was written."""

    text: str
    flaw: str | None
    sibling: str | None = None


class Writer:
    """Writes samples.

    Args:
        synthesis: Says in which mode (not auto), and what passes.
        llm: Is asked.
        seed: Of its sampling.
    """

    def __init__(self, synthesis: SynthesisConfig, llm: LLM, seed: int) -> None:
        self._synthesis, self._mode = synthesis, synthesis.mode
        default = _REWRITING if self._mode == "sibling" else _INVENTING
        temperature = default if synthesis.temperature is None else synthesis.temperature
        self._asked_with = request_settings(llm, temperature, seed)
        self._flaws = flaws(synthesis.levels)

    async def write(self, ask: Ask, order: Order) -> Written:
        """Asks for all that an order wants of the LLM, and checks it."""
        page = _Page(order, self._asked_with.model_copy(update={"seed": self._asked_with.seed + order.turn}))
        if order.task is not None:
            await self._write_for_task(ask, page)
        else:
            await self._write_for_seed(ask, page)
        return Written(page.draft(), page.set_aside)

    async def _write_for_task(self, ask: Ask, page: "_Page") -> None:
        order, task = page.order, page.order.task
        assert task is not None
        at_once = order.levels if self._mode == "one-call" else ()
        wanted = {level: self._flaws[level] for level in at_once}
        form = levels_form(tuple(wanted), pair=True) if wanted else Pair
        answer = await ask_for(ask, sample_request(task, order.draw, wanted, page.asked_with), form)
        if answer.value is None:
            page.refuse(None, answer.reason, answer.reply.text)
            return
        written = answer.value.model_dump()
        query, positive = written["query"], written["positive"]
        if reason := pair_refusal(query, positive, order.draw.language, (task.description, task.instruction)):
            page.refuse(None, reason, answer.reply.text)
            return
        page.query, page.positive = query, positive
        levels = _levels(written)
        if self._mode == "stepwise":
            levels = await self._step_by_step(ask, page)
        self._check(page, levels, order.draw.language)

    async def _write_for_seed(self, ask: Ask, page: "_Page") -> None:
        order, seed = page.order, page.order.seed
        assert seed is not None
        page.query, page.positive = seed.query, seed.positives[0]
        if self._synthesis.style_guard:
            await self._rephrase(ask, page)
        if not order.levels:
            return
        if self._mode == "sibling":
            await self._write_near_miss(ask, page)
        elif self._mode == "stepwise":
            self._check(page, await self._step_by_step(ask, page))
        else:
            wanted = {level: self._flaws[level] for level in order.levels}
            request = negatives_request(page.query, page.positive, order.draw, wanted, page.asked_with)
            answer = await ask_for(ask, request, levels_form(tuple(wanted), pair=False))
            if answer.value is None:
                page.refuse(None, answer.reason, answer.reply.text)
            else:
                self._check(page, _levels(answer.value.model_dump()))

    async def _rephrase(self, ask: Ask, page: "_Page") -> None:
        """Where it fails the positive stays as it is, and that is counted."""
        answer = await ask_for(ask, rephrase_request(page.positive, page.asked_with), OneText)
        text = answer.value.text if answer.value else answer.reply.text
        reason = answer.reason or rephrasing_refusal(page.positive, text)
        if reason:
            page.refuse(None, f"style guard: {reason}", text)
        else:
            page.positive = text

    async def _step_by_step(self, ask: Ask, page: "_Page") -> dict[int, _Level]:
        async def one(level: int) -> Answer[OneNegative]:
            request = negative_request(
                page.query, page.positive, page.order.draw, level, self._flaws[level], page.asked_with
            )
            return await ask_for(ask, request, OneNegative)

        answers = await asyncio.gather(*map(one, page.order.levels))
        found = {}
        for level, answer in zip(page.order.levels, answers, strict=True):
            if answer.value is None:
                page.refuse(level, answer.reason, answer.reply.text)
            else:
                found[level] = _Level(answer.value.text, answer.value.flaw)
        return found

    async def _write_near_miss(self, ask: Ask, page: "_Page") -> None:
        level = self._synthesis.levels
        request = sibling_request(page.query, page.positive, page.order.sibling, page.asked_with)
        # neither asked again nor cut: a small model writes the same mistake twice, and a near miss needs its end
        answer = await ask_for(ask, request, Passage, again=0, take_cut=False)
        text = answer.value.passage if answer.value else answer.reply.text
        reason = (
            answer.reason
            or self._checks(page, None).refusal(text)
            or sibling_refusal(page.positive, page.order.sibling, text)
        )
        if reason:
            page.refuse(level, reason, answer.reply.text)
        else:
            # what is no rewrite is a text about the sibling: a level easier
            own = level if is_near_miss(page.positive, text) else level - 1
            page.take(own, _Level(text, None, page.order.sibling))

    def _check(self, page: "_Page", levels: Mapping[int, _Level], language: str | None = None) -> None:
        """Hardest first: of two that are nearly the same, the harder one stays."""
        checks = self._checks(page, language)
        for level in sorted(levels, reverse=True):
            reason = checks.refusal(levels[level].text)
            if reason:
                page.refuse(level, reason, levels[level].text)
            else:
                page.take(level, levels[level])

    def _checks(self, page: "_Page", language: str | None) -> NegativeChecks:
        """For a seed against all its positives: the one that was rephrased is not among them."""
        seed, task = page.order.seed, page.order.task
        positives = dict.fromkeys((page.positive, *(seed.positives if seed else ())))
        about = task.description if task else ""
        return NegativeChecks(page.query, list(positives), self._synthesis.min_changed, language, about)


def prompts_used(synthesis: SynthesisConfig, of_tasks: bool) -> dict[str, str]:
    """What the requests of a configuration begin with, and their examples: for the data card."""
    names: list[str] = []
    found: dict[str, str] = {}
    if synthesis.mode == "sibling":
        examples = ("\n".join(example) for example in SIBLING_EXAMPLES)
        found = {"sibling": SIBLING_SYSTEM} | {f"sibling, example {i}": text for i, text in enumerate(examples, 1)}
    elif of_tasks:  # of what tests only the pair is asked for
        names = ["pair", "sample" if synthesis.mode == "one-call" else "negatives"]
    else:
        names = ["negatives"]
    names += ["style guard"] if synthesis.style_guard else []
    levels = {} if found else flaws(synthesis.levels)
    found |= {name: PROMPTS[name] for name in names}
    return found | {f"level {level}": flaw.description for level, flaw in levels.items()}


class _Page:
    """What is being written."""

    def __init__(self, order: Order, asked_with: RequestSettings) -> None:
        self.order, self.asked_with = order, asked_with
        self.query = self.positive = ""
        self.set_aside: list[SetAside] = []
        self._negatives: list[Negative] = []

    def take(self, level: int, written: _Level) -> None:
        self._negatives.append(
            Negative(text=written.text, level=level, source="llm", sibling=written.sibling, flaw=written.flaw)
        )

    def refuse(self, level: int | None, reason: str, text: str) -> None:
        self.set_aside.append(SetAside(order=self.order.id, query=self.query, level=level, reason=reason, text=text))

    def draft(self) -> Draft | None:
        if not self.query:
            return None
        task, seed = self.order.task, self.order.seed
        return Draft(
            id=self.order.id,
            seed=seed.id if seed else "",
            query=self.query,
            positive=self.positive,
            negatives=tuple(self._negatives),
            group=seed.group if seed else task.id if task else "",
            side=task.side if task else "train",
            kind=task.kind if task else "",
            instruction=task.instruction if task else "",
            language=self.order.draw.language if task else "",
        )


def _levels(written: Mapping[str, str]) -> dict[int, _Level]:
    """Out of a reply with all of them: level_4, flaw_4, level_3, ..."""
    numbers = [int(name.removeprefix("level_")) for name in written if name.startswith("level_")]
    return {level: _Level(written[f"level_{level}"], written[f"flaw_{level}"]) for level in numbers}
