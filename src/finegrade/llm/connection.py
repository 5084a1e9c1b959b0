"""Connects to an OpenAI-compatible server: the key, no proxy on loopback, nothing taken from the environment."""

import re
from collections.abc import AsyncIterator, Callable
from typing import Any, cast
from urllib.parse import urlsplit

import openai

from finegrade.errors import InputError

_NOT_SENT = {"OpenAI-Organization": openai.Omit(), "OpenAI-Project": openai.Omit()}
"""What the client would take from the environment and send to whatever server is named."""

_SHORTEST_KEY = 8
_KEY = "[key]"
_ESCAPED = re.compile(r"\\u([0-9a-fA-F]{4})|\\.")

LONGEST_BODY = 32_000_000
"""Bytes of an answer, unpacked: more is not read."""

NOT_READ_YET: Any = {"headers": {"X-Stainless-Raw-Response": "stream"}}
"""The client library's own option for an answer whose body is still to be read."""

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


def host_of(base_url: str) -> str:
    """The server's name, for messages."""
    return urlsplit(base_url).hostname or "?"


def hiding(api_key: str) -> Callable[[str], str]:
    """Takes a key out of what a server says: some echo it. What is shorter than eight signs is no secret.

    A text that holds it behind JSON's escapes goes as a whole.
    """
    if len(api_key) < _SHORTEST_KEY:
        return lambda text: text

    def hide(text: str) -> str:
        text = text.replace(api_key, _KEY)
        return _KEY if "\\" in text and api_key in _ESCAPED.sub(_sign, text) else text

    return hide


def _sign(escaped: re.Match[str]) -> str:
    return chr(int(escaped[1], 16)) if escaped[1] else escaped[0][-1]


async def whole_body(answer: openai.AsyncAPIResponse[Any]) -> bytes:
    """The body of an answer that was asked for with ``NOT_READ_YET``.

    Raises:
        ValueError: It is too long to be one.
        openai.APIConnectionError: The connection broke off.
    """
    body = bytearray()
    try:
        async for part in parts_of(answer):
            body += part
            if len(body) > LONGEST_BODY:
                raise ValueError("too long")
    finally:
        await answer.close()
    return bytes(body)


async def parts_of(answer: openai.AsyncAPIResponse[Any]) -> AsyncIterator[bytes]:
    """The body of an answer, as it comes.

    Raises:
        openai.APIConnectionError: The connection broke off.
    """
    try:
        async for part in answer.iter_bytes():
            yield part
    except Exception as error:  # of the HTTP library, which is another one from version to version of the client
        raise openai.APIConnectionError(request=answer.http_request) from error


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
