"""The life of a batch: filled and written down, handed in, waited for, and what came of it kept.

A batch is in the ledger, with its requests and under a name of its own, before it is made; the name is in the batch's
metadata at the server. So whatever ends this process, the next one finds the batch, and nothing is asked twice.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from functools import partial

from finegrade.console import clock, say
from finegrade.errors import InputError
from finegrade.llm.accounts import Budget
from finegrade.llm.batch.files import MOST_BYTES, MOST_REQUESTS, Results, request_line, sort_out
from finegrade.llm.batch.server import OVER, BatchServer, NotMadeError, State
from finegrade.llm.connection import Way
from finegrade.llm.errors import explain_status
from finegrade.llm.ledger import Commits, Ledger
from finegrade.llm.request import ChatRequest

_OPEN = "open"


@dataclass(frozen=True)
class BatchRow:
    """A batch.

    Attributes:
        name: Ours, and in the batch's metadata at the server: there it is found again.
        keys: Of the requests in it, in no order.
        way: How they are said.
        id: The server's; None where it is not known whether the batch was made.
    """

    name: str
    keys: frozenset[str]
    way: Way
    id: str | None = None


def intend(ledger: Ledger, row: BatchRow) -> None:
    """Writes down a batch that is about to be made."""
    way = {"form": row.way.form, "unknown": sorted(row.way.unknown)}
    ledger.execute(
        "INSERT INTO batches (name, purpose, handed_in, way, keys, state) VALUES (?, ?, ?, ?, ?, ?)",
        (row.name, ledger.purpose, time.time(), json.dumps(way), json.dumps(sorted(row.keys)), _OPEN),
    )


def made(ledger: Ledger, name: str, id: str) -> None:
    """Writes down what the server calls a batch."""
    ledger.execute("UPDATE batches SET id = ? WHERE name = ?", (id, name))


def end(ledger: Ledger, name: str, state: str) -> None:
    """Writes down how a batch has ended; whatever came of its requests is written down with it."""
    ledger.execute("UPDATE batches SET state = ? WHERE name = ?", (state, name))


def open_batches(ledger: Ledger) -> list[BatchRow]:
    """Batches whose end is not written down, of all purposes, the oldest first."""
    rows = ledger.execute("SELECT name, keys, way, id FROM batches WHERE state = ? ORDER BY handed_in", (_OPEN,))
    found = []
    for name, keys, way, id in rows.fetchall():
        said = json.loads(way)
        found.append(BatchRow(name, frozenset(json.loads(keys)), Way(said["form"], frozenset(said["unknown"])), id))
    return found


def open_at(ledger: Ledger, server: str) -> list[BatchRow]:
    """Open batches that hold requests to a server, without a reply."""
    rows = open_batches(ledger)
    return [row for row in rows if any(one.server == server for one in unanswered(ledger, row).values())]


def unanswered(ledger: Ledger, row: BatchRow) -> dict[str, ChatRequest]:
    """The requests of a batch that have no reply: one may have been asked again in another way meanwhile."""
    found = {}
    for key in sorted(row.keys):
        one = ledger.execute("SELECT request FROM requests WHERE key = ? AND reply IS NULL", (key,)).fetchone()
        if one:
            found[key] = ChatRequest.model_validate_json(one[0])
    return found


POLL_FIRST, POLL_LONGEST, POLL_GROWTH = 2.0, 60.0, 1.3
"""Seconds between looks at a batch."""

_TOO_MANY_TOKENS = "token_limit_exceeded"
"""OpenAI's word for a batch that, with the others that wait, is more than the account may have waiting."""

_TOLD_EACH = 0.1  # of a batch
_KEPT = "Replies so far are kept."


