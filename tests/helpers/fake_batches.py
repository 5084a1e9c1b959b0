"""The half of the fake OpenAI server that takes batches: files, batches, their output and error files.

Its state lives as long as the server's process, so a client may be killed meanwhile. Options, under "batches":

    seconds: until a batch is over
    page: batches in a page of the list
    absent: true where the server has no such API
    ends: how the first batches end: "completed", "expired", "cancelled", "failed"; then all are completed
    code: what a batch that failed names as the reason
    faults: [{"share": of the requests, "times": each, "holds": a text in the request, "line": what stands in place of
        the reply's line, null for no line at all}]
    extra: text at the head of every output file
    hold: {moment: seconds} by which the answer is late that tells of it: "uploaded", "created", "polled", "content"
    cut: how many downloads break off in the middle

The log gets a line for every moment, and "asked" for each request when its batch is created: then it is paid for.
"""

import asyncio
import json
import re
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import parse_qs, urlsplit

Body = dict[str, Any]
UNKNOWN = (404, {"error": {"message": "no such thing"}})


class FakeBatches:
    """What the server keeps of files and batches.

    Args:
        options: As above.
        reply: Gives the completion for a request.
        name: Names what a request asks.
        note: Writes a name and a moment into the log.
        pass_gate: Returns when an answer of a moment may go.
    """

    def __init__(
        self, options: dict[str, Any], reply: Callable[[Body], Body], name: Callable[[Body], str],
        note: Callable[[str, str], None], pass_gate: Callable[[str], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._options, self._reply, self._name, self._note, self._pass_gate = options, reply, name, note, pass_gate
        self._files: dict[str, str] = {}
        self._batches: dict[str, Body] = {}
        self._faults: Counter[tuple[int, str]] = Counter()
        self._cuts = options.get("cut", 0)

    async def answer(self, method: str, target: str, raw: bytes) -> tuple[int, Any]:
        """Status and body; a status below 0 breaks off in the middle of the body."""
        url = urlsplit(target)
        _, what, *names = url.path.strip("/").split("/")
        if self._options.get("absent"):
            return UNKNOWN
        if (method, what) == ("POST", "files"):
            moment, answer = "uploaded", self._upload(raw)
        elif (method, what) == ("POST", "batches"):
            moment, answer = "created", self._create(json.loads(raw))
        elif what == "batches" and not names:
            moment, answer = "listed", self._list(parse_qs(url.query))
        elif what == "batches" and names[0] in self._batches:
            moment, answer = "polled", self._state(self._batches[names[0]])
        elif what == "files" and names[0] in self._files:
            return await self._content(names[0])
        else:
            return UNKNOWN
        await self._tell(moment)
        return 200, answer

    async def _tell(self, moment: str) -> None:
        self._note("", moment)
        await asyncio.sleep(self._options.get("hold", {}).get(moment, 0.0))
        await self._pass_gate(moment)

    async def _content(self, name: str) -> tuple[int, str]:
        await self._tell("content")
        self._cuts -= 1
        return (-200 if self._cuts >= 0 else 200), self._files[name]

    def _upload(self, raw: bytes) -> Body:
        boundary = raw[: raw.index(b"\r\n")]
        parts = [part.partition(b"\r\n\r\n") for part in raw.split(boundary)]
        named = {re.search(rb'name="(\w+)"', head)[1].decode(): text[:-2] for head, _, text in parts if text}
        assert named["purpose"] == b"batch"
        return {"id": self._keep(named["file"].decode()), "object": "file", "purpose": "batch"}

    def _keep(self, text: str) -> str:
        name = f"file-{len(self._files)}"
        self._files[name] = text
        return name

    def _create(self, wanted: Body) -> Body:
        lines = [json.loads(line) for line in self._files[wanted["input_file_id"]].splitlines()]
        number = len(self._batches)
        ends = [*self._options.get("ends", []), *["completed"] * (number + 1)][number]
        batch = wanted | {"id": f"batch_{number}", "object": "batch", "created_at": int(time.time()), "ends": ends}
        self._batches[batch["id"]] = batch | {
            "lines": lines,
            "over": time.monotonic() + self._options.get("seconds", 0),
        }
        for line in lines if ends != "failed" else []:
            assert (line["method"], line["url"]) == ("POST", wanted["endpoint"])
            self._note(self._name(line["body"]), "asked")
        return self._state(self._batches[batch["id"]])

    def _list(self, query: dict[str, list[str]]) -> Body:
        newest_first = list(reversed(self._batches))
        after = query.get("after")
        rest = newest_first[newest_first.index(after[0]) + 1 :] if after else newest_first
        page = rest[: self._options.get("page", 20)]
        return {
            "object": "list", "data": [self._state(self._batches[name]) for name in page],
            "has_more": len(page) < len(rest),
        }  # fmt: skip

    def _state(self, batch: Body) -> Body:
        lines, over = batch["lines"], time.monotonic() >= batch["over"]
        if over and "output_file_id" not in batch and batch["ends"] != "failed":
            good, bad = self._results(lines)
            batch["output_file_id"] = self._keep(self._options.get("extra", "") + good)
            batch["error_file_id"] = self._keep(bad) if bad else None
        told = {name: value for name, value in batch.items() if name not in ("lines", "over", "ends")}
        told["status"] = batch["ends"] if over else "in_progress"
        left = max(0.0, batch["over"] - time.monotonic()) / self._options.get("seconds", 1.0)
        told["request_counts"] = {"total": len(lines), "completed": int((1 - left) * len(lines)), "failed": 0}
        if told["status"] == "failed":
            told["errors"] = {"object": "list", "data": [{"code": self._options.get("code", "invalid"), "message": ""}]}
        return told

    def _results(self, lines: list[Body]) -> tuple[str, str]:
        """The texts of output and error file."""
        good, bad = [], []
        for line in reversed(lines):  # the order is the server's business
            fault = self._fault(line["body"])
            if fault is None:
                response = {"status_code": 200, "request_id": "r", "body": self._reply(line["body"])}
                good.append({"id": "x", "custom_id": line["custom_id"], "response": response, "error": None})
            elif fault["line"] is not None:
                bad.append({"id": "x", "custom_id": line["custom_id"]} | fault["line"])
        return tuple("".join(json.dumps(one) + "\n" for one in some) for some in (good, bad))  # type: ignore[return-value]

    def _fault(self, body: Body) -> Body | None:
        for number, fault in enumerate(self._options.get("faults", [])):
            name = self._name(body)
            hit = int(name[:8], 16) < fault.get("share", 1.0) * 2**32 and fault.get("holds", "") in json.dumps(body)
            if hit and self._faults[number, name] < fault.get("times", 1 << 30):
                self._faults[number, name] += 1
                return dict(fault)
        return None
