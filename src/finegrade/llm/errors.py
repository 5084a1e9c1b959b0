"""What the failures of a server mean: whether to ask again, when, and how often."""

import random
import re
import time
from email.utils import parsedate_to_datetime

import aiohttp
import openai

from finegrade.console import say
from finegrade.errors import InputError

REFUSALS = (400, 413, 422)
"""HTTP statuses by which a server refuses one request, and not all of them."""

ATTEMPTS, ATTEMPTS_OVERLOADED = 5, 9
"""Failures of one request after which it is set aside; or everything stops, where nobody else was answered meanwhile.
Those of a server that has too much to do, or has answered and does so no more, come with longer and longer pauses,
two minutes and more in all."""


class TooSlowError(openai.OpenAIError):
    """An answer has begun and does not end in time."""


class StrangeAnswerError(openai.OpenAIError):
    """An answer with status 200 that is no completion."""


_OVERLOADED = (429, 503)
_OUT_OF_QUOTA = "insufficient_quota"
_LONGEST_PAUSE = 60.0  # seconds
LONGEST_ASKED_PAUSE = 600.0
"""Seconds of the pause that a server asks for (Retry-After) that are waited at most."""

_NUMBER = re.compile(r"\d{1,9}(\.\d+)?")


class Patience:
    """How long one request is tried.

    Args:
        answered: Replies that the server had given when it was first asked.
        attempts: Failures after which it is enough; None: ATTEMPTS.

    Attributes:
        others_were_answered: Whether the server has given a reply since.
    """

    def __init__(self, answered: int, attempts: int | None = None) -> None:
        self._attempts = attempts or ATTEMPTS
        self._answered_first = self._answered_last = answered
        self._failures = self._failures_overloaded = 0
        self.others_were_answered = False

    def after(self, error: openai.OpenAIError, answered: int) -> float | None:
        """Seconds to wait after a failure, or None where it was the last one."""
        self.others_were_answered = answered > self._answered_first
        if not is_overload(error):
            self._failures += 1
            gone = answered > 0 and not self.others_were_answered  # it was there: it may come back
            most = max(self._attempts, ATTEMPTS_OVERLOADED) if gone else self._attempts
            return _pause(error, self._failures) if self._failures < most else None
        if answered > self._answered_last:  # it does its work, and this one's turn will come
            self._answered_last, self._failures_overloaded = answered, 0
        self._failures_overloaded += 1
        if self._failures_overloaded < ATTEMPTS_OVERLOADED:
            return _pause(error, self._failures_overloaded)
        self.others_were_answered = False  # for minutes
        return None


def is_overload(error: openai.OpenAIError) -> bool:
    """Whether the server has too much to do."""
    return isinstance(error, openai.APIStatusError) and error.status_code in _OVERLOADED


def is_free(error: BaseException) -> bool:
    """Whether a request that failed cannot have been paid for: it was turned away, or never arrived."""
    never_arrived = isinstance(_below(error), aiohttp.ClientConnectorError | aiohttp.ConnectionTimeoutError)
    return never_arrived or (isinstance(error, openai.APIStatusError) and status_is_free(error.status_code))


def status_is_free(status: int) -> bool:
    """Whether what was answered with an HTTP status, other than 200, is not paid for.

    Where a gateway waits no longer, or lost the server, the server may go on, and be paid.
    """
    return 300 <= status <= 503 and status not in (408, 499, 502)


def is_about_one(error: openai.OpenAIError) -> bool:
    """Whether a server's error may be one request's own: it is there, and has not too much to do."""
    return isinstance(error, openai.APIStatusError) and error.status_code >= 500 and not is_overload(error)


def timed_out(error: openai.OpenAIError) -> bool:
    """Whether time ran out: for a connection, or for an answer."""
    return isinstance(error, TooSlowError) or isinstance(_below(error), aiohttp.ServerTimeoutError)


