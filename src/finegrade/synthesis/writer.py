"""One sample by the LLM: asked for in the configured mode, then through the gates."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, NamedTuple

from finegrade.config import DrawsConfig, LLMConfig, SynthesisConfig
from finegrade.config.toml import parse_section
from finegrade.console import progress
from finegrade.llm.ledger import Ledger
from finegrade.llm.request import RequestSettings
from finegrade.llm.session import LLM, Ask, Client, ask_each, beside_any_event_loop, llm_of, request_settings
from finegrade.llm.structured import Answer, ask_for
from finegrade.records import LeftOut, Negative, Record, Sample, Seed, SetAside, Side
from finegrade.retrieval.mining import fill_levels
from finegrade.rows import Result, Rows, as_samples
from finegrade.storage.run_folder import LEDGER, LLM_LOG
from finegrade.synthesis.filters import NegativeGates, is_near_miss, pair_refusal, rephrasing_refusal, sibling_refusal
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
from finegrade.synthesis.requests import Order, orders_for_seeds
from finegrade.text import normalised

_REWRITING, _INVENTING = 0.2, 1.0  # temperatures


class Draft(Record):
    """What an LLM wrote of one sample, as far as it passed the gates.

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
    """What came of an order.

    Attributes:
        draft: None where there is no query with a positive.
        set_aside: What was not used.
    """

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
        """Asks for all that an order wants of the LLM, and checks it.

        Args:
            ask: Gives the reply to a request.
            order: What to write.
        """
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
            or self._gates(page, None).refusal(text)
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
        gates = self._gates(page, language)
        for level in sorted(levels, reverse=True):
            reason = gates.refusal(levels[level].text)
            if reason:
                page.refuse(level, reason, levels[level].text)
            else:
                page.take(level, levels[level])

    def _gates(self, page: "_Page", language: str | None) -> NegativeGates:
        """For a seed against all its positives: the one that was rephrased is not among them."""
        seed, task = page.order.seed, page.order.task
        positives = dict.fromkeys((page.positive, *(seed.positives if seed else ())))
        about = task.description if task else ""
        return NegativeGates(page.query, list(positives), self._synthesis.min_changed, language, about)


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
    return found | {f"level {level}": flaw.told for level, flaw in levels.items()}


@dataclass(frozen=True)
class WrittenNegatives(Result[Sample]):
    """Samples with LLM-written negatives.

    Attributes:
        kept: Samples with the negatives that they had, and those that the LLM wrote; easiest first.
        left_out: Rows without a negative from the LLM, each with its reason.
        set_aside: LLM-written texts that did not pass the checks, each with its reason.
    """

    set_aside: Sequence[SetAside]

    @property
    def reasons(self) -> dict[str, int]:
        """How many rows were left out, and how many texts were set aside, for which reason; most first."""
        reasons = [row.reason for row in self.left_out] + [row.reason for row in self.set_aside]
        return dict(Counter(reasons).most_common())


