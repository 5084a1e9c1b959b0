"""Commands that are killed, and what they left."""

import json
import os
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from finegrade.config import Config
from finegrade.storage.atomic import read_json
from finegrade.storage.run_folder import LEDGER
from helpers.fake_openai import request_hash


class Server:
    """Forks a process for each stage that it is asked for."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "helpers.fork_server"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"},
        )  # fmt: skip

    def do(self, stage: str, run: Path, config: Config, kill_after: float | None = None) -> dict[str, Any]:
        """Runs one stage; gives how it ended and after how many seconds."""
        assert self._process.stdin
        assert self._process.stdout
        command = {"config": config.model_dump_json(), "run": str(run), "stage": stage, "kill_after": kill_after}
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()
        return dict(json.loads(self._process.stdout.readline()))

    def close(self) -> None:
        """Ends the server."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait()
        self._process.stdout.close()


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.close()


def outputs(run: Path) -> dict[str, str]:
    found: dict[str, str] = read_json(run / "stages" / "synthesize.json")["outputs"]
    return found


def acknowledged(run: Path) -> set[str]:
    """The hashes of the requests whose reply the ledger holds, as a process that starts now will see them."""
    with sqlite3.connect(run / LEDGER) as db:
        rows = db.execute("SELECT request FROM requests WHERE reply IS NOT NULL AND purpose = 'synthesize'").fetchall()
    db.close()
    return {request_hash(json.loads(request)) for (request,) in rows}
