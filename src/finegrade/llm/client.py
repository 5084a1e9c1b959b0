"""The one async client that all generation goes through, for any OpenAI-compatible server."""

import asyncio
import json
import time
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import aiohttp
import openai

from finegrade.errors import InputError
from finegrade.llm.accounts import LedgerAndBudget
from finegrade.llm.connection import NOT_READ_YET, Dialect, Way, connect, hiding, host_of, whole_body
from finegrade.llm.errors import (
    REFUSALS,
    Patience,
    StrangeAnswerError,
    TooSlowError,
    all_refused,
    asked_pause,
    explain,
    is_about_one,
    is_free,
    is_overload,
    passes,
    tell_pause,
)
from finegrade.llm.ledger import Reply
from finegrade.llm.request import FAILED, REFUSED, ChatRequest, read_completion, without_text

_IN_A_ROW, _UNANSWERED_IN_A_ROW = 5, 200
"""Requests without a reply, one after the other, from which it is not the requests that are at fault; of those that
are refused, or answered with what is no reply, as many as were answered, within both bounds: a run that goes on finds
all replies first, and has these in one row."""

_NOT_TAKEN = (openai.BadRequestError, openai.UnprocessableEntityError)
_Answer = openai.AsyncAPIResponse[Any]
_AHEAD = 8
"""Beside the requests that may be under way, an eighth as many (and one) are written down already and wait for a place:
no place stands empty while the disk is waited for. A kill loses these too, for the budget."""


@dataclass
class Tally:
    """How requests went so far.

    Attributes:
        host: Of the server.
        found: Replies that the ledger held.
        answered: Replies of the server.
        unanswered: Requests that it refused or failed at, since it answered last.
        strange: The error of an answer that was no completion.
    """

    host: str = ""
    found: int = 0
    answered: int = 0
    unanswered: int = 0
    strange: InputError | None = None

    @property
    def known(self) -> int:
        """Requests with a reply, of this session or another."""
        return self.answered + self.found


class LedgerFirst(ABC):
    """A client that asks for nothing that the ledger holds, nor for what is under way."""

    def __init__(self, tally: Tally | None = None) -> None:
        self._tally = tally or Tally()
        self._same: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()

    async def complete(self, request: ChatRequest) -> Reply:
        """The reply to a request.

        One that the server refuses, or fails at again and again while it answers others, gives an empty reply with
        finish_reason REFUSED or FAILED; it is not kept.

        Raises:
            InputError: The server cannot be reached, refuses the key or one request after the other, has too much to
                do for minutes, or does not know the model; or the budget is spent.
        """
        key = request.key()
        async with self._same.setdefault(key, asyncio.Lock()):
            if reply := await self._find(key):
                self._tally.found += 1
                return reply
            return await self._ask(key, request)

    def check_some_were_answered(self) -> None:
        """For the end.

        Raises:
            InputError: Not a single request was answered.
        """
        if self._tally.unanswered and not self._tally.known:
            raise self._tally.strange or all_refused(self._tally.host, self._tally.unanswered)

    @abstractmethod
    async def _find(self, key: str) -> Reply | None: ...

    @abstractmethod
    async def _ask(self, key: str, request: ChatRequest) -> Reply: ...


