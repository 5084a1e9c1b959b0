"""Opens the LLM that is configured and asks it many things, in order; also from code that is not async."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import (
    AbstractContextManager,
    AsyncExitStack,
    ExitStack,
    aclosing,
    asynccontextmanager,
    closing,
    nullcontext,
)
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

from finegrade.config import LLMConfig, user_path
from finegrade.config.toml import parse_section
from finegrade.console import say
from finegrade.errors import InputError
from finegrade.llm.accounts import Budget, LedgerAndBudget, LocalLedger
from finegrade.llm.batch.client import BatchClient
from finegrade.llm.batch.files import MOST_REQUESTS
from finegrade.llm.batch.runner import open_at
from finegrade.llm.batch.server import BatchServer
from finegrade.llm.client import LedgerFirst, LLMClient, Tally
from finegrade.llm.embedded import EmbeddedServer
from finegrade.llm.ledger import Ledger, Reply
from finegrade.llm.request import ChatRequest, RequestSettings
from finegrade.models.resolve import model_identity, model_path

T = TypeVar("T")
R = TypeVar("R")
Ask = Callable[[ChatRequest], Awaitable[Reply]]

AHEAD = 4
"""Items that are talked about at once, in requests that may be under way: a slow one at the head holds up no others."""

_UNREACHED = "Start the server, or correct llm.base_url."


class Client(Protocol):
    """An LLM of the caller's own."""

    async def complete(self, request: ChatRequest) -> Reply | str:
        """The reply to a request, or its text."""


LLM = LLMConfig | Client


def llm_of(llm: str | Mapping[str, Any] | Client) -> LLM:
    """The LLM that a caller names.

    Args:
        llm: A model that runs here; the keys of [llm] in finegrade.toml, for a server; or an object with ``complete``.

    Raises:
        InputError: The keys are wrong.
    """
    if hasattr(llm, "complete"):
        return llm
    return parse_section(LLMConfig, {"model": llm} if isinstance(llm, str) else llm, "llm")


def beside_any_event_loop(call: Callable[[], R]) -> R:
    """Calls a function that runs an event loop: in a thread where one is running already, as in a notebook."""
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return call()
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(call).result()


def model_name(config: LLMConfig) -> str:
    """What requests call the model: the server's own name, or name and content of the embedded one."""
    return config.model if config.base_url else model_identity(config.model)


def reply_settings(config: LLMConfig) -> dict[str, Any]:
    """What of the configuration decides what is asked and answered, for fingerprints."""
    server = {"base_url": config.base_url} if config.base_url else {"context": config.context}
    thinking = {"thinking_tokens": config.thinking_tokens, "parameters": config.parameters}
    return {"model": model_name(config)} | server | {name: value for name, value in thinking.items() if value}


def request_settings(config: LLM, temperature: float, seed: int) -> RequestSettings:
    """What the requests of a stage have in common."""
    if not isinstance(config, LLMConfig):
        name = type(config).__name__
        return RequestSettings(model=name, server=name, temperature=temperature, seed=seed)
    return RequestSettings(
        model=model_name(config),
        server=config.base_url or "",
        temperature=temperature,
        seed=seed,
        thinking_tokens=config.thinking_tokens,
        parameters=config.parameters,
    )


