"""The one async client that all generation goes through, for any OpenAI-compatible server."""

import asyncio
import time
from typing import Any, cast
from urllib.parse import urlsplit
from weakref import WeakValueDictionary

import aiohttp
import openai
from pydantic import BaseModel, Field

from finegrade.errors import InputError
from finegrade.llm.budget import Budget
from finegrade.llm.commits import Commits
from finegrade.llm.dialect import Dialect, Way
from finegrade.llm.failures import Patience, asked_pause, is_free, is_overload, passes, timed_out
from finegrade.llm.ledger import Ledger, Reply
from finegrade.llm.limiter import Limiter
from finegrade.llm.request import ChatRequest

REFUSED, FAILED = "refused", "failed"
"""Finish reasons of replies that stand for a request that the server would not answer (too long, filtered), or could
not, again and again, while it answered others. They are not kept: the next run asks again."""

_REFUSALS = (400, 413, 422)
_REFUSALS_IN_A_ROW = 5  # so many, and it is not the requests that are at fault
_NOT_TAKEN = (openai.BadRequestError, openai.UnprocessableEntityError)
_NOT_SENT = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
"""What the client would take from the environment and send to whatever server is named."""

_AHEAD = 8
"""Beside the requests that may be under way, an eighth as many (and one) are written down already and wait for a place:
no place stands empty while the disk is waited for. A kill loses these too, for the budget."""

