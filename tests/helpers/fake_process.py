"""The fake OpenAI server in a process of its own, and what it was asked."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

BYTES_OF_A_REQUEST = sum(len(json.dumps(["0" * 64, moment])) + 1 for moment in ("asked", "replied"))
"""In the log, where all goes well."""


class FakeProcess:
    """fake_openai.py, running.

    Args:
        folder: For its log.
        options: Those of fake_openai.py.
    """

    def __init__(self, folder: Path, **options: Any) -> None:
        self.log = folder / f"asked{len(list(folder.glob('asked*')))}.jsonl"
        self._gate, self._gates = self.log.with_suffix(".gate"), 0
        settings = json.dumps({"log": str(self.log), "gate": str(self._gate)} | options)
        command = [sys.executable, "-m", "helpers.fake_openai", settings]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.base_url = f"http://127.0.0.1:{int(self._process.stdout.readline())}/v1"
        self._read = 0

    def moments(self) -> Counter[str]:
        """How often what happened."""
        return Counter(moment for _, moment in self._lines())

    def asked(self) -> Counter[str]:
        """How often which request was taken."""
        return Counter(name for name, moment in self._lines() if moment == "asked")

    def asked_more(self, requests: int) -> tuple[Path, int]:
        """The log, and about its size when so many more requests were taken and answered."""
        return self.log, self.log.stat().st_size + requests * BYTES_OF_A_REQUEST

    def asked_since(self) -> list[str]:
        """The requests that were taken since the last call."""
        lines = self._lines()
        fresh, self._read = lines[self._read :], len(lines)
        return [name for name, moment in fresh if moment == "asked"]

    def hold(self, moment: str, after: int = 0) -> None:
        """Lets so many answers of this moment go, and keeps all further ones back until ``release``."""
        self._gates += 1
        draft = self._gate.with_suffix(".draft")
        draft.write_text(f"{self._gates} {moment} {after}")
        draft.replace(self._gate)

    def release(self) -> None:
        """Lets every answer go."""
        self._gate.unlink(missing_ok=True)

    def held(self) -> int:
        """How many answers wait for ``release``."""
        return self._lines().count((str(self._gates), "held"))

    def _lines(self) -> list[tuple[str, str]]:
        return [tuple(json.loads(line)) for line in self.log.read_text().splitlines()]

    def close(self) -> None:
        """Ends it."""
        self._process.kill()
        self._process.communicate()
