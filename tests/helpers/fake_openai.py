"""An OpenAI-compatible server that is slow, rude, broken or dead as its options say; a process of its own.

    python -m helpers.fake_openai '{"latency": 0.5, "capacity": 64, "log": "asked.jsonl"}'

prints its port. Replies follow the request's JSON schema and depend on nothing but the request, so that two runs that
ask the same get the same. Options, all of them optional:

    latency: seconds until a reply            jitter: up to so many seconds more
    capacity: more at once get 429            retry_after: what such an answer asks for, in seconds
    errors: {status: share of requests}       drop: share of connections that are closed without an answer
    garbage: share of answers that are no completion
    broken: share of replies whose JSON is broken
    gate: a file that a test writes while it wants answers to wait, as "number moment after": beyond the first so many,
        answers of this moment ("replied", or a moment of fake_batches.py) stay back until the file is gone
    log: a file that gets a line for each request: the hash of its messages and seed, and "asked", "replied", or the
        status; and for each answer that begins to wait at the gate, the gate's number and "held"
    times: whether the log's lines end with the time, in seconds since anything
    batches: options of fake_batches.py
"""

import asyncio
import hashlib
import json
import os
import random
import sys
import time
from pathlib import Path
from typing import Any

from helpers.fake_batches import FakeBatches

SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]
REASONS = {200: "OK", 400: "Bad Request", 404: "Not Found", 429: "Too Many Requests", 500: "Internal Server Error",
           503: "Service Unavailable"}  # fmt: skip


class FakeOpenAI:
    """One server.

    Args:
        options: As above.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        self._options = options
        self._random = random.Random(options.get("seed", 0))
        self._under_way = 0
        log = options.get("log")
        self._log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND) if log else None
        self._gate, self._may_pass = "", 0
        self._batches = FakeBatches(options.get("batches", {}), right_reply, request_hash, self._note, self.pass_gate)

    async def serve(self) -> None:
        """Until it is killed."""
        server = await asyncio.start_server(self._talk, "127.0.0.1", 0, backlog=1024, limit=1 << 24)
        print(server.sockets[0].getsockname()[1], flush=True)
        async with server:
            await server.serve_forever()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                (method, target, _), *lines = (line.split(" ", 2) for line in head.rstrip().split("\r\n"))
                length = next((int(line[1]) for line in lines if line[0].lower() == "content-length:"), 0)
                raw = await reader.readexactly(length)
                chat = json.loads(raw) if target.endswith("/chat/completions") else None
                if chat is None:
                    status, answer = await self._batches.answer(method, target, raw)
                    data = self._response(status, answer)
                else:
                    status, data = await self._answer(chat)
                writer.write(data)
                await writer.drain()
                if status <= 0:
                    break
                if chat is not None:
                    self._note(request_hash(chat), "replied" if status == 200 else str(status))
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, body: dict[str, Any]) -> tuple[int, bytes]:
        """Status and bytes, when it is time; status 0 closes the connection."""
        options = self._options
        latency = options.get("latency", 0.0) + self._random.random() * options.get("jitter", 0.0)
        due = asyncio.get_running_loop().time() + latency
        self._note(request_hash(body), "asked")
        if self._under_way >= options.get("capacity", 1 << 30):
            return 429, self._response(429, {"error": {"message": "too many", "code": "rate_limit_exceeded"}})
        self._under_way += 1
        try:
            status, answer = self._decided(body)
            data = self._response(status, answer)  # made while there is time, so that many at once are not late
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            await self.pass_gate("replied")
        finally:
            self._under_way -= 1
        return status, data

    async def pass_gate(self, moment: str) -> None:
        """Returns when the test lets an answer of this moment go."""
        waits = False
        while self._is_held(moment):
            if not waits:
                self._note(self._gate.split()[0], "held")
            waits = True
            await asyncio.sleep(0.005)

    def _is_held(self, moment: str) -> bool:
        try:
            gate = Path(self._options["gate"]).read_text()
        except (KeyError, FileNotFoundError):
            gate = ""
        if gate != self._gate:
            self._gate, self._may_pass = gate, int(gate.split()[2]) if gate else 0
        if not gate or gate.split()[1] != moment:
            return False
        self._may_pass -= 1
        return self._may_pass < 0

    def _decided(self, body: dict[str, Any]) -> tuple[int, Any]:
        """Status and body."""
        options = self._options
        if self._random.random() < options.get("drop", 0.0):
            return 0, {}
        for status, share in options.get("errors", {}).items():
            if self._random.random() < share:
                return int(status), {"error": {"message": "no"}}
        if self._random.random() < options.get("garbage", 0.0):
            return 200, "<html>"
        text = json.dumps(made_up(body))
        if self._random.random() < options.get("broken", 0.0):
            text = text[:-1].replace('": "', '": ', 1)
        return 200, completion(text)

    def _response(self, status: int, answer: Any) -> bytes:
        """Below 0: broken off in the middle; 0: nothing."""
        if status == 0:
            return b""
        if status < 0:
            return self._response(-status, answer)[:-100]
        data = answer.encode() if isinstance(answer, str) else json.dumps(answer).encode()
        head = f"HTTP/1.1 {status} {REASONS.get(status, 'Status')}\r\ncontent-type: application/json\r\n"
        if status == 429 and "retry_after" in self._options:
            head += f"retry-after: {self._options['retry_after']}\r\n"
        return f"{head}content-length: {len(data)}\r\n\r\n".encode() + data

    def _note(self, name: str, what: str) -> None:
        if self._log is not None:
            when = [time.monotonic()] if self._options.get("times") else []
            os.write(self._log, json.dumps([name, what, *when]).encode() + b"\n")


def request_hash(body: dict[str, Any]) -> str:
    """Names what was asked."""
    return hashlib.sha256(json.dumps([body["messages"], body.get("seed")], sort_keys=True).encode()).hexdigest()


def right_reply(body: dict[str, Any]) -> dict[str, Any]:
    """What a request is answered where nothing goes wrong."""
    return completion(json.dumps(made_up(body)))


def completion(text: str) -> dict[str, Any]:
    """A complete chat completion with this text."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": 100, "completion_tokens": 50, "total_tokens": 150}
    return {
        "id": "x", "object": "chat.completion", "created": 0, "model": "m", "usage": usage,
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
    }  # fmt: skip


def made_up(body: dict[str, Any]) -> Any:
    """A value for the request's schema, out of words that the request decides."""
    schema = body.get("response_format", {}).get("json_schema", {}).get("schema", {"type": "string"})
    return _value(schema, random.Random(request_hash(body)))


def _value(schema: dict[str, Any], dice: random.Random) -> Any:
    if schema.get("type") == "object":
        return {name: _value(one, dice) for name, one in schema["properties"].items()}
    if schema.get("type") == "array":
        return [_value(schema["items"], dice) for _ in range(schema.get("minItems", 3))]
    if schema.get("type") == "integer":
        return dice.randint(1, 99)
    if "enum" in schema:
        return dice.choice(schema["enum"])
    number = dice.randint(12, 24) if schema.get("maxLength", 1000) > 200 else dice.randint(4, 7)
    words = ["".join(dice.choices(SYLLABLES, k=dice.randint(2, 3))) for _ in range(number)]
    return " ".join(words).capitalize() + "."


if __name__ == "__main__":
    asyncio.run(FakeOpenAI(json.loads(sys.argv[1] if len(sys.argv) > 1 else "{}")).serve())
