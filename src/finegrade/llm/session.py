"""The LLM for a stage that asks now and then, from code that is not async: opened once, and only if it is needed."""

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack, aclosing
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from finegrade.config import LLMConfig
from finegrade.llm.asking import Ask, ahead_of, in_order, open_llm, take_up
from finegrade.llm.batching import BatchClient
from finegrade.llm.client import LLMClient
from finegrade.llm.ledger import Ledger, Reply
from finegrade.llm.request import ChatRequest

T = TypeVar("T")
R = TypeVar("R")


class Session:
    """Talks with the LLM again and again; a context manager. Nothing is opened before it is used.

    Args:
        config: Names the LLM.
        ledger: The file of requests and replies; what it holds is not asked again.
        purpose: Whose requests these are: the stage's name.
        log: Where the embedded server's own log goes.
    """

    def __init__(self, config: LLMConfig, ledger: Path, purpose: str, log: Path) -> None:
        self._config, self._path, self._purpose, self._log = config, ledger, purpose, log
        self._runner, self._opened = asyncio.Runner(), AsyncExitStack()
        self._client: _LedgerFirst | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client:
            with self._runner:
                self._runner.run(self._opened.aclose())

    def ask(self, items: Iterable[T], talk: Callable[[Ask, T], Awaitable[R]], done: Callable[[], None]) -> list[R]:
        """What came of each item, in order; see `finegrade.llm.asking.ask_each`.

        Args:
            items: What to talk about.
            talk: Asks about one of them, as often as it needs to.
            done: Called when one more is done.

        Raises:
            InputError: See there.
        """
        return self._runner.run(self._ask(items, talk, done))

    async def _ask(
        self, items: Iterable[T], talk: Callable[[Ask, T], Awaitable[R]], done: Callable[[], None]
    ) -> list[R]:
        if self._client is None:
            ledger = self._opened.enter_context(Ledger(self._path, self._purpose))
            self._client = _LedgerFirst(self._config, ledger, self._log, self._opened)
        found = []
        async with aclosing(in_order(items, talk, self._client, ahead_of(self._config))) as results:
            async for _, result in results:
                found.append(result)
                done()
        return found


class _LedgerFirst:
    """Opens the LLM at the first request whose reply the ledger does not hold."""

    def __init__(self, config: LLMConfig, ledger: Ledger, log: Path, opened: AsyncExitStack) -> None:
        self._config, self._ledger, self._log, self._opened = config, ledger, log, opened
        self._found = 0
        self._opening: asyncio.Task[LLMClient | BatchClient] | None = None

    async def complete(self, request: ChatRequest) -> Reply:
        """The reply to a request; see `LLMClient`."""
        if self._opening is None:
            if reply := self._ledger.find(request.key()):
                self._found += 1
                return reply
            self._opening = asyncio.ensure_future(self._open())  # once: where it fails, it fails for all who wait
        return await (await asyncio.shield(self._opening)).complete(request)

    def check_some_were_answered(self) -> None:
        """See `LLMClient`."""
        if self._opening and self._opening.done():
            self._opening.result().check_some_were_answered()

    async def _open(self) -> LLMClient | BatchClient:
        take_up(self._config, self._ledger)
        client = await self._opened.enter_async_context(open_llm(self._config, self._ledger, self._log))
        client.count_found(self._found)
        return client
