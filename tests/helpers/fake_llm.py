"""A fake OpenAI-compatible server on loopback, in this process."""

import json
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = tuple[int, dict[str, Any]]
"""HTTP status and body."""


class _Server(ThreadingHTTPServer):
    request_queue_size = 1024  # connections that come at once; beyond it they come a second later


class FakeLLM:
    """An OpenAI-compatible server on loopback that answers as a test wants, and remembers what it was asked.

    Attributes:
        requests: The bodies of the chat requests, in order of arrival.
        keys: The Authorization headers that came with them.
        headers: All their headers.
        answer: Called with a request's body; gives status and body.
    """

    def __init__(self) -> None:
        self.requests: list[dict[str, Any]] = []
        self.keys: list[str] = []
        self.headers: list[dict[str, str]] = []
        self.answer: Callable[[dict[str, Any]], Answer] = lambda request: self.reply('{"passage": "A text."}')
        fake = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                fake.requests.append(body)
                fake.keys.append(self.headers.get("Authorization", ""))
                fake.headers.append(dict(self.headers))
                status, answer = fake.answer(body)
                data = json.dumps(answer).encode()
                self.send_response(status)
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._server = _Server(("127.0.0.1", 0), Handler)
        self.base_url = f"http://127.0.0.1:{self._server.server_port}/v1"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    @staticmethod
    def reply(text: str, finish_reason: str = "stop") -> Answer:
        """A complete chat completion with this text."""
        message = {"role": "assistant", "content": text}
        choice = {"index": 0, "message": message, "finish_reason": finish_reason}
        usage = {"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}
        return 200, {
            "id": "x", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice], "usage": usage,
        }  # fmt: skip

    def close(self) -> None:
        """Stops serving."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def grade(body: dict[str, Any]) -> Answer | None:
    """What a judge answers that goes by shared words; None where it is not asked for a grade."""
    _, asked, texts = body["messages"][-1]["content"].partition("\nA: ")
    if not asked or "\nB: " not in texts:
        return None
    known, graded = (set(text.split()) for text in texts.split("\nB: "))
    shared = len(known & graded) / len(known | graded)
    said = "same" if shared > 0.9 else "different" if shared > 0.3 else "unrelated"
    return FakeLLM.reply(json.dumps({"answer": said, "reason": f"{shared:.2f}"}))
