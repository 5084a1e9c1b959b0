"""A server's failures in one line for the user, which never repeats what the server said: it may echo the key."""

import openai

from finegrade.console import say
from finegrade.errors import InputError
from finegrade.llm.failures import StrangeAnswerError, timed_out

_TOLD_FROM = 5.0  # seconds of a pause


def explain(host: str, error: openai.OpenAIError, lost: str) -> InputError:
    """What went wrong, and how to mend it.

    Args:
        host: Of the server.
        error: The failure.
        lost: What to do when the server cannot be reached.
    """
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
    """What an answer with an HTTP status other than 200 means.

    Args:
        host: Of the server.
        status: The status.
    """
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
    """For a server that refused every single request.

    Args:
        host: Of the server.
        refused: How many they were.
    """
    remedy = "Check llm.model and the server's log: it may not take the requests' form."
    got = f"a refusal of all {refused} requests"
    return InputError(f"the LLM at {host}", got=got, wanted="replies", remedy=remedy)


def tell_pause(host: str, pause: float, told: bool) -> bool:
    """Says once what a long pause is for.

    Args:
        host: Of the server.
        pause: Seconds.
        told: Whether it was said.

    Returns:
        Whether it was said by now.
    """
    if pause > _TOLD_FROM and not told:
        say(f"the LLM at {host} does not answer, or has too much to do: waits, a few minutes at most")
        return True
    return told


def _no_reply(host: str, got: str, remedy: str) -> InputError:
    return InputError(f"the LLM at {host}", got=got, wanted="a reply", remedy=f"{remedy} Replies so far are kept.")