def passes(error: openai.OpenAIError) -> bool:
    """Whether the same request may be answered a little later."""
    if not isinstance(error, openai.APIStatusError):
        return isinstance(error, openai.APIConnectionError | TooSlowError)
    return status_passes(error.status_code, error.code)


def status_passes(status: int, code: object) -> bool:
    """Whether what was answered with an HTTP status may be answered otherwise a little later."""
    return status in (408, 409) or status >= 500 or (status == 429 and code != _OUT_OF_QUOTA)


def asked_pause(error: openai.OpenAIError) -> float:
    """Seconds that the server asks for, within reason; 0 where it names none."""
    asked: str = error.response.headers.get("retry-after", "") if isinstance(error, openai.APIStatusError) else ""
    seconds = float(asked) if _NUMBER.fullmatch(asked) else _seconds_until(asked)
    return min(max(0.0, seconds), LONGEST_ASKED_PAUSE)


def _seconds_until(date: str) -> float:
    """Of an HTTP date; 0 for anything else."""
    try:
        return parsedate_to_datetime(date).timestamp() - time.time()
    except (ValueError, OverflowError):
        return 0.0


def _below(error: BaseException) -> BaseException | None:
    """What aiohttp reported: the layers above it call every lost connection a timeout of the connecting."""
    return error.__cause__ and error.__cause__.__cause__


def _pause(error: openai.OpenAIError, failures: int) -> float:
    """Seconds: what the server asks for, or twice as long each time; never all clients at once."""
    doubled = min(2.0 ** (failures - 2), _LONGEST_PAUSE)
    return float(max(asked_pause(error), doubled) * random.uniform(1.0, 1.25))


_TOLD_FROM = 5.0  # seconds of a pause


def explain(host: str, error: openai.OpenAIError, lost: str) -> InputError:
    """What went wrong, and how to mend it."""
    if isinstance(error, openai.APIStatusError):
        return explain_status(host, error.status_code)
    if isinstance(error, StrangeAnswerError):
        return strange(host)
    if timed_out(error):
        got, remedy = "no answer in time", "Raise llm.timeout, or lower llm.concurrency."
    elif isinstance(error, openai.APIConnectionError):
        got, remedy = "no connection", lost
    else:
        got, remedy = type(error).__name__, "Check that llm.base_url names an OpenAI-compatible server."
    return _no_reply(host, got, remedy)


def explain_status(host: str, status: int) -> InputError:
    """What an answer with an HTTP status other than 200 means."""
    if status in (401, 403):
        return _no_reply(host, "a refusal of the key", "Set the environment variable that llm.api_key_env names.")
    if 300 <= status < 400:
        return _no_reply(host, "a redirection", "Name the address that it leads to in llm.base_url.")
    if status == 429:
        return _no_reply(host, "HTTP status 429", "Lower llm.concurrency, or see to your quota.")
    return _no_reply(host, f"HTTP status {status}", "Check llm.model and the server's log.")


def strange(host: str) -> InputError:
    """For an answer that is none of an OpenAI-compatible server's."""
    return _no_reply(host, "an answer of another form", "Check that llm.base_url names an OpenAI-compatible server.")


def all_refused(host: str, refused: int) -> InputError:
    """For a server that refused every single request."""
    remedy = "Check llm.model and the server's log: it may not take the requests' form."
    got = f"a refusal of all {refused} requests"
    return InputError(f"the LLM at {host}", got=got, wanted="replies", remedy=remedy)


def tell_pause(host: str, pause: float, told: bool) -> bool:
    """Says once what a long pause is for.

    Returns:
        Whether it was said by now.
    """
    if pause > _TOLD_FROM and not told:
        say(f"the LLM at {host} does not answer, or has too much to do: waits, a few minutes at most")
        return True
    return told


def _no_reply(host: str, got: str, remedy: str) -> InputError:
    return InputError(f"the LLM at {host}", got=got, wanted="a reply", remedy=f"{remedy} Replies so far are kept.")
