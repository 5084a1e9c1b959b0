"""Processes that tests start, wait for and interrupt."""

import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from typing import Any

LONGEST = 300.0
"""Seconds until a test gives up: no test passes or fails by a machine's speed, so this is far more than any needs."""


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """A process that Ctrl-C ends however the tests were started.

    A shell starts ``nohup make test &`` with SIGINT ignored, and every child inherits that. A signal that has a handler
    here has its default in a new process.
    """
    inherited = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(command, text=True, **options)
    finally:
        signal.signal(signal.SIGINT, inherited)


def wait_until(condition: Callable[[], Any], process: subprocess.Popen[str] | None = None) -> None:
    """Waits until something has happened, and fails where the process that it depends on has ended."""
    deadline = time.monotonic() + LONGEST
    while not condition():
        assert process is None or process.poll() is None, process.communicate()
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)
