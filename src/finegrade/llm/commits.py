"""Writes to the ledger that wait for the disk together.

A flush of the disk takes milliseconds, for one row as for hundreds. A thread of its own writes whatever has come in
since the last flush in one transaction; who waits goes on when it is durable, and not before.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread

from finegrade.llm.ledger import Ledger

Write = Callable[[Ledger], None]
_Waiting = tuple[Write, asyncio.Future[None]]


class Commits:
    """The one writer of a ledger while requests are under way.

    Args:
        path: Of the ledger.
        purpose: Whose requests these are.

    Raises:
        InputError: The ledger cannot be opened.
    """

    def __init__(self, path: Path, purpose: str) -> None:
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        ledger = Ledger(path, purpose, own_thread=False)  # here, so that who cannot open it hears of it
        self._thread = Thread(target=self._work, args=(ledger,), name="ledger", daemon=True)
        self._thread.start()

    async def write(self, write: Write) -> None:
        """Returns when it is on the disk.

        Raises:
            InputError: The disk is full, or cannot be written to.
        """
        done = asyncio.get_running_loop().create_future()
        self._queue.put((write, done))
        await asyncio.shield(done)  # who waits may be cancelled; what it handed in is written all the same

    def close(self) -> None:
        """Writes what has come in, and ends the thread."""
        self._queue.put(None)
        self._thread.join()

    def _work(self, ledger: Ledger) -> None:
        with ledger:
            going_on = True
            while going_on:
                came_in = [self._queue.get(), *self._rest()]
                waiting = [one for one in came_in if one is not None]
                going_on = len(waiting) == len(came_in)
                if waiting:
                    _commit(ledger, waiting)

    def _rest(self) -> list[_Waiting | None]:
        found = []
        try:
            while True:
                found.append(self._queue.get_nowait())
        except Empty:
            return found


def _commit(ledger: Ledger, waiting: list[_Waiting]) -> None:
    failure: Exception | None = None
    try:
        with ledger.transaction():
            for write, _ in waiting:
                write(ledger)
    except Exception as error:  # whatever it is, who waits must hear of it
        failure = error
    loop = waiting[0][1].get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(_tell, [done for _, done in waiting], failure)


def _tell(waiting: list[asyncio.Future[None]], failure: Exception | None) -> None:
    for done in waiting:
        if done.done():
            continue
        if failure is None:
            done.set_result(None)
        else:
            done.set_exception(failure)