class BatchRunner:
    """Runs one batch at a time.

    Attributes:
        most: Requests in a batch, at most.
    """

    def __init__(self, server: BatchServer, ledger: Ledger, budget: Budget) -> None:
        self.most = MOST_REQUESTS
        self._server, self._ledger, self._budget = server, ledger, budget
        self._commits = Commits(ledger.path, ledger.purpose)
        self._under_way = False

    async def close(self) -> None:
        """Closes the connections and the ledger's writer; a batch that is under way goes on at the server."""
        if self._under_way:
            self._say(f"the batch goes on at {self._server.host}; the same command waits for it and pays nothing twice")
        await self._server.close()
        self._commits.close()

    async def adopt(self, keys: Collection[str]) -> BatchRow | None:
        """An open batch of an earlier session that holds some of these requests, or any that this server was asked:
        those are paid for, too. None where there is none.

        Raises:
            InputError: The server does not answer.
        """
        ours = [row for row in open_batches(self._ledger) if not row.keys.isdisjoint(keys)]
        for row in [*ours, *open_at(self._ledger, self._server.base_url)]:
            requests = unanswered(self._ledger, row)
            for _ in requests:
                self._budget.take_up()
            if row.id is None and (id := await self._server.find(row.name)):
                await self._commits.write(partial(made, name=row.name, id=id))
                row = replace(row, id=id)
            if row.id is None and row.keys.isdisjoint(keys):  # never made, and nobody wants it any more
                await self._keep(row, requests, Results(unasked=list(requests)), "not made")
                continue
            self._say(f"goes on with a batch of {len(requests):,} requests of an earlier session")
            return row
        return None

    async def fill(self, requests: Mapping[str, ChatRequest], way: Way) -> BatchRow:
        """A new batch of as many requests as it may hold, written down.

        Raises:
            InputError: The budget does not allow for a single one.
        """
        taken: dict[str, ChatRequest] = {}
        size = 0
        for key, request in requests.items():
            size += len(request_line(key, request, way))
            refusal = self._budget.refusal(request)
            if taken and (refusal or len(taken) >= self.most or size > MOST_BYTES):
                break
            if refusal:
                raise refusal
            await self._budget.reserve(request)
            taken[key] = request
        row = BatchRow(secrets.token_hex(16), frozenset(taken), way)

        def write(ledger: Ledger) -> None:
            for key, request in taken.items():
                ledger.asked(key, request.model_dump(mode="json"))
            intend(ledger, row)

        await self._commits.write(write)
        return row

    async def run(self, row: BatchRow) -> Results:
        """What comes of a batch, when it is over and all of it is kept.

        Nothing at all where the server will not have so many requests at once: the next batch has half as many.

        Raises:
            InputError: The server cannot be reached, refuses the key or the batch, has no Batch API, or the batch was
                cancelled there.
        """
        requests = unanswered(self._ledger, row)
        self._under_way = True
        state = await self._until_over(row.id or await self._hand_in(row, requests), len(requests))
        if state.status == "failed":  # as a whole, before anything was asked
            results = Results(unasked=list(requests))
        else:
            lines, useless = await self._server.lines(state, requests.keys())
            if useless:
                self._say(f"{useless:,} lines of what came of the batch are of no use")
            results = sort_out(requests, lines, self._server.hide)
        await self._keep(row, requests, results, state.status)
        if results.fatal:
            raise explain_status(self._server.host, results.fatal)
        if state.status == "cancelled":
            remedy = f"Run the same command again to ask what has no reply yet. {_KEPT}"
            raise self._wrong("a cancelled one", remedy)
        return self._smaller(state, len(requests)) if state.status == "failed" else results

    async def _hand_in(self, row: BatchRow, requests: Mapping[str, ChatRequest]) -> str:
        content = b"".join(request_line(key, request, row.way) for key, request in requests.items())
        try:
            id = await self._server.make(row.name, content)
        except NotMadeError as error:
            await self._keep(row, requests, Results(unasked=list(requests)), "not made")
            raise error.told from None
        await self._commits.write(lambda ledger: made(ledger, row.name, id))
        self._say(
            f"a batch of {len(requests):,} requests is under way at {self._server.host} (finegrade = {row.name} in its "
            f"metadata), over within a day; Ctrl-C is safe: it goes on there, and the same command goes on with it"
        )
        return id

    async def _until_over(self, id: str, total: int) -> State:
        """Looks at a batch again and again, and tells how far it is."""
        began, pause, told, first = time.monotonic(), POLL_FIRST, 0, None
        while (state := await self._server.state(id)).status not in OVER:
            first = state.done if first is None else first
            if state.done - told >= _TOLD_EACH * total:
                told, spent, fresh = state.done, time.monotonic() - began, state.done - first
                left = f", {clock(spent / fresh * (total - state.done))} left" if fresh > 0 else ""
                self._say(f"{state.done:,} of {total:,} requests of the batch are done, {clock(spent)} spent{left}")
            await asyncio.sleep(pause)
            pause = min(POLL_GROWTH * pause, POLL_LONGEST)
        return state

    async def _keep(self, row: BatchRow, requests: Mapping[str, ChatRequest], results: Results, state: str) -> None:
        """Writes down what came of a batch, all at once, and settles what it cost."""
        results.replies = {
            key: reply.model_copy(update={"cost": self._budget.price(reply)}) for key, reply in results.replies.items()
        }
        free = [*results.refused, *results.unasked]

        def write(ledger: Ledger) -> None:
            for key, reply in results.replies.items():
                ledger.replied(key, reply)
            for key in free:
                ledger.withdraw(key)
            end(ledger, row.name, state)

        await self._commits.write(write)
        self._under_way = False
        for key, reply in results.replies.items():
            self._budget.settle(requests[key], reply)
        for key in free:
            self._budget.release(requests[key])
        for _ in results.lost:
            self._budget.lose()

    def _smaller(self, state: State, number: int) -> Results:
        """After a batch that the server would not begin with."""
        if number == 1 or not state.failed_with(_TOO_MANY_TOKENS):
            remedy = f"The server's page of the batch says why; check llm.model and your quota. {_KEPT}"
            raise self._wrong("a refusal as a whole", remedy)
        self.most = number // 2
        self._say(f"the server takes no batch of {number:,} requests now; the next has half as many")
        return Results()

    def _wrong(self, got: str, remedy: str) -> InputError:
        return InputError(f"the batch at {self._server.host}", got=got, wanted="one that is answered", remedy=remedy)

    def _say(self, text: str) -> None:
        say(f"{self._ledger.purpose}: {text}")
