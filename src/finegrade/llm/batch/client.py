"""Asks through a server's Batch API: requests are collected, handed in together, and answered within a day."""

import asyncio
from dataclasses import dataclass

from finegrade.errors import InputError
from finegrade.llm.accounts import Budget
from finegrade.llm.batch.files import Results
from finegrade.llm.batch.runner import BatchRunner
from finegrade.llm.batch.server import BatchServer
from finegrade.llm.client import LedgerFirst, Tally
from finegrade.llm.connection import Dialect, Way
from finegrade.llm.ledger import Ledger, Reply
from finegrade.llm.request import FAILED, REFUSED, ChatRequest, without_text

LINGER = 1.0
"""Seconds without a new request after which those that are there go into a batch."""

BATCHES_EACH = 3
"""Batches that one request is put into where nothing comes of it; then it is set aside."""


@dataclass
class _Waiting:
    request: ChatRequest
    reply: asyncio.Future[Reply]
    batches: int = 0  # that it was in, for nothing


class BatchClient(LedgerFirst):
    """Asks an OpenAI-compatible server in batches, one at a time.

    A request of which nothing comes in batch after batch, while others are answered, counts as failed.

    Use it where nothing else writes to the ledger's file.
    """

    def __init__(self, server: BatchServer, ledger: Ledger, budget: Budget, tally: Tally | None = None) -> None:
        super().__init__(tally)
        self._host, self._ledger = server.host, ledger
        self._tally.host = server.host
        self._runner, self._dialect = BatchRunner(server, ledger, budget), Dialect()
        self._waiting: dict[str, _Waiting] = {}
        self._came_in = asyncio.Event()
        self._worker: asyncio.Task[None] | None = None
        self._failure: Exception | None = None

    async def _find(self, key: str) -> Reply | None:
        if self._failure:
            raise self._failure
        return self._ledger.find(key)

    async def _ask(self, key: str, request: ChatRequest) -> Reply:
        if key not in self._waiting:
            self._waiting[key] = _Waiting(request, asyncio.get_running_loop().create_future())
            self._came_in.set()
            self._worker = self._worker or asyncio.ensure_future(self._work())
        return await asyncio.shield(self._waiting[key].reply)  # who asks may be stopped, and another ask the same

    async def close(self) -> None:
        """Closes the connections and the ledger's writer; a batch that is under way goes on at the server."""
        if self._worker:
            self._worker.cancel()
            await asyncio.gather(self._worker, return_exceptions=True)
        await self._runner.close()

    async def _work(self) -> None:
        """One batch after the other."""
        try:
            while True:
                await self._until_all_are_in()
                row = await self._runner.adopt(self._waiting.keys())
                if row is None:
                    requests = {key: waiting.request for key, waiting in self._waiting.items()}
                    row = await self._runner.fill(requests, self._dialect.way)
                self._hand_out(await self._runner.run(row), row.way)
        except Exception as error:  # whatever it is, who waits must hear of it
            self._failure = error
            for waiting in self._waiting.values():
                waiting.reply.set_exception(error)
                waiting.reply.exception()  # there may be nobody left who asks

    async def _until_all_are_in(self) -> None:
        if not self._waiting:
            await self._came_in.wait()
        while len(self._waiting) < self._runner.most:
            self._came_in.clear()
            try:
                await asyncio.wait_for(self._came_in.wait(), LINGER)
            except TimeoutError:
                return

    def _hand_out(self, results: Results, way: Way) -> None:
        """Gives those who wait what came of a batch; what waits on goes into the next one.

        Raises:
            InputError: Nobody is answered.
        """
        self._tally.answered += len(results.replies)
        for key, reply in results.replies.items():
            self._give(key, reply)
        if results.replies:
            self._dialect.taken(way)
        if not self._says_otherwise(results, way):
            self._tally.unanswered += len(results.refused)
            for key in results.refused:
                self._give(key, without_text(REFUSED))
        for key in (*results.unasked, *results.lost):
            self._again(key)

    def _says_otherwise(self, results: Results, way: Way) -> bool:
        """Whether all was refused, and the next batch says it in another way.

        A batch is said in one way, and what is refused beside something that is answered is refused for good.
        """
        if not results.refused or results.replies or results.unasked or results.lost:
            return False
        other = self._dialect.other(way, next(iter(results.refused.values())))
        self._dialect.way = other or way
        return other is not None

    def _give(self, key: str, reply: Reply) -> None:
        waiting = self._waiting.pop(key, None)  # nobody waits for all that an earlier session asked
        if waiting:
            waiting.reply.set_result(reply)

    def _again(self, key: str) -> None:
        waiting = self._waiting.get(key)
        if waiting is None:
            return
        waiting.batches += 1
        if waiting.batches < BATCHES_EACH:
            return
        if not self._tally.known:
            got, remedy = f"nothing in {BATCHES_EACH} batches", "See to the batches at the server: they say why."
            raise InputError(f"the LLM at {self._host}", got=got, wanted="replies", remedy=remedy)
        self._give(key, without_text(FAILED))