@asynccontextmanager
async def open_llm(
    config: LLMConfig, ledger: Ledger, log: Path, tally: Tally | None = None
) -> AsyncIterator[LLMClient | BatchClient]:
    """The remote LLM where the configuration names one, else the embedded one, alive for this block only.

    Raises:
        InputError: The model cannot be had, or the server does not start.
    """
    server: AbstractContextManager[Any]
    if config.base_url:
        base_url, key, server, lost = config.base_url, _key(config.api_key_env), nullcontext(), _UNREACHED
    else:
        if config.model.count("/") == 1 and not user_path(config.model).exists():
            got, wanted = config.model, "one .gguf file of it"
            raise InputError("llm.model", got=got, wanted=wanted, remedy="Write owner/name/file.gguf.")
        path = model_path(config.model)
        if path.suffix != ".gguf":
            wanted = "a .gguf file"
            raise InputError("llm.model", got=path, wanted=wanted, remedy="Or name a server with llm.base_url.")
        server = embedded = EmbeddedServer(path, config.context, log)
        lost = f"The embedded LLM has ended; see {log}. Run the same command again."
    with server, ExitStack() as opened:
        if not config.base_url:
            base_url, key = embedded.base_url, embedded.api_key
        budget = Budget(config, ledger)
        client: LLMClient | BatchClient
        if config.batch:
            client = BatchClient(BatchServer(base_url, key, config.timeout, lost), ledger, budget, tally)
        else:
            local = opened.enter_context(closing(LocalLedger(ledger, budget)))
            client = LLMClient(base_url, key, local, config.timeout, lost, config.concurrency, tally)
        try:
            yield client
        finally:
            await client.close()


def server_client(config: LLMConfig, ledger: LedgerAndBudget) -> LLMClient:
    """A client of the server that ``llm.base_url`` names; its key is read from this process's environment.

    Raises:
        InputError: There is no key, or none that can be sent.
    """
    assert config.base_url
    key = _key(config.api_key_env)
    return LLMClient(config.base_url, key, ledger, config.timeout, _UNREACHED, config.concurrency)


def _key(variable: str | None) -> str:
    if variable is None:
        return "none"  # the client library insists on one
    key = os.environ.get(variable, "")
    if not key:
        remedy = "Export it, or leave llm.api_key_env out for a server that asks for no key."
        named = variable if "_" in variable and variable.isupper() else "a name"  # else it may be the key itself
        raise InputError("llm.api_key_env", got=f"{named}, which is not set", wanted="a key in it", remedy=remedy)
    return key


def take_up(config: LLMConfig, ledger: Ledger) -> None:
    """Says so where an earlier session has asked already.

    Raises:
        InputError: Its batch is still under way at the server that would be asked directly now, and paid twice.
    """
    if not config.batch:
        _need_no_batch(config, ledger)
    if held := int(ledger.totals()["replies"]):
        say(f"{ledger.purpose}: continues, the ledger holds {held} replies; what it holds is not asked again")


def _need_no_batch(config: LLMConfig, ledger: Ledger) -> None:
    for row in open_at(ledger, config.base_url or ""):
        got = f"false, while a batch of {len(row.keys):,} requests is under way there (finegrade = {row.name})"
        remedy = "Set llm.batch = true; to give the batch up, cancel it at the server and run once with true."
        raise InputError("llm.batch", got=got, wanted="true until it is over", remedy=remedy)


async def ask_each(
    items: Iterable[T], talk: Callable[[Ask, T], Awaitable[R]], config: LLM, ledger: Ledger, log: Path
) -> AsyncGenerator[tuple[T, R]]:
    """Talks with the LLM about one item after another, with at most ``llm.concurrency`` requests under way, or in
    batches.

    Yields each item with what came of it in the order of the items, so that the result depends on no clock. Use it
    inside ``contextlib.aclosing``.

    Args:
        items: What to talk about.
        talk: Asks about one of them, as often as it needs to.
        config: Names the LLM; or the LLM itself, whose replies are not kept.
        ledger: Where requests and replies are kept; what it holds is not asked again.
        log: Where the embedded server's own log goes.

    Raises:
        InputError: The LLM cannot be had, or it refused every single request; or an earlier session's batch is still
            under way there.
    """
    client: LLMClient | BatchClient | None = None
    ask: Ask
    async with AsyncExitStack() as opened:
        if isinstance(config, LLMConfig):
            take_up(config, ledger)
            client = await opened.enter_async_context(open_llm(config, ledger, log))
            ask, most = client.complete, ahead_of(config)
        else:
            ask, most = _asking(config), AHEAD
        async with aclosing(in_order(items, talk, ask, most)) as results:
            async for result in results:
                yield result
        if client:
            client.check_some_were_answered()