_SENSIBLE = 100_000_000  # tokens of one request
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class LLMClient:
    """Asks an OpenAI-compatible server, through the ledger.

    Use it where nothing else writes to the ledger's file.

    Args:
        base_url: The server, e.g. "http://127.0.0.1:8000/v1".
        api_key: Sent to the server, never written anywhere.
        ledger: Where requests and replies are kept.
        timeout: Seconds until a request counts as failed.
        budget: Says when it is enough.
        lost: For the user: what to do when the server cannot be reached.
        most: Requests under way at once, at most.

    Raises:
        InputError: The key cannot be sent in a header.
    """

    def __init__(
        self, base_url: str, api_key: str, ledger: Ledger, timeout: float, budget: Budget, lost: str, most: int = 1
    ) -> None:
        self.host = urlsplit(base_url).hostname or "?"
        if not (api_key.isascii() and api_key.isprintable()):
            remedy = "Set the environment variable that llm.api_key_env names."
            got = "a key that no header can carry"
            raise InputError(f"the LLM at {self.host}", got=got, wanted="printable ASCII", remedy=remedy) from None
        self._answered = self._refused = 0  # replies; refusals in a row
        self._ledger, self._budget, self._lost = ledger, budget, lost
        self._commits = Commits(ledger.path, ledger.purpose)
        self._limiter, self._dialect = Limiter(most), Dialect()
        self._next = asyncio.Semaphore(most + 1 + most // _AHEAD)
        self._finding_a_way = asyncio.Lock()
        self._same: WeakValueDictionary[str, asyncio.Lock] = WeakValueDictionary()
        # aiohttp below it: half the processor time of the default, and it keeps every connection that is in use
        http = openai.DefaultAioHttpClient(trust_env=self.host not in _LOOPBACK)  # loopback goes through no proxy
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key,
            timeout=timeout,
            max_retries=0,  # each attempt may cost money, so each goes through ledger and budget
            http_client=http,
            default_headers=cast(Any, _NOT_SENT),
        )

    async def complete(self, request: ChatRequest) -> Reply:
        """The reply to a request; one that the ledger holds is not asked again, nor is one that is under way.

        A request that the server refuses, or fails at again and again while it answers others, gives an empty reply
        with finish_reason REFUSED or FAILED.

        Raises:
            InputError: The server cannot be reached, refuses the key or one request after the other, has too much to
                do for minutes, or does not know the model; or the budget is spent.
        """
        key = request.key()
        lock = self._same.setdefault(key, asyncio.Lock())
        async with lock:
            return self._ledger.find(key) or await self._persist(key, request)

    def check_some_were_answered(self) -> None:
        """For the end.

        Raises:
            InputError: Every single request was refused.
        """
        if self._refused and not self._answered:
            remedy = "Check llm.model and the server's log: it may not take the requests' form."
            got = f"a refusal of all {self._refused} requests"
            raise InputError(f"the LLM at {self.host}", got=got, wanted="replies", remedy=remedy)

    async def close(self) -> None:
        """Closes the connections, and the ledger's writer when all is written."""
        await self._client.close()
        self._commits.close()

    async def _persist(self, key: str, request: ChatRequest) -> Reply:
        """Asks until there is a reply, or no sense in going on."""
        patience = Patience(self._answered)
        while True:
            try:
                return await self._attempt(key, request)
            except openai.OpenAIError as error:
                if not passes(error):
                    self._refuse(error)
                    return _without_text(REFUSED)
                pause = patience.after(error, self._answered)
                if pause is None and patience.others_were_answered:
                    return _without_text(FAILED)
                if pause is None:
                    raise self._explain(error) from None
                await asyncio.sleep(pause)

    async def _attempt(self, key: str, request: ChatRequest) -> Reply:
        async with self._next:
            reply = await self._send(key, request)
        self._answered += 1
        self._refused = 0
        self._limiter.answered()
        reply = reply.model_copy(update={"cost": self._budget.price(reply)})
        self._budget.settle(request, reply)
        await self._commits.write(lambda ledger: ledger.replied(key, reply))
        return reply

    async def _send(self, key: str, request: ChatRequest) -> Reply:
        """Sends what is set aside and written down, and sees to both where no reply comes of it."""
        await self._budget.reserve(request)
        sent = False
        try:
            await self._commits.write(lambda ledger: ledger.asked(key, request.model_dump(mode="json")))
            async with self._limiter.place() as entered:
                sent = True
                return await self._say(request, entered)
        except (openai.OpenAIError, asyncio.CancelledError) as error:
            if sent and not is_free(error):
                self._budget.lose()
            else:
                await self._commits.write(lambda ledger: ledger.withdraw(key))
                self._budget.release(request)
            raise
        except BaseException:  # others may be waiting for what this one was given
            self._budget.lose()
            raise

    async def _say(self, request: ChatRequest, entered: float) -> Reply:
        way = self._dialect.way
        try:
            try:
                return await self._ask(request, way)
            except _NOT_TAKEN as error:
                return await self._say_otherwise(request, way, error)
        except openai.OpenAIError as error:
            if is_overload(error):
                self._limiter.overloaded(entered, asked_pause(error))
            raise

    async def _say_otherwise(self, request: ChatRequest, way: Way, error: openai.APIStatusError) -> Reply:
        """Tries other ways, one request at a time: the next finds the way known."""
        tried = {way}
        async with self._finding_a_way:
            while (way := self._dialect.other(way, error) or way) not in tried:
                tried.add(way)
                try:
                    return await self._ask(request, way)
                except _NOT_TAKEN as refusal:
                    error = refusal
        raise error

    async def _ask(self, request: ChatRequest, way: Way) -> Reply:
        began = time.monotonic()
        try:
            # not chat.completions.create: building its typed parameters takes a fifth of a request's processor time
            answer = await self._client.post("/chat/completions", cast_to=object, body=way.parameters(request))
            completion = _Completion.model_validate(answer)
        except (ValueError, aiohttp.ClientResponseError):  # no JSON, not of a completion's form; no HTTP at all
            raise self._strange() from None
        self._dialect.taken(way)
        choice, usage = completion.choices[0], completion.usage or {}
        return Reply(
            text=choice.message.content or "",
            finish_reason=choice.finish_reason or "",
            prompt_tokens=_counted(usage.get("prompt_tokens"), request.size()),
            completion_tokens=_counted(usage.get("completion_tokens"), request.max_tokens),
            seconds=round(time.monotonic() - began, 3),
        )

    def _refuse(self, error: openai.OpenAIError) -> None:
        """Counts a refusal.

        Raises:
            InputError: It is not this request alone that the server will not answer.
        """
        self._refused += 1
        if getattr(error, "status_code", 0) not in _REFUSALS or self._refused >= _REFUSALS_IN_A_ROW:
            raise self._explain(error) from None

    def _strange(self) -> InputError:
        remedy = "Check that llm.base_url names an OpenAI-compatible server. Replies so far are kept."
        return InputError(f"the LLM at {self.host}", got="an answer of another form", wanted="a reply", remedy=remedy)

    def _explain(self, error: openai.OpenAIError) -> InputError:
        """One line that never repeats what the server said: it may echo the key."""
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            got, remedy = "a refusal of the key", "Set the environment variable that llm.api_key_env names."
        elif timed_out(error):
            got, remedy = "no answer in time", "Raise llm.timeout, or lower llm.concurrency."
        elif isinstance(error, openai.APIConnectionError):
            got, remedy = "no connection", self._lost
        elif isinstance(error, openai.RateLimitError):
            got, remedy = "HTTP status 429", "Lower llm.concurrency, or see to your quota."
        elif isinstance(error, openai.APIStatusError):
            got, remedy = f"HTTP status {error.status_code}", "Check llm.model and the server's log."
        else:
            got, remedy = type(error).__name__, "Check that llm.base_url names an OpenAI-compatible server."
        wanted = "a reply"
        return InputError(
            f"the LLM at {self.host}", got=got, wanted=wanted, remedy=f"{remedy} Replies so far are kept."
        )


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None


class _Completion(BaseModel):
    """What is read of a server's answer."""

    choices: list[_Choice] = Field(min_length=1)
    usage: dict[str, Any] | None = None


def _without_text(finish_reason: str) -> Reply:
    return Reply(text="", finish_reason=finish_reason, prompt_tokens=0, completion_tokens=0, seconds=0)


def _counted(tokens: object, most: int) -> int:
    """Tokens as the server counts them; the most that they can be where it does not, or not sensibly."""
    return tokens if isinstance(tokens, int) and 0 <= tokens <= _SENSIBLE else most
