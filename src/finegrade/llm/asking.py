"""Opens the LLM that a configuration names, and asks it about many things, with the answers in order."""

import asyncio
import os
from collections import deque
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

from finegrade.config import LLMConfig, user_path
from finegrade.console import say
from finegrade.errors import InputError
from finegrade.fetching import model_identity, model_path
from finegrade.llm.budget import Budget
from finegrade.llm.client import REFUSED, LLMClient
from finegrade.llm.embedded import EmbeddedServer
from finegrade.llm.ledger import Ledger, Reply
from finegrade.llm.request import ChatRequest

T = TypeVar("T")


def model_name(config: LLMConfig) -> str:
    """What requests call the model: the server's own name, or name and content of the embedded one."""
    return config.model if config.base_url else model_identity(config.model)


def reply_settings(config: LLMConfig) -> dict[str, Any]:
    """What of the configuration decides what is asked and answered, for fingerprints."""
    server = {"base_url": config.base_url} if config.base_url else {"context": config.context}
    return {"model": model_name(config)} | server


@asynccontextmanager
async def open_llm(config: LLMConfig, ledger: Ledger, log: Path) -> AsyncIterator[LLMClient]:
    """The remote LLM where the configuration names one, else the embedded one, alive for this block only.

    Args:
        config: Names the LLM.
        ledger: Where requests and replies are kept.
        log: Where the embedded server's own log goes.

    Raises:
        InputError: The model cannot be had, or the server does not start.
    """
    server: AbstractContextManager[Any]
    if config.base_url:
        base_url, key, server = config.base_url, _key(config.api_key_env), nullcontext()
        lost = "Start the server, or correct llm.base_url."
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
    with server:
        if not config.base_url:
            base_url, key = embedded.base_url, embedded.api_key
        client = LLMClient(base_url, key, ledger, config.timeout, Budget(config, ledger), lost=lost)
        try:
            yield client
        finally:
            await client.close()


def _key(variable: str | None) -> str:
    if variable is None:
        return "none"  # the client library insists on one
    key = os.environ.get(variable, "")
    if not key:
        remedy = "Export it, or leave llm.api_key_env out for a server that asks for no key."
        raise InputError("llm.api_key_env", got=f"{variable}, which is not set", wanted="a key in it", remedy=remedy)
    return key


async def ask_each(
    items: Iterable[T], request_of: Callable[[T], ChatRequest], config: LLMConfig, ledger: Ledger, log: Path
) -> AsyncGenerator[tuple[T, Reply]]:
    """Asks about one item after another, ``llm.concurrency`` at once.

    Yields each item with its reply in the order of the items, so that the result depends on no clock. Use it inside
    ``contextlib.aclosing``: when you have enough, what is under way is waited for and kept in the ledger.

    Args:
        items: What to ask about.
        request_of: Makes the request for one.
        config: Names the LLM.
        ledger: Where requests and replies are kept; what it holds is not asked again.
        log: Where the embedded server's own log goes.

    Raises:
        InputError: The LLM cannot be had, or it refused every single request.
    """
    if held := int(ledger.totals()["replies"]):
        say(f"{ledger.purpose}: continues, the ledger holds {held} replies; what it holds is not asked again")
    async with open_llm(config, ledger, log) as client:
        waiting: deque[tuple[T, asyncio.Task[Reply]]] = deque()
        left = iter(items)
        refused = answered = 0
        try:
            while True:
                for item in islice(left, config.concurrency - len(waiting)):
                    waiting.append((item, asyncio.ensure_future(client.complete(request_of(item)))))
                if not waiting:
                    break
                item, task = waiting.popleft()
                reply = await task
                refused += reply.finish_reason == REFUSED
                answered += reply.finish_reason != REFUSED
                yield item, reply
            if refused and not answered:
                remedy = "Check llm.model and the server's log: it may not take the requests' form."
                got = f"a refusal of all {refused} requests"
                raise InputError("the LLM", got=got, wanted="replies", remedy=remedy)
        except GeneratorExit:  # enough: what is under way is paid for, so it goes into the ledger
            await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)
            raise
        finally:
            for _, task in waiting:
                task.cancel()
            await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)
