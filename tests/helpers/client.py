"""A client against the fake server."""

import asyncio
from contextlib import closing

import pytest

from finegrade.config import LLMConfig
from finegrade.llm.accounts import Budget, LocalLedger
from finegrade.llm.client import LLMClient
from finegrade.llm.ledger import Ledger
from finegrade.llm.request import ChatRequest, Message

KEY = "sk-secret-KEY-123"


LOST = "Correct llm.base_url."


SCHEMA = {"type": "object", "properties": {"passage": {"type": "string"}}}


def request(content="Write.", **changes) -> ChatRequest:
    values = {"model": "m", "max_tokens": 50, "temperature": 0.2, "seed": 3, "reply_schema": SCHEMA}
    return ChatRequest(messages=(Message(role="user", content=content),), **(values | changes))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ask(fake_llm, path, no_retries):
    """Asks through a new client each time; gives the replies."""

    def ask(*requests, base_url=fake_llm.base_url, timeout=10.0, key=KEY, to_the_end=False):
        async def go():
            with Ledger(path, "test") as ledger, closing(LocalLedger(ledger, Budget(LLMConfig(), ledger))) as accounts:
                client = LLMClient(base_url, key, accounts, timeout, LOST)
                try:
                    replies = [await client.complete(one) for one in requests]
                    if to_the_end:
                        client.check_some_were_answered()
                    return replies
                finally:
                    await client.close()

        return asyncio.run(go())

    return ask
