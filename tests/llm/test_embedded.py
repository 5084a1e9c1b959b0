"""The embedded LLM: it answers on loopback with a key, and is gone with its parent whatever happens."""

import asyncio
import json
import os
import secrets
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from contextlib import closing
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from finegrade.config import LLMConfig
from finegrade.errors import InputError
from finegrade.llm.accounts import Budget, LocalLedger
from finegrade.llm.client import LLMClient
from finegrade.llm.embedded import EmbeddedServer
from finegrade.llm.ledger import Ledger
from finegrade.llm.request import RequestSettings
from finegrade.llm.structured import read
from finegrade.synthesis.prompts.sibling import Passage, sibling_request
from helpers.processes import LONGEST, start, wait_until

CHILD = "finegrade.llm.embedded_child"


def command_line(pid) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
    except OSError:  # it has ended
        return ""


def is_alive(pid: int) -> bool:
    """Whether it runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def server_children(parent: int) -> list[int]:
    """Processes of the embedded server whose parent is this one."""
    found = []
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and CHILD in command_line(folder.name):
            try:
                status = (folder / "stat").read_text()
            except OSError:
                continue
            state, ppid = status.rpartition(")")[2].split()[:2]
            if int(ppid) == parent and state != "Z":
                found.append(int(folder.name))
    return found


@pytest.mark.parametrize(
    "content", [b"", b"no model at all", b"GGUF", b"GGUF\x03\x00\x00\x00" + b"\xff" * 1000], ids=ascii
)
def test_broken_model_is_one_line_and_leaves_no_process(tmp_path, content):
    model = tmp_path / "broken.gguf"
    model.write_bytes(content)
    with pytest.raises(InputError) as error, EmbeddedServer(model, 512, tmp_path / "llm.log"):
        pass
    line = str(error.value)
    assert line.startswith("the embedded LLM (broken.gguf): got ")
    assert str(tmp_path / "llm.log") in line
    assert "\n" not in line
    assert server_children(os.getpid()) == []


def test_missing_model_is_one_line(tmp_path):
    with (
        pytest.raises(InputError, match=r"the embedded LLM \(nothing\.gguf\)"),
        EmbeddedServer(tmp_path / "nothing.gguf", 512, tmp_path / "llm.log"),
    ):
        pass


def test_modules_in_the_user_s_folder_are_not_imported(tmp_path, monkeypatch):
    written = tmp_path / "written"
    for name in ("json", "signal", "xllamacpp"):
        (tmp_path / f"{name}.py").write_text(f"open({str(written)!r}, 'w').close()")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError), EmbeddedServer(tmp_path / "nothing.gguf", 512, tmp_path / "llm.log"):
        pass
    assert not written.exists()


def fake_child(monkeypatch, code: str) -> None:
    """Puts other code in the place of the child process."""
    real = subprocess.Popen
    monkeypatch.setattr(subprocess, "Popen", lambda command, **options: real([sys.executable, "-c", code], **options))


def test_child_that_ends_at_once_is_one_line(tmp_path, monkeypatch):
    fake_child(monkeypatch, "import os; os.close(0); os.close(1)")
    for _ in range(3):
        with (
            pytest.raises(InputError, match="wanted a running server"),
            EmbeddedServer(tmp_path, 512, tmp_path / "log"),
        ):
            pass


def test_child_that_dies_before_it_is_healthy_is_told_at_once(tmp_path, monkeypatch):
    fake_child(monkeypatch, 'input(); print(\'{"address": "http://127.0.0.1:1"}\', flush=True)')
    monkeypatch.setattr("finegrade.llm.embedded._READY_SECONDS", 2 * LONGEST)
    began = time.monotonic()
    with pytest.raises(InputError, match="wanted a running server"), EmbeddedServer(tmp_path, 512, tmp_path / "log"):
        pass
    assert time.monotonic() - began < LONGEST


@pytest.mark.slow
def test_child_that_never_becomes_healthy_is_ended(tmp_path, monkeypatch):
    code = (
        f"import os; input(); open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        'print(\'{"address": "http://127.0.0.1:1"}\', flush=True)\nwhile os.read(0, 1): pass'
    )
    fake_child(monkeypatch, code)
    monkeypatch.setattr("finegrade.llm.embedded._READY_SECONDS", 0.5)
    with pytest.raises(InputError, match="no health"), EmbeddedServer(tmp_path, 512, tmp_path / "log"):
        pass
    assert not is_alive(int((tmp_path / "pid").read_text()))


def test_every_server_has_its_own_random_key(tmp_path):
    keys = {EmbeddedServer(tmp_path, 512, tmp_path / "log").api_key for _ in range(10)}
    assert len(keys) == 10
    assert min(map(len, keys)) >= 32


# with the real model


@pytest.fixture(scope="module")
def model() -> Path:
    from finegrade.models.resolve import fetch

    return fetch("qwen2.5-coder-0.5b")


def status(url: str, key: str | None, body=None) -> int:
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {key}"} if key else {})
    data = json.dumps(body).encode() if body else None
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(urllib.request.Request(url, data, headers), timeout=60) as answer:
            return answer.status
    except urllib.error.HTTPError as error:
        with error:
            return error.code


@pytest.mark.slow
def test_real_server_wants_its_key_answers_json_and_ends_with_the_block(model, tmp_path):
    query, sibling = "Remove duplicate rows.", "Count duplicate rows."
    positive = "The rows are compared over all columns. The first row of each group is kept and the others are removed."
    asked = sibling_request(query, positive, sibling, RequestSettings(model="m", temperature=0, seed=0))
    chat = {"model": "m", "max_tokens": 1, "messages": [{"role": "user", "content": "Hi"}]}

    async def ask(server):
        with (
            Ledger(tmp_path / "ledger.sqlite", "test") as ledger,
            closing(LocalLedger(ledger, Budget(LLMConfig(), ledger))) as accounts,
        ):
            client = LLMClient(server.base_url, server.api_key, accounts, 120, "Start it.")
            try:
                return await client.complete(asked)
            finally:
                await client.close()

    with EmbeddedServer(model, 2048, tmp_path / "llm.log") as server:
        (child,) = server_children(os.getpid())
        assert urlsplit(server.base_url).hostname == "127.0.0.1"
        assert status(f"{server.base_url}/chat/completions", None, chat) == 401
        assert status(f"{server.base_url}/chat/completions", secrets.token_urlsafe(32), chat) == 401
        assert status(f"{server.base_url}/chat/completions", server.api_key, chat) == 200
        reply = asyncio.run(ask(server))
        lines = [command_line(folder.name) for folder in Path("/proc").iterdir() if folder.name.isdigit()]
        assert [line for line in lines if CHILD in line]
        assert not [line for line in lines if server.api_key in line]
        environment = Path(f"/proc/{child}/environ").read_bytes()
        assert server.api_key.encode() not in environment
    assert read(reply, Passage).passage
    assert reply.completion_tokens > 5
    wait_until(lambda: not is_alive(child))
    for file in tmp_path.iterdir():
        assert server.api_key.encode() not in file.read_bytes()


@pytest.mark.slow
def test_real_server_is_gone_after_an_exception(model, tmp_path):
    with pytest.raises(ZeroDivisionError), EmbeddedServer(model, 512, tmp_path / "llm.log"):
        (child,) = server_children(os.getpid())
        raise ZeroDivisionError
    assert not is_alive(child)


PARENT = """
import sys, time
from pathlib import Path
from finegrade.llm.embedded import EmbeddedServer
with EmbeddedServer(Path(sys.argv[1]), 512, Path(sys.argv[2])):
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.slow
@pytest.mark.parametrize("when", ["loading", "serving"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_real_server_is_gone_with_its_parent(model, tmp_path, number, when):
    command = [sys.executable, "-c", PARENT, str(model), str(tmp_path / "llm.log")]
    child = None
    with start(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) as parent:
        try:
            if when == "serving":
                assert parent.stdout and parent.stdout.readline() == "ready\n"
            wait_until(lambda: server_children(parent.pid))
            (child,) = server_children(parent.pid)
            parent.send_signal(number)
            assert parent.wait(LONGEST) != 0
            wait_until(lambda: not is_alive(child))
        finally:
            parent.kill()
            if child and is_alive(child):
                os.kill(child, signal.SIGKILL)
