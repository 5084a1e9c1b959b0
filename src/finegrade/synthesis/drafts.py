"""Orders become drafts: on the disk, in parts, each made once; or in memory, for rows that a caller has."""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from finegrade.config import DrawsConfig, LLMConfig, SynthesisConfig
from finegrade.config.toml import parse_section
from finegrade.console import progress
from finegrade.errors import InputError
from finegrade.llm.ledger import Ledger
from finegrade.llm.request import FAILED, REFUSED
from finegrade.llm.session import LLM, Ask, Client, ask_each, beside_any_event_loop, llm_of
from finegrade.llm.structured import UNFINISHED
from finegrade.records import LeftOut, Sample, Seed, SetAside
from finegrade.retrieval.mining import fill_levels
from finegrade.rows import Result, Rows, as_samples
from finegrade.storage.run_folder import DRAFTS, LEDGER, LLM_LOG, RunFolder
from finegrade.storage.tables import Row, about, iterate_rows, part_path, write_rows
from finegrade.synthesis.requests import Order, orders_for_seeds
from finegrade.synthesis.writer import Draft, Writer, Written
from finegrade.text import normalised

USELESS_FROM_THE_START = 100
"""Samples without anything of use from which the LLM is asked for no more."""

_MADE_FOR, _UNANSWERED = "finegrade", "unanswered"
_NO_ANSWER = (UNFINISHED[REFUSED], UNFINISHED[FAILED])


class Drafts:
    """The folder of drafts of a run.

    Args:
        run: The run folder.
        made_for: Fingerprint of all that the drafts depend on; parts that were made for another are made again.
        rows_a_part: Orders a part.
        number: Orders in all.
    """

    def __init__(self, run: RunFolder, made_for: str, rows_a_part: int, number: int) -> None:
        self._folder, self._made_for = run.path(DRAFTS), made_for
        self.rows_a_part, self.number = rows_a_part, number
        self._parts = range(-(-number // rows_a_part))

    def missing(self) -> list[int]:
        """The parts that are not finished, or hold requests that a server did not answer and may answer now."""
        return [part for part in self._parts if not self._has(part)]

    def size(self, part: int) -> int:
        """How many orders a part has."""
        return min(self.rows_a_part, self.number - part * self.rows_a_part)

    def write(self, part: int, written: Iterable[Written]) -> None:
        """Finishes a part."""
        rows = list(written)
        set_aside = [row for one in rows for row in one.set_aside]
        write_rows(part_path(self._set_aside, part), set_aside, SetAside)
        drafts = (one.draft for one in rows if one.draft)
        unanswered = sum(row.reason.endswith(_NO_ANSWER) for row in set_aside)
        # last: it says that both are there
        about_it = {_MADE_FOR: self._made_for, _UNANSWERED: str(unanswered)}
        write_rows(part_path(self._folder, part), drafts, Draft, about_it)

    def read(self) -> Iterator[Draft]:
        """All drafts, in order."""
        for part in self._parts:
            yield from self._rows(part, self._folder, Draft)

    def set_aside(self) -> Iterator[SetAside]:
        """All that was set aside, in order."""
        for part in self._parts:
            yield from self._rows(part, self._set_aside, SetAside)

    def _rows(self, part: int, folder: Path, kind: type[Row]) -> Iterator[Row]:
        """The rows of a part; a damaged one is removed, for the next run to make again."""
        try:
            yield from iterate_rows(part_path(folder, part), kind)
        except InputError as error:
            part_path(self._folder, part).unlink(missing_ok=True)
            remedy = "Run the same command again: that part is made again, out of the ledger."
            raise InputError(error.what, got=error.got, wanted=error.wanted, remedy=remedy) from None

    def _has(self, part: int) -> bool:
        return about(part_path(self._folder, part)) == {_MADE_FOR: self._made_for, _UNANSWERED: "0"}

    @property
    def _set_aside(self) -> Path:
        return self._folder / "set_aside"


def _of_no_use(reasons: Counter[str]) -> InputError:
    got = f"nothing of use in its first {USELESS_FROM_THE_START} samples, most often: {reasons.most_common(1)[0][0]}"
    remedy = "Name another llm.model or synthesis.mode; what it wrote is in the ledger, and is not asked again."
    return InputError("the LLM's samples", got=got, wanted="texts that pass the checks", remedy=remedy)


def write_drafts(
    orders: Iterable[Order], drafts: Drafts, writer: Writer, llm: LLMConfig, ledger: Ledger, log: Path
) -> None:
    """Writes the parts that are not there yet."""
    if missing := drafts.missing():
        asyncio.run(_write(orders, frozenset(missing), drafts, writer, llm, ledger, log))


async def _write(
    orders: Iterable[Order], missing: frozenset[int], drafts: Drafts, writer: Writer, llm: LLMConfig, ledger: Ledger,
    log: Path,
) -> None:  # fmt: skip
    rows = drafts.rows_a_part
    todo = ((index, order) for index, order in enumerate(orders) if index // rows in missing)
    done = drafts.number - sum(map(drafts.size, missing))

    async def talk(ask: Ask, item: tuple[int, Order]) -> Written:
        return await writer.write(ask, item[1])

    part: list[Written] = []
    reasons: Counter[str] = Counter()
    looked_at = useless = 0
    with progress("the LLM writes samples", drafts.number, done) as meter:
        async with aclosing(ask_each(todo, talk, llm, ledger, log)) as results:
            async for (index, _), written in results:
                part.append(written)
                reasons.update(row.reason for row in written.set_aside)
                useless += useless == looked_at and not written.is_of_use
                looked_at += 1
                if useless == USELESS_FROM_THE_START:
                    raise _of_no_use(reasons)
                meter.advance()
                meter.note(f"{reasons.total():,} set aside")
                if len(part) == drafts.size(index // rows):
                    drafts.write(index // rows, part)
                    part = []


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
    written = beside_any_event_loop(
        lambda: asyncio.run(_write_all(orders, Writer(synthesis, given, seed), given, folder))
    )
    kept, set_aside = [], []
    for sample in samples.values():
        one = written.get(sample.id)
        set_aside += one.set_aside if one else []
        if one and one.draft and one.draft.negatives:
            negatives = fill_levels(sample.negatives, one.draft.negatives)
            kept.append(sample.model_copy(update={"positive": one.draft.positive, "negatives": negatives}))
        elif sample.negatives:  # those that the row has stay
            kept.append(sample)
        else:
            reason = "no negative that passed the checks" if one else "no near query to rewrite it for"
            left_out.append(_left_out(sample, reason, "; ".join(row.reason for row in one.set_aside) if one else ""))
    return WrittenNegatives(kept, left_out, set_aside)


async def _write_all(
    orders: Sequence[Order], writer: Writer, llm: LLM, folder: Path | str | None
) -> dict[str, Written]:
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
