"""A fake Batch API, and requests for it."""

import pytest

from finegrade.llm.request import ChatRequest, Message
from helpers.fake_process import FakeProcess

SCHEMA = {"type": "object", "properties": {"passage": {"type": "string", "maxLength": 900}}}


def request(content: object, max_tokens: int = 200) -> ChatRequest:
    return ChatRequest(
        model="m", messages=(Message(role="user", content=str(content)),), max_tokens=max_tokens, temperature=0, seed=0,
        reply_schema=SCHEMA,
    )  # fmt: skip


@pytest.fixture
def fake(tmp_path):
    """Starts fake servers."""
    started = []

    def fake(**options):
        started.append(FakeProcess(tmp_path, batches=options))
        return started[-1]

    yield fake
    for one in started:
        one.close()
