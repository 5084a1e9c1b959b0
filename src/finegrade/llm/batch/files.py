"""The JSONL files of a batch: its requests as lines, and what came of them, which is not believed until it is checked.

The form is OpenAI's: https://platform.openai.com/docs/guides/batch
"""

import json
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import BaseModel

from finegrade.llm.connection import Way
from finegrade.llm.errors import REFUSALS, status_is_free, status_passes
from finegrade.llm.ledger import Reply
from finegrade.llm.request import ChatRequest, read_completion

ENDPOINT: Final = "/v1/chat/completions"
MOST_REQUESTS, MOST_BYTES = 50_000, 200_000_000
"""OpenAI's limits of a batch: https://platform.openai.com/docs/api-reference/batch/create"""

LONGEST_LINE = 1_000_000
"""Bytes; a longer line of the server's is not looked into."""


def request_line(key: str, request: ChatRequest, way: Way) -> bytes:
    """A request as a line of a batch."""
    said = {"custom_id": key, "method": "POST", "url": ENDPOINT, "body": way.parameters(request)}
    return json.dumps(said).encode() + b"\n"


class _Error(BaseModel):
    code: Any = None
    param: Any = None


class _Response(BaseModel):
    status_code: int
    body: Any = None


class Line(BaseModel):
    """What the server says of one request."""

    custom_id: str
    response: _Response | None = None
    error: _Error | None = None

    def said(self) -> _Error:
        """What it says about an error, wherever it says so."""
        body = self.response.body if self.response else None
        try:
            return _Error.model_validate(body["error"]) if isinstance(body, dict) else self.error or _Error()
        except (KeyError, ValueError):
            return self.error or _Error()


async def split(parts: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """The lines of a file that comes in parts; one that is too long comes as an empty one."""
    held, too_long = bytearray(), False
    async for part in parts:
        *ends, rest = part.split(b"\n")
        for end in ends:
            yield b"" if too_long or len(held) + len(end) > LONGEST_LINE else bytes(held) + end
            held, too_long = bytearray(), False
        held += rest[: LONGEST_LINE + 1]
        too_long |= len(held) > LONGEST_LINE
        if too_long:
            held.clear()
    if held or too_long:
        yield b"" if too_long else bytes(held)


def read_line(line: bytes) -> Line | None:
    """A line of the server's; None where it is of another form."""
    try:
        return Line.model_validate(json.loads(line))
    except (ValueError, RecursionError):
        return None


@dataclass
class Results:
    """What came of the requests of a batch, by key.

    Attributes:
        replies: Those that were answered.
        refused: Those that the server would not answer, and the parameter it named.
        unasked: Those that may be answered another time, and cost nothing.
        lost: Those of which nothing can be read: they may have been paid for.
        fatal: An HTTP status that will be the same for all requests; 0 where there is none.
    """

    replies: dict[str, Reply] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    unasked: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    fatal: int = 0


def sort_out(requests: Mapping[str, ChatRequest], lines: Mapping[str, Line], hide: Callable[[str], str]) -> Results:
    """What came of each request of a batch."""
    results = Results()
    for key, request in requests.items():
        line = lines.get(key)
        status = line.response.status_code if line and line.response else 0
        if line is None or status == 200:
            reply = _reply(line, request, hide)
            if reply:
                results.replies[key] = reply
            else:
                results.lost.append(key)
        elif status in REFUSALS:
            results.refused[key] = str(line.said().param)
        elif status and not status_is_free(status):
            results.lost.append(key)
        else:
            results.unasked.append(key)
            if status and not status_passes(status, line.said().code):
                results.fatal = status
    return results


def _reply(line: Line | None, request: ChatRequest, hide: Callable[[str], str]) -> Reply | None:
    if line is None or line.response is None:
        return None
    try:
        return read_completion(line.response.body, request, 0.0, hide)  # a batch tells no request's time
    except ValueError:
        return None
