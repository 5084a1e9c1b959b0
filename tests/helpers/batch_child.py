"""Asks about numbered items in batches, as its one JSON argument says, for tests that kill it.

It prints a line when it begins, and the texts of the replies as JSON.
"""

import asyncio
import json
import os
import signal
import sys
from contextlib import aclosing
from pathlib import Path

from finegrade.config import LLMConfig
from finegrade.llm.batch import client, runner
from finegrade.llm.batch.server import BatchServer
from finegrade.llm.ledger import Ledger
from finegrade.llm.request import ChatRequest, Message
from finegrade.llm.session import ask_each

SCHEMA = {"type": "object", "properties": {"passage": {"type": "string"}}}


def request(content: object) -> ChatRequest:
    """What is asked about an item."""
    return ChatRequest(
        model="m", messages=(Message(role="user", content=str(content)),), max_tokens=200, temperature=0, seed=0,
        reply_schema=SCHEMA,
    )  # fmt: skip


async def ask_all(path: Path, items: range, settings: dict[str, object]) -> list[str]:
    """The texts of the replies."""
    with Ledger(path, "test") as ledger:
        config = LLMConfig.model_validate(settings | {"batch": True})
        asking = ask_each(items, lambda ask, item: ask(request(item)), config, ledger, path.parent / "llm.log")
        async with aclosing(asking) as replies:
            return [reply.text async for _, reply in replies]


async def die(*_: object) -> str:
    """As kill -9 does."""
    os.kill(os.getpid(), signal.SIGKILL)
    return ""


if __name__ == "__main__":
    options = json.loads(sys.argv[1])
    client.LINGER = runner.POLL_FIRST = runner.POLL_LONGEST = 0.02
    if options["dies"]:
        setattr(BatchServer, options["dies"], die)
    print("begins", flush=True)  # imports take longer than the work
    try:
        print(json.dumps(asyncio.run(ask_all(Path(options["path"]), range(*options["items"]), options["llm"]))))
    except KeyboardInterrupt:
        sys.exit(130)