def _asking(client: Client) -> Ask:
    async def ask(request: ChatRequest) -> Reply:
        reply = await client.complete(request)
        if isinstance(reply, Reply):
            return reply
        return Reply(text=reply, finish_reason="stop", prompt_tokens=0, completion_tokens=0, seconds=0)

    return ask


def ahead_of(config: LLMConfig) -> int:
    """How many items are talked about at once."""
    return MOST_REQUESTS if config.batch else AHEAD * config.concurrency


async def in_order(
    items: Iterable[T], talk: Callable[[Ask, T], Awaitable[R]], ask: Ask, most: int
) -> AsyncGenerator[tuple[T, R]]:
    """Talks about one item after another, and yields each with what came of it in the order of the items.

    Raises:
        InputError: The LLM cannot be had.
    """
    waiting: deque[tuple[T, asyncio.Task[R]]] = deque()
    left = iter(items)
    try:
        while True:
            for item in islice(left, most - len(waiting)):
                waiting.append((item, asyncio.ensure_future(talk(ask, item))))
            if not waiting:
                break
            item, task = waiting[0]
            result = await asyncio.shield(task)  # stopped with the others, so that none of them takes its place
            waiting.popleft()
            yield item, result
    finally:
        for _, task in waiting:
            task.cancel()
        await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)


class Session:
    """Talks with the LLM again and again; a context manager. Nothing is opened before it is used."""

    def __init__(self, config: LLMConfig, ledger: Path, purpose: str, log: Path) -> None:
        self._config, self._path, self._purpose, self._log = config, ledger, purpose, log
        self._runner, self._opened = asyncio.Runner(), AsyncExitStack()
        self._client: _LazyClient | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._client:
            with self._runner:
                self._runner.run(self._opened.aclose())

    def ask(self, items: Iterable[T], talk: Callable[[Ask, T], Awaitable[R]], done: Callable[[], None]) -> list[R]:
        """What came of each item, in order; see `finegrade.llm.session.ask_each`.

        Raises:
            InputError: See there.
        """
        return self._runner.run(self._ask(items, talk, done))

    async def _ask(
        self, items: Iterable[T], talk: Callable[[Ask, T], Awaitable[R]], done: Callable[[], None]
    ) -> list[R]:
        if self._client is None:
            ledger = self._opened.enter_context(Ledger(self._path, self._purpose))
            self._client = _LazyClient(self._config, ledger, self._log, self._opened)
        found = []
        async with aclosing(in_order(items, talk, self._client.complete, ahead_of(self._config))) as results:
            async for _, result in results:
                found.append(result)
                done()
        self._client.check_some_were_answered()
        return found


class _LazyClient(LedgerFirst):
    """Opens the LLM at the first request whose reply the ledger does not hold."""

    def __init__(self, config: LLMConfig, ledger: Ledger, log: Path, opened: AsyncExitStack) -> None:
        super().__init__()
        self._config, self._ledger, self._log, self._opened = config, ledger, log, opened
        self._opening: asyncio.Task[LLMClient | BatchClient] | None = None

    async def _find(self, key: str) -> Reply | None:
        return self._ledger.find(key) if self._opening is None else None  # else the client that is opened finds it

    async def _ask(self, key: str, request: ChatRequest) -> Reply:
        # once: where it fails, it fails for all who wait
        self._opening = self._opening or asyncio.ensure_future(self._open())
        return await (await asyncio.shield(self._opening)).complete(request)

    async def _open(self) -> LLMClient | BatchClient:
        take_up(self._config, self._ledger)
        return await self._opened.enter_async_context(open_llm(self._config, self._ledger, self._log, self._tally))