def write_negatives(
    rows: Rows,
    *,
    llm: str | Mapping[str, Any] | Client,
    levels: int = 4,
    mode: Literal["auto", "one-call", "stepwise", "sibling"] = "auto",
    style_guard: bool = False,
    min_changed: int = 2,
    temperature: float | None = None,
    seed: int = 0,
    folder: Path | str | None = None,
) -> WrittenNegatives:
    """Has an LLM write negatives at graded levels for each (query, positive).

    Negatives that a row has already stay; the LLM writes the levels that they lack. What it writes is not yet verified:
    see ``finegrade.verify``.

    Args:
        rows: Queries with positives; see `finegrade.rows.Rows`.
        llm: A model that runs here, or the keys of [llm] in finegrade.toml for a server
            (``{"base_url": ..., "model": ...}``), or an object whose ``async complete(request)`` gives the reply.
        levels: How many, 2 to 8; the highest is the hardest.
        mode: "one-call", all levels in one reply, for capable LLMs; "stepwise", a request for each level; "sibling",
            only the hardest level, the positive rewritten for a near query among the rows. "auto": "sibling" for a
            small LLM or one that runs here, else "one-call".
        style_guard: Whether the LLM also rephrases the positives, so that style does not give the negatives away.
        min_changed: Meaningful words in which a negative must differ from the positive.
        temperature: None: 0.2 in mode sibling, else 1.
        seed: Of the draws, and of the LLM's sampling.
        folder: Where requests and replies are kept, so that nothing is asked twice. None: nowhere.

    Returns:
        Samples with negatives, and what was left out and why.

    Raises:
        InputError: A row or value is wrong, or the LLM cannot be had.

    Examples:
        >>> from finegrade import write_negatives
        >>> class Scripted:
        ...     async def complete(self, request):
        ...         return '{"flaw_2": "another city", "level_2": "Lyon, on the Rhone, is a big city.", ' \\
        ...             '"flaw_1": "about food", "level_1": "Bread is baked from flour and water."}'
        >>> rows = [{"query": "capital of France", "positive": "Paris, on the Seine, is the capital."}]
        >>> written = write_negatives(rows, llm=Scripted(), levels=2)
        >>> [(negative.level, negative.text) for negative in written.kept[0].negatives]
        [(1, 'Bread is baked from flour and water.'), (2, 'Lyon, on the Rhone, is a big city.')]
    """
    given = llm_of(llm)
    is_small = isinstance(given, LLMConfig) and (not given.base_url or given.is_small)
    samples: dict[str, Sample] = {}
    left_out: list[LeftOut] = []
    for sample in as_samples(rows):
        if sample.id in samples:
            left_out.append(_left_out(sample, "repeats an earlier row", ""))
        samples.setdefault(sample.id, sample)
    settings = {
        "levels": levels,
        "mode": mode if mode != "auto" else "sibling" if is_small else "one-call",
        "style_guard": style_guard,
        "min_changed": min_changed,
        "temperature": temperature,
        "llm_samples": len(samples),
    }
    synthesis = parse_section(SynthesisConfig, settings, "write_negatives")
    orders = [_lacking(order, samples) for order in orders_for_seeds(_seeds(samples), synthesis, DrawsConfig(), seed)]
    written = beside_any_event_loop(lambda: asyncio.run(_write(orders, Writer(synthesis, given, seed), given, folder)))
    kept, set_aside = [], []
    for sample in samples.values():
        one = written.get(sample.id)
        set_aside += one.set_aside if one else []
        if one and one.draft and one.draft.negatives:
            negatives = fill_levels(sample.negatives, one.draft.negatives)
            kept.append(sample.model_copy(update={"positive": one.draft.positive, "negatives": negatives}))
        else:
            reason = "no negative that passed the checks" if one else "no near query to rewrite it for"
            left_out.append(_left_out(sample, reason, "; ".join(row.reason for row in one.set_aside) if one else ""))
    return WrittenNegatives(kept, left_out, set_aside)


async def _write(orders: Sequence[Order], writer: Writer, llm: LLM, folder: Path | str | None) -> dict[str, Written]:
    """Id of the seed -> what was written for it."""
    with ExitStack() as opened, progress("the LLM writes negatives", len(orders)) as meter:
        root = Path(folder or opened.enter_context(TemporaryDirectory()))
        ledger = opened.enter_context(Ledger(root / LEDGER, "synthesize"))
        found = {}
        async with aclosing(ask_each(orders, writer.write, llm, ledger, root / LLM_LOG)) as results:
            async for order, written in results:
                assert order.seed is not None
                found[order.seed.id] = written
                meter.advance()
    return found


def _seeds(samples: Mapping[str, Sample]) -> list[Seed]:
    """One for each sample; the other positives of its query are no negatives either."""
    positives: defaultdict[str, dict[str, None]] = defaultdict(dict)
    for sample in samples.values():
        positives[normalised(sample.query)][sample.positive] = None
    return [
        Seed(id=key, query=one.query, positives=tuple(dict.fromkeys((one.positive, *positives[normalised(one.query)]))),
             group=one.group)
        for key, one in samples.items()
    ]  # fmt: skip


def _lacking(order: Order, samples: Mapping[str, Sample]) -> Order:
    """The order without the levels that its row has."""
    assert order.seed is not None
    there = {negative.level for negative in samples[order.seed.id].negatives}
    return replace(order, sources={level: source for level, source in order.sources.items() if level not in there})


def _left_out(sample: Sample, reason: str, evidence: str) -> LeftOut:
    return LeftOut(sample=sample.id, query=sample.query, positive=sample.positive, reason=reason, evidence=evidence)


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