class LLMClient(LedgerFirst):
    """Asks an OpenAI-compatible server.

    Args:
        base_url: The server, e.g. "http://127.0.0.1:8000/v1".
        api_key: Sent to the server, never written anywhere.
        ledger: Where requests and replies are kept, and who says when it is enough.
        timeout: Seconds until a request counts as failed.
        lost: For the user: what to do when the server cannot be reached.
        most: Requests under way at once, at most.
        tally: See `LedgerFirst`.

    Raises:
        InputError: The key cannot be sent in a header.
    """

    def __init__(
        self, base_url: str, api_key: str, ledger: LedgerAndBudget, timeout: float, lost: str, most: int = 1,
        tally: Tally | None = None,
    ) -> None:  # fmt: skip
        super().__init__(tally)
        self.host = self._tally.host = host_of(base_url)
        self._client = connect(base_url, api_key, timeout)
        self._hide, self._timeout = hiding(api_key), timeout
        self._ledger, self._lost, self._is_reported = ledger, lost, False
        self._limiter, self._dialect = Limiter(most), Dialect()
        self._next = asyncio.Semaphore(most + 1 + most // _AHEAD)
        self._finding_a_way = asyncio.Lock()

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def _find(self, key: str) -> Reply | None:
        return await self._ledger.find(key)

    async def _ask(self, key: str, request: ChatRequest) -> Reply:
        """Asks until there is a reply, or no sense in going on."""
        patience = Patience(self._tally.answered)
        while True:
            try:
                return await self._attempt(key, request)
            except openai.OpenAIError as error:
                if not passes(error):
                    return self._not_answered(error)
                pause = patience.after(error, self._tally.answered)
                if pause is None and patience.others_were_answered:
                    return without_text(FAILED)
                if pause is None:
                    return self._not_answered(error)
                self._is_reported = tell_pause(self.host, pause, self._is_reported)
                await asyncio.sleep(pause)

    async def _attempt(self, key: str, request: ChatRequest) -> Reply:
        async with self._next:
            reply = await self._send(key, request)
        self._tally.answered += 1
        self._tally.unanswered = 0
        self._is_reported = False
        self._limiter.answered()
        return await self._ledger.settle(key, request, reply)

    async def _send(self, key: str, request: ChatRequest) -> Reply:
        """Sends what is set aside and written down, and sees to both where no reply comes of it."""
        await self._ledger.begin(key, request)
        sent = False
        try:
            async with self._limiter.place() as entered:
                sent = True
                return await self._send_now(request, entered)
        except (openai.OpenAIError, asyncio.CancelledError) as error:
            if sent and not is_free(error):
                await self._ledger.lose()
            else:
                await self._ledger.take_back(key, request)
            raise
        except BaseException:  # others may be waiting for what this one was given
            await self._ledger.lose()
            raise

    async def _send_now(self, request: ChatRequest, entered: float) -> Reply:
        way = self._dialect.way
        try:
            try:
                return await self._post(request, way)
            except _NOT_TAKEN as error:
                return await self._send_otherwise(request, way, error)
        except openai.OpenAIError as error:
            if is_overload(error):
                self._limiter.overloaded(entered, asked_pause(error))
            raise

    async def _send_otherwise(self, request: ChatRequest, way: Way, error: openai.APIStatusError) -> Reply:
        """Tries other ways, one request at a time: the next finds the way known."""
        tried = {way}
        async with self._finding_a_way:
            while (way := self._dialect.other(way, str(error.param)) or way) not in tried:
                tried.add(way)
                try:
                    return await self._post(request, way)
                except _NOT_TAKEN as refusal:
                    error = refusal
        raise error

    async def _post(self, request: ChatRequest, way: Way) -> Reply:
        began = time.monotonic()
        try:
            # not chat.completions.create: building its typed parameters takes a fifth of a request's processor time
            async with asyncio.timeout(self._timeout):  # of all of it: the client's own is the pause between two bytes
                answer = await self._client.post(
                    "/chat/completions", cast_to=_Answer, body=way.parameters(request), options=NOT_READ_YET
                )
                body = await whole_body(answer)
            reply = read_completion(json.loads(body), request, time.monotonic() - began, self._hide)
        except TimeoutError as error:
            raise TooSlowError from error
        except (ValueError, RecursionError, aiohttp.ClientResponseError):  # no JSON, no completion; no HTTP at all
            raise StrangeAnswerError from None
        self._dialect.taken(way)
        return reply

    def _not_answered(self, error: openai.OpenAIError) -> Reply:
        """The reply that stands for none, while nobody else is answered either.

        Raises:
            InputError: It is not this request alone that the server does not answer.
        """
        self._tally.unanswered += 1
        known = self._tally.known
        refused, strange = getattr(error, "status_code", 0) in REFUSALS, isinstance(error, StrangeAnswerError)
        told = explain(self.host, error, self._lost)
        if strange:
            self._tally.strange = told
        alone = refused or strange or (known > 0 and is_about_one(error))
        most = max(_IN_A_ROW, min(known, _UNANSWERED_IN_A_ROW)) if refused or strange else _IN_A_ROW
        if not alone or self._tally.unanswered >= most:
            raise told from None
        return without_text(REFUSED if refused else FAILED)


class Limiter:
    """Places for requests.

    Where a server says that it is too many, half of the places go; after as many replies as there are places, one more
    comes back. What was sent before a cut says nothing about the number of places after it, and cuts no further.

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
