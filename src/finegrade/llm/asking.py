"""Opens the LLM that a configuration names, and asks it many things at once with the answers in order."""

import asyncio
import os
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from pathlib import Path
from typing import Any

from finegrade.config import LLMConfig, user_path
from finegrade.errors import InputError
from finegrade.fetching import model_identity, model_path
from finegrade.llm.budget import Budget
from finegrade.llm.client import REFUSED, ChatClient, ChatRequest, LLMClient
from finegrade.llm.embedded import EmbeddedServer
from finegrade.llm.ledger import Ledger, Reply


def model_name(config: LLMConfig) -> str:
    """What requests call the model: the server's own name, or name and content of the embedded one."""
    return config.model if config.base_url else model_identity(config.model)


def reply_settings(config: LLMConfig) -> dict[str, Any]:
    """What of the configuration decides what is asked and answered, for fingerprints."""
    return {"model": model_name(config), "base_url": config.base_url}


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
    else:
        if config.model.count("/") == 1 and not user_path(config.model).exists():
            got, wanted = config.model, "one .gguf file of it"
            raise InputError("llm.model", got=got, wanted=wanted, remedy="Write owner/name/file.gguf.")
        path = model_path(config.model)
        if path.suffix != ".gguf":
            wanted = "a .gguf file"
            raise InputError("llm.model", got=path, wanted=wanted, remedy="Or name a server with llm.base_url.")
        server = embedded = EmbeddedServer(path, config.context, log)
    with server:
        if not config.base_url:
            base_url, key = embedded.base_url, embedded.api_key
        lost = (
            {} if config.base_url else {"lost": f"The embedded LLM has ended; see {log}. Run the same command again."}
        )
        client = LLMClient(base_url, key, ledger, config.timeout, Budget(config, ledger), **lost)
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


async def replies_in_order(
    client: ChatClient, requests: Iterable[ChatRequest], concurrency: int
) -> AsyncGenerator[Reply]:
    """Replies in the order of the requests, with ``concurrency`` of them under way: the result depends on no clock.

    Raises:
        InputError: The server refused every single request.
    """
    waiting: list[asyncio.Task[Reply]] = []
    left = iter(requests)
    refused = answered = 0
    try:
        while True:
            while len(waiting) < concurrency and (request := next(left, None)):
                waiting.append(asyncio.ensure_future(client.complete(request)))
            if not waiting:
                break
            reply = await waiting.pop(0)
            refused += reply.finish_reason == REFUSED
            answered += reply.finish_reason != REFUSED
            yield reply
        if refused and not answered:
            remedy = "Check llm.model and the server's log: it may not take the requests' form."
            got = f"a refusal of all {refused} requests"
            raise InputError("the LLM", got=got, wanted="replies", remedy=remedy)
    except GeneratorExit:  # enough: what is under way is paid for, so it goes into the ledger
        await asyncio.gather(*waiting, return_exceptions=True)
        raise
    finally:
        for task in waiting:
            task.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
