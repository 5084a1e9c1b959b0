"""Ledger and budget as one: what a client reports of each attempt, so that nothing is asked or paid unseen."""

import asyncio
from typing import Protocol

from finegrade.llm.budget import Budget
from finegrade.llm.commits import Commits
from finegrade.llm.ledger import Ledger, Reply
from finegrade.llm.request import ChatRequest


class Accounts(Protocol):
    """What is asked, answered and spent. It need not be kept where the client is.

    An attempt begins with ``begin`` and ends with one of ``settle``, ``lose`` and ``take_back``.
    """

    async def find(self, key: str) -> Reply | None:
        """The reply to a request that was asked before, or None."""

    async def begin(self, key: str, request: ChatRequest) -> None:
        """Sets aside what an attempt can cost, and writes it down; when this returns it may be sent.

        Raises:
            InputError: It could go beyond a cap; or the disk is full.
        """

    async def settle(self, key: str, request: ChatRequest, reply: Reply) -> Reply:
        """Writes down what an attempt brought and did cost; when this returns it is on the disk.

        Returns:
            The reply as it is kept, with its price.
        """

    async def lose(self) -> None:
        """An attempt has failed that may have been paid for."""

    async def take_back(self, key: str, request: ChatRequest) -> None:
        """An attempt has failed that costs nothing."""


class OwnAccounts:
    """Accounts kept in this process, to be closed. Use it where nothing else writes to the ledger's file.

    Args:
        ledger: Where requests and replies are kept.
        budget: Says when it is enough.
    """

    def __init__(self, ledger: Ledger, budget: Budget) -> None:
        self._ledger, self._budget = ledger, budget
        self._commits = Commits(ledger.path, ledger.purpose)

    async def find(self, key: str) -> Reply | None:
        """See `Accounts`."""
        return self._ledger.find(key)

    async def begin(self, key: str, request: ChatRequest) -> None:
        """See `Accounts`."""
        await self._budget.reserve(request)
        try:
            await self._commits.write(lambda ledger: ledger.asked(key, request.model_dump(mode="json")))
        except asyncio.CancelledError:  # what was handed in is written all the same
            await self.take_back(key, request)
            raise
        except BaseException:  # others may be waiting for what this one was given
            self._budget.lose()
            raise

    async def settle(self, key: str, request: ChatRequest, reply: Reply) -> Reply:
        """See `Accounts`."""
        reply = reply.model_copy(update={"cost": self._budget.price(reply)})
        self._budget.settle(request, reply)
        await self._commits.write(lambda ledger: ledger.replied(key, reply))
        return reply

    async def lose(self) -> None:
        """See `Accounts`."""
        self._budget.lose()

    async def take_back(self, key: str, request: ChatRequest) -> None:
        """See `Accounts`."""
        await self._commits.write(lambda ledger: ledger.withdraw(key))
        self._budget.release(request)

    def close(self) -> None:
        """Returns when all is written that was handed in."""
        self._commits.close()
