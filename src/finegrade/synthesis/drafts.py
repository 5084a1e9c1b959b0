"""Orders become drafts on the disk: in parts; one that is finished is not made again."""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import aclosing
from pathlib import Path

from finegrade.config import LLMConfig
from finegrade.console import progress
from finegrade.errors import InputError
from finegrade.llm.ledger import Ledger
from finegrade.llm.request import FAILED, REFUSED
from finegrade.llm.session import Ask, ask_each
from finegrade.llm.structured import UNFINISHED
from finegrade.records import SetAside
from finegrade.storage.run_folder import DRAFTS, RunFolder
from finegrade.storage.tables import Row, about, iterate_rows, part_path, write_rows
from finegrade.synthesis.requests import Order
from finegrade.synthesis.writer import Draft, Writer, Written

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
    return InputError("the LLM's samples", got=got, wanted="texts that pass the gates", remedy=remedy)


def write_drafts(
    orders: Iterable[Order], drafts: Drafts, writer: Writer, llm: LLMConfig, ledger: Ledger, log: Path
) -> None:
    """Writes the parts that are not there yet.

    Args:
        orders: What to write, in order.
        drafts: Where the parts go.
        writer: Writes them.
        llm: Is asked.
        ledger: Where requests and replies are kept.
        log: Where the embedded server's log goes.
    """
    if missing := drafts.missing():
        asyncio.run(_write(orders, frozenset(missing), drafts, writer, llm, ledger, log))


async def _write(
    orders: Iterable[Order], missing: frozenset[int], drafts: Drafts, writer: Writer, llm: LLMConfig, ledger: Ledger,
    log: Path,
) -> None:  # fmt: skip
    rows = drafts.rows_a_part
    todo = ((place, order) for place, order in enumerate(orders) if place // rows in missing)
    done = drafts.number - sum(map(drafts.size, missing))

    async def talk(ask: Ask, item: tuple[int, Order]) -> Written:
        return await writer.write(ask, item[1])

    part: list[Written] = []
    reasons: Counter[str] = Counter()
    looked_at = useless = 0
    with progress("the LLM writes samples", drafts.number, done) as meter:
        async with aclosing(ask_each(todo, talk, llm, ledger, log)) as results:
            async for (place, _), written in results:
                part.append(written)
                reasons.update(row.reason for row in written.set_aside)
                useless += useless == looked_at and not written.is_of_use
                looked_at += 1
                if useless == USELESS_FROM_THE_START:
                    raise _of_no_use(reasons)
                meter.advance()
                meter.note(f"{reasons.total():,} set aside")
                if len(part) == drafts.size(place // rows):
                    drafts.write(place // rows, part)
                    part = []
