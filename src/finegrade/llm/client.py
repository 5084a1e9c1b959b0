"""The one async client that all generation goes through, for any OpenAI-compatible server."""

import asyncio
import random
import time
from typing import Any, cast
from urllib.parse import urlsplit

import openai

from finegrade.errors import InputError
from finegrade.llm.budget import Budget
from finegrade.llm.ledger import Ledger, Reply
from finegrade.llm.request import ChatRequest

REFUSED = "refused"
"""Finish reason of a reply that stands for a request that the server would not answer (too long, filtered)."""

_REFUSALS = (400, 413, 422)
_REFUSALS_IN_A_ROW = 5  # so many, and it is not the requests that are at fault
_NOT_SENT = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
"""What the client would take from the environment and send to whatever server is named."""

ATTEMPTS = 5
_LONGEST_PAUSE = 60.0  # seconds
_SENSIBLE = 100_000_000  # tokens of one request
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class LLMClient:
    """Asks an OpenAI-compatible server, through the ledger.

    Args:
        base_url: The server, e.g. "http://127.0.0.1:8000/v1".
        api_key: Sent to the server, never written anywhere.
        ledger: Where requests and replies are kept.
        timeout: Seconds until a request counts as failed.
        budget: Says when it is enough.
        lost: For the user: what to do when the server cannot be reached.

    Raises:
        InputError: The key cannot be sent in a header.
    """

    def __init__(self, base_url: str, api_key: str, ledger: Ledger, timeout: float, budget: Budget, lost: str) -> None:
        self.host = urlsplit(base_url).hostname or "?"
        if not (api_key.isascii() and api_key.isprintable()):
            remedy = "Set the environment variable that llm.api_key_env names."
            got = "a key that no header can carry"
            raise InputError(f"the LLM at {self.host}", got=got, wanted="printable ASCII", remedy=remedy) from None
        self._refused = 0  # in a row
        self._ledger, self._budget, self._lost = ledger, budget, lost
        http = openai.DefaultAsyncHttpxClient(trust_env=self.host not in _LOOPBACK)  # loopback goes through no proxy
        self._client = openai.AsyncOpenAI(
            base_url=base_url,
            api_key=api_key,
            timeout=timeout,
            max_retries=0,  # each attempt may cost money, so each goes through ledger and budget
            http_client=http,
            default_headers=cast(Any, _NOT_SENT),
        )

    async def complete(self, request: ChatRequest) -> Reply:
        """The reply to a request; one that the ledger holds is not asked again.

        A request that the server refuses gives an empty reply with finish_reason REFUSED, which is not kept: the next
        run asks again.

        Raises:
            InputError: The server cannot be reached, refuses the key or one request after the other, or does not know
                the model; or the budget is spent.
        """
        key = request.key()
        known = self._ledger.find(key)
        if known:
            return known
        for attempt in range(1, ATTEMPTS + 1):
            self._budget.reserve(request)
            self._ledger.asked(key, request.model_dump(mode="json"))
            try:
                reply = await self._ask(request)
            except openai.OpenAIError as error:
                if _is_free(error):
                    self._ledger.withdraw(key)
                    self._budget.release(request)
                if _passes(error) and attempt < ATTEMPTS:
                    await asyncio.sleep(_pause(error, attempt))
                elif self._is_refusal_of_this_one(error):
                    return Reply(text="", finish_reason=REFUSED, prompt_tokens=0, completion_tokens=0, seconds=0)
                else:
                    raise self._explain(error) from None
            else:
                self._refused = 0
                self._ledger.replied(key, reply)
                self._budget.settle(request, reply)
                return reply
        raise AssertionError("the last attempt returns or raises")

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def _ask(self, request: ChatRequest) -> Reply:
        began = time.monotonic()
        schema = {"name": "reply", "strict": True, "schema": request.reply_schema}
        try:
            answer = await self._client.chat.completions.create(
                model=request.model,
                messages=cast(Any, [message.model_dump() for message in request.messages]),
                max_tokens=request.max_tokens,
                temperature=request.temperature,
                seed=request.seed,
                response_format={"type": "json_schema", "json_schema": cast(Any, schema)},
            )
        except (ValueError, TypeError, AttributeError):  # an answer that is no JSON, or not of a completion's form
            raise self._strange() from None
        try:
            choice, usage = answer.choices[0], answer.usage
            return Reply(
                text=choice.message.content or "",
                finish_reason=choice.finish_reason or "",
                prompt_tokens=_counted(usage and usage.prompt_tokens, request.size()),
                completion_tokens=_counted(usage and usage.completion_tokens, request.max_tokens),
                seconds=round(time.monotonic() - began, 3),
            )
        except (ValueError, TypeError, AttributeError, LookupError):
            raise self._strange() from None

    def _is_refusal_of_this_one(self, error: openai.OpenAIError) -> bool:
        """Whether it is this request that the server will not answer, and not one after the other."""
        self._refused += 1
        return getattr(error, "status_code", 0) in _REFUSALS and self._refused < _REFUSALS_IN_A_ROW

    def _strange(self) -> InputError:
        remedy = "Check that llm.base_url names an OpenAI-compatible server. Replies so far are kept."
        return InputError(f"the LLM at {self.host}", got="an answer of another form", wanted="a reply", remedy=remedy)

    def _explain(self, error: openai.OpenAIError) -> InputError:
        """One line that never repeats what the server said: it may echo the key."""
        if isinstance(error, openai.AuthenticationError | openai.PermissionDeniedError):
            got, remedy = "a refusal of the key", "Set the environment variable that llm.api_key_env names."
        elif isinstance(error, openai.APITimeoutError):
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


def _is_free(error: openai.OpenAIError) -> bool:
    """Whether a request that failed cannot have been paid for: it was answered with an error, or never arrived."""
    # by name: which HTTP library is below differs from version to version of the client
    never_arrived = type(error.__cause__).__name__ in ("ConnectError", "ConnectTimeout")
    return isinstance(error, openai.APIStatusError) or never_arrived


def _passes(error: openai.OpenAIError) -> bool:
    """Whether the same request may be answered a little later."""
    status = error.status_code if isinstance(error, openai.APIStatusError) else 0
    return isinstance(error, openai.APIConnectionError) or status in (408, 409, 429) or bool(status >= 500)


def _pause(error: openai.OpenAIError, attempt: int) -> float:
    """Seconds: what the server asks for, else twice as long each time, never all clients at once."""
    asked = error.response.headers.get("retry-after", "") if isinstance(error, openai.APIStatusError) else ""
    if asked.isdigit():
        return min(float(asked), _LONGEST_PAUSE)
    return float(min(0.5 * 2 ** (attempt - 1), 8.0)) * random.uniform(0.75, 1.0)


def _counted(tokens: object, most: int) -> int:
    """Tokens as the server counts them; the most that they can be where it does not, or not sensibly."""
    return tokens if isinstance(tokens, int) and 0 <= tokens <= _SENSIBLE else most
