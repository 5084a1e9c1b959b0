"""What the user sees while work goes on: lines, and progress with the time left."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from rich.console import Console, RenderableType
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

from finegrade.text import without_control_characters

_console = Console(stderr=True, highlight=False)
_PLAIN_SECONDS = 15.0
_SPEED_SECONDS = 1_800.0  # one unit may take a minute


class Meter(Protocol):
    """Counts finished units of one piece of work."""

    def advance(self, units: float = 1) -> None:
        """Adds finished units."""

    def note(self, text: str) -> None:
        """Sets a few words behind the numbers."""


def say(text: str) -> None:
    """Prints one line for the user. Text from models or files is never read as markup or terminal commands."""
    _console.print(without_control_characters(text), markup=False, emoji=False, soft_wrap=True)


def show(what: RenderableType) -> None:
    """Prints something with colours, on standard output."""
    Console(highlight=False).print(what)


@contextmanager
def progress(what: str, total: float, done: int = 0) -> Iterator[Meter]:
    """Shows how much of some work is done, of ``total`` units with ``done`` before, and the time left."""
    if _console.is_terminal:
        columns = ("{task.description}", BarColumn(), MofNCompleteColumn(), "{task.fields[note]}")
        with Progress(
            *(TextColumn(c) if isinstance(c, str) else c for c in columns),
            TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn(), console=_console,
            speed_estimate_period=_SPEED_SECONDS,
        ) as bar:  # fmt: skip
            task = bar.add_task(escape(what), total=total, completed=done, note="")
            yield _Bar(bar, task)
    else:
        lines = _Lines(what, total, done)
        yield lines
        lines.write()


class _Bar:
    def __init__(self, bar: Progress, task: TaskID) -> None:
        self._bar, self._task = bar, task

    def advance(self, units: float = 1) -> None:
        self._bar.advance(self._task, units)

    def note(self, text: str) -> None:
        self._bar.update(self._task, note=escape(text))


class _Lines:
    """Without a terminal (a log, CI): a line every few seconds instead of a moving bar."""

    def __init__(self, what: str, total: float, done: int) -> None:
        self._what, self._total, self._before, self._done, self._note = what, total, float(done), float(done), ""
        self._began = self._printed = time.monotonic()

    def advance(self, units: float = 1) -> None:
        self._done += units
        if time.monotonic() - self._printed >= _PLAIN_SECONDS:
            self.write()

    def note(self, text: str) -> None:
        self._note = text

    def write(self) -> None:
        self._printed = time.monotonic()
        spent, fresh = self._printed - self._began, self._done - self._before
        goes_on = fresh > 0 and self._done < self._total
        left = f", {clock(spent / fresh * (self._total - self._done))} left" if goes_on else ""
        note = f", {self._note}" if self._note else ""
        say(f"{self._what}: {self._done:,.0f} of {self._total:,.0f}{note}, {clock(spent)} spent{left}")


def clock(seconds: float) -> str:
    """Seconds as m:ss."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"
