"""How many requests may be under way: as many as the server bears (additive increase, multiplicative decrease)."""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager


class Limiter:
    """Places for requests.

    Where a server says that it is too many, half of the places go; after as many replies as there are places, one more
    comes back. What was sent before a cut says nothing about the number of places after it, and cuts no further.

    Args:
        most: Places to begin with, and never more.

    Attributes:
        limit: Places there are now, at least 1.
    """

    def __init__(self, most: int) -> None:
        self.limit = self._most = most
        self._places = asyncio.Semaphore(most)
        self._owed = 0  # places that go as soon as who has them leaves
        self._earned = 0
        self._cut = self._resume = float("-inf")

    @asynccontextmanager
    async def place(self) -> AsyncIterator[float]:
        """Waits for a place and keeps it for the block; gives the time at which it was entered."""
        await self._places.acquire()
        try:
            while (pause := self._resume - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            yield time.monotonic()
        finally:
            self._free()

    def _free(self) -> None:
        if self._owed:
            self._owed -= 1
        else:
            self._places.release()

    def answered(self) -> None:
        """A reply has come."""
        self._earned += 1
        if self.limit < self._most and self._earned >= self.limit:
            self._earned = 0
            self.limit += 1
            self._free()

    def overloaded(self, entered: float, pause: float) -> None:
        """The server says that it is too much.

        Args:
            entered: When the request that was turned away entered its place.
            pause: Seconds for which nothing is to be sent.
        """
        self._resume = max(self._resume, time.monotonic() + pause)
        if entered > self._cut:
            self._cut = time.monotonic()
            self._earned = 0
            gone = self.limit // 2
            self.limit -= gone
            self._owed += gone
