"""Stages that are killed, and what they left."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

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

    def do(
        self, stage: str, run: Path, config: Config, kill_after: float | None = None,
        grown: tuple[Path, int] | None = None,
    ) -> dict[str, Any]:  # fmt: skip
        """Runs one stage; gives how it ended and after how many seconds.

        Args:
            stage: Its name, or "given".
            run: The run folder.
            config: Its settings.
            kill_after: Seconds until it is killed; it never is where this is None.
            grown: A file and a size: the seconds count from when the file is so large, however fast the machine is.
        """
        assert self._process.stdin
        assert self._process.stdout
        command = {"config": config.model_dump_json(), "run": str(run), "stage": stage, "kill_after": kill_after}
        command["grown"] = [str(grown[0]), grown[1]] if grown else None
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


def outputs(run: Path) -> dict[str, str]:
    """The hashes of the files that synthesis wrote."""
    found: dict[str, str] = read_json(run / "stages" / "synthesize.json")["outputs"]
    return found


def acknowledged(run: Path) -> set[str]:
    """The hashes of the requests whose reply the ledger holds, as a process that starts now will see them."""
    with sqlite3.connect(run / LEDGER) as db:
        rows = db.execute("SELECT request FROM requests WHERE reply IS NOT NULL AND purpose = 'synthesize'").fetchall()
    db.close()
    return {request_hash(json.loads(request)) for (request,) in rows}
