"""Connects to an OpenAI-compatible server: the key, no proxy on loopback, nothing taken from the environment."""

from collections.abc import Callable
from typing import Any, cast
from urllib.parse import urlsplit

import openai

from finegrade.errors import InputError

_NOT_SENT = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
"""What the client would take from the environment and send to whatever server is named."""

_SHORTEST_KEY = 8
_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def host_of(base_url: str) -> str:
    """The server's name, for messages."""
    return urlsplit(base_url).hostname or "?"


def hiding(api_key: str) -> Callable[[str], str]:
    """Takes a key out of what a server says: some echo it. What is shorter than eight signs is no secret."""
    return lambda text: text.replace(api_key, "[key]") if len(api_key) >= _SHORTEST_KEY else text


def connect(base_url: str, api_key: str, timeout: float) -> openai.AsyncOpenAI:
    """A client of a server, which tries nothing again by itself: each attempt may cost money.

    Args:
        base_url: The server, e.g. "http://127.0.0.1:8000/v1".
        api_key: Sent to the server, never written anywhere.
        timeout: Seconds until a request counts as failed.

    Raises:
        InputError: The key cannot be sent in a header.
    """
    host = host_of(base_url)
    if not (api_key.isascii() and api_key.isprintable()):
        remedy = "Set the environment variable that llm.api_key_env names."
        got = "a key that no header can carry"
        raise InputError(f"the LLM at {host}", got=got, wanted="printable ASCII", remedy=remedy) from None
    return openai.AsyncOpenAI(
        base_url=base_url,
        api_key=api_key,
        timeout=timeout,
        max_retries=0,
        # aiohttp below it: half the processor time of the default, and it keeps every connection that is in use
        http_client=openai.DefaultAioHttpClient(
            trust_env=host not in _LOOPBACK,  # loopback: through no proxy
            follow_redirects=False,  # texts and key go where the user said
        ),
        default_headers=cast(Any, _NOT_SENT),
    )
