"""An LLM that says what a test wants, without a server."""

import json
from collections.abc import Callable
from typing import Any

from finegrade.llm.ledger import Reply
from finegrade.llm.request import ChatRequest


def reply(text: str | dict[str, Any], finish_reason: str = "stop") -> Reply:
    """A reply with this text, or this JSON."""
    told = text if isinstance(text, str) else json.dumps(text)
    return Reply(text=told, finish_reason=finish_reason, prompt_tokens=1, completion_tokens=1, seconds=0.0)


class ScriptedLLM:
    """Stands for a client's ``complete``.

    Attributes:
        requests: What it was asked, in order.
        answer: Gives what is replied to a request.
    """

    def __init__(self, answer: Callable[[ChatRequest], Reply | str | dict[str, Any]]) -> None:
        self.requests: list[ChatRequest] = []
        self.answer = answer

    async def complete(self, request: ChatRequest) -> Reply:
        """The scripted reply."""
        self.requests.append(request)
        told = self.answer(request)
        return told if isinstance(told, Reply) else reply(told)


def asked(request: ChatRequest) -> str:
    """The last turn."""
    return request.messages[-1].content


def wanted(request: ChatRequest) -> list[str]:
    """The fields of the reply."""
    return list(request.reply_schema["properties"])
