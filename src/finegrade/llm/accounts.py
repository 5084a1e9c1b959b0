"""Ledger and budget as one: what a client reports of each attempt, so that nothing is asked or paid unseen."""

import asyncio
from typing import Protocol

from finegrade.config import LLMConfig
from finegrade.errors import InputError
from finegrade.llm.ledger import Commits, Ledger, Reply
from finegrade.llm.request import ChatRequest

_MILLION = 1e6


def cost(config: LLMConfig, tokens_in: float, tokens_out: float) -> float | None:
    """What so many tokens cost; None where the configuration names no prices."""
    if config.price_in is None or config.price_out is None:
        return None
    return (tokens_in * config.price_in + tokens_out * config.price_out) / _MILLION


class Budget:
    """Keeps what a run folder spends under its caps.

    Requests under way, and those whose reply was lost, count with the most that they can cost.

    Args:
        config: Caps and prices; without a cap nothing is refused.
        ledger: What was spent before.
    """

    def __init__(self, config: LLMConfig, ledger: Ledger) -> None:
        self._config = config
        self._under_way, self._changed = 0, asyncio.Event()
        before = ledger.totals(every_purpose=True)
        lost = [(ChatRequest.model_validate(request), times) for request, times in ledger.lost()]
        lost_in = sum(times * request.size() for request, times in lost)
        lost_out = sum(times * request.most_tokens for request, times in lost)
        unpriced_in, unpriced_out = ledger.unpriced()
        self._tokens = before["prompt_tokens"] + before["completion_tokens"] + lost_in + lost_out
        # what was paid stays what it was, whatever the prices are now
        self._money = before["cost"] + self._price(unpriced_in + lost_in, unpriced_out + lost_out)

    def refusal(self, request: ChatRequest) -> InputError | None:
        """Why a request may not be sent now: it could go beyond a cap."""
        config = self._config
        tokens, money = self._most(request)
        if config.max_tokens is not None and self._tokens + tokens > config.max_tokens:
            return _reached("llm.max_tokens", f"{self._tokens:,.0f} tokens", f"{config.max_tokens:,}")
        if config.max_cost is not None and self._money + money > config.max_cost:
            return _reached("llm.max_cost", f"{self._money:.4f}", f"{config.max_cost}")
        return None

    async def reserve(self, request: ChatRequest) -> None:
        """Sets the most aside that a request can cost; where that is too much, waits for what is under way.

        Raises:
            InputError: It could go beyond a cap, and nothing is under way that may turn out cheaper.
        """
        while reached := self.refusal(request):
            if not self._under_way:
                raise reached
            await self._changed.wait()
        self._under_way += 1
        tokens, money = self._most(request)
        self._tokens += tokens
        self._money += money

    def take_up(self) -> None:
        """A request of an earlier session is still under way: it was counted as lost, and may be settled now."""
        self._under_way += 1

    def release(self, request: ChatRequest) -> None:
        """Takes back what was set aside for an attempt that costs nothing."""
        tokens, money = self._most(request)
        self._put(-tokens, -money)

    def settle(self, request: ChatRequest, reply: Reply) -> None:
        """Puts what a request did cost in place of what it could."""
        tokens, money = self._most(request)
        self._put(
            reply.prompt_tokens + reply.completion_tokens - tokens,
            self._price(reply.prompt_tokens, reply.completion_tokens) - money,
        )

    def lose(self) -> None:
        """An attempt has failed that may have been paid for: what was set aside for it is spent."""
        self._put(0, 0)

    def price(self, reply: Reply) -> float | None:
        """What a reply cost; None without prices."""
        return cost(self._config, reply.prompt_tokens, reply.completion_tokens)

    def _most(self, request: ChatRequest) -> tuple[int, float]:
        """Tokens and money that a request can cost at most."""
        return request.size() + request.most_tokens, self._price(request.size(), request.most_tokens)

    def _price(self, tokens_in: float, tokens_out: float) -> float:
        return cost(self._config, tokens_in, tokens_out) or 0.0

    def _put(self, tokens: int, money: float) -> None:
        self._under_way -= 1
        self._tokens += tokens
        self._money += money
        self._changed.set()  # wakes who waits now
        self._changed.clear()


def _reached(cap: str, spent: str, limit: str) -> InputError:
    got = f"{spent} spent or under way, and the next request could go beyond it"
    remedy = f"Raise {cap}, or ask for less; replies so far are kept and not asked again."
    return InputError(cap, got=got, wanted=f"at most {limit}", remedy=remedy)


class LedgerAndBudget(Protocol):
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


class LocalLedger:
    """LedgerAndBudget kept in this process, to be closed. Use it where nothing else writes to the ledger's file."""

    def __init__(self, ledger: Ledger, budget: Budget) -> None:
        self._ledger, self._budget = ledger, budget
        self._commits = Commits(ledger.path, ledger.purpose)

    async def find(self, key: str) -> Reply | None:
        """See `LedgerAndBudget`."""
        return self._ledger.find(key)

    async def begin(self, key: str, request: ChatRequest) -> None:
        """See `LedgerAndBudget`."""
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
        """See `LedgerAndBudget`."""
        reply = reply.model_copy(update={"cost": self._budget.price(reply)})
        self._budget.settle(request, reply)
        await self._commits.write(lambda ledger: ledger.replied(key, reply))
        return reply

    async def lose(self) -> None:
        """See `LedgerAndBudget`."""
        self._budget.lose()

    async def take_back(self, key: str, request: ChatRequest) -> None:
        """See `LedgerAndBudget`."""
        await self._commits.write(lambda ledger: ledger.withdraw(key))
        self._budget.release(request)

    def close(self) -> None:
        """Returns when all is written that was handed in."""
        self._commits.close()
