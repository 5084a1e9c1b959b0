"""The LLM that comes along: llama.cpp's OpenAI-compatible server in a child process, on loopback only."""

import json
import secrets
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import suppress
from pathlib import Path
from queue import Empty, Queue
from threading import Thread
from types import TracebackType
from typing import IO, Self

from finegrade.errors import InputError
from finegrade.machine import usable_cores

_READY_SECONDS = 180.0
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # loopback never goes through a proxy


class EmbeddedServer:
    """A server for one .gguf model; a context manager, and gone with its parent whatever happens.

    Use it only where nothing else computes: two cores do not carry training or scoring beside it.

    Attributes:
        base_url: "http://127.0.0.1:PORT/v1" once entered.
        api_key: Random, made for this process; never written anywhere.
    """

    def __init__(self, model: Path, context: int, log: Path) -> None:
        self._model, self._context, self._log = model, context, log
        self.base_url = ""
        self.api_key = secrets.token_urlsafe(32)
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "finegrade.llm.embedded_child"],  # -P: no module of the user's folder
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                start_new_session=True,  # Ctrl-C reaches the parent, which ends the child in order
            )
        try:
            address = self._start(self._process)
            self._wait_until_healthy(address)
        except BaseException:
            self._end()
            raise
        self.base_url = f"{address}/v1"
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def _start(self, process: subprocess.Popen[bytes]) -> str:
        assert process.stdin and process.stdout
        settings = {
            "model": str(self._model),
            "context": self._context,
            "api_key": self.api_key,
            "threads": usable_cores(),
        }
        process.stdin.write(json.dumps(settings).encode() + b"\n")
        process.stdin.flush()
        lines: Queue[bytes] = Queue()
        Thread(target=_pass_lines, args=(process.stdout, lines), daemon=True).start()
        deadline = time.monotonic() + _READY_SECONDS
        while True:
            try:
                line = lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except Empty:
                line = b""
            if not line:
                raise self._failed("no address from the server")
            if line.startswith(b'{"address"'):
                return str(json.loads(line)["address"])

    def _wait_until_healthy(self, address: str) -> None:
        deadline = time.monotonic() + _READY_SECONDS
        while time.monotonic() < deadline and self._process and self._process.poll() is None:
            try:
                with _DIRECT.open(f"{address}/health", timeout=5) as answer:
                    if answer.status == 200:
                        return
            except (urllib.error.URLError, OSError):
                pass
            time.sleep(0.1)
        raise self._failed("no health in time")

    def _failed(self, got: str) -> InputError:
        remedy = f"See {self._log}; `finegrade models fetch` checks the model file."
        return InputError(f"the embedded LLM ({self._model.name})", got=got, wanted="a running server", remedy=remedy)

    def _end(self) -> None:
        process = self._process
        if process is None:
            return
        assert process.stdin and process.stdout
        with suppress(BrokenPipeError):
            process.stdin.close()
        process.terminate()  # while it loads a model it does not look at its input; it has no state to lose
        try:
            process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()
        self._process = None


def _pass_lines(stream: IO[bytes], lines: "Queue[bytes]") -> None:
    for line in stream:
        lines.put(line)
    lines.put(b"")
