"""How an OpenAI-compatible server is talked to: the key, no proxy on loopback, and what of a request it takes."""

import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from typing import Any, cast
from urllib.parse import urlsplit

import openai

from finegrade.errors import InputError
from finegrade.llm.request import ChatRequest

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
    """Takes a key out of what a server says: some echo it. What is shorter than eight characters is no secret.

    A text that holds it behind JSON's escapes goes as a whole.
    """
    if len(api_key) < _SHORTEST_KEY:
        return lambda text: text

    def hide(text: str) -> str:
        text = text.replace(api_key, _KEY)
        return _KEY if "\\" in text and api_key in _ESCAPED.sub(_character, text) else text

    return hide


def _character(escaped: re.Match[str]) -> str:
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


_BOUNDS = ("minLength", "maxLength", "pattern", "minItems", "maxItems", "minimum", "maximum")
"""What a strict schema may not say to some servers."""

_FORMS = ("schema with bounds", "schema", "any JSON", "free text")
_OTHER_NAMES = {"max_tokens": "max_completion_tokens", "temperature": None, "seed": None, "logprobs": None}
"""Parameters that some models refuse, and what they take in their place."""


@dataclass(frozen=True)
class Way:
    """A way of saying a request.

    Attributes:
        form: How the reply's form is asked for.
        unknown: Parameters that the server does not take.
    """

    form: str = _FORMS[0]
    unknown: frozenset[str] = frozenset()

    def parameters(self, request: ChatRequest) -> dict[str, Any]:
        """What the request says, in the server's words."""
        said: dict[str, Any] = {
            "model": request.model,
            "messages": [message.model_dump() for message in request.messages],
        }
        values = {"max_tokens": request.most_tokens, "temperature": request.temperature, "seed": request.seed}
        if request.alternatives:
            values["logprobs"] = True
        for name, value in values.items():
            known = _OTHER_NAMES[name] if name in self.unknown else name
            if known:
                said[known] = value
        if self.form == "any JSON":
            said["response_format"] = {"type": "json_object"}
        elif self.form != "free text":
            schema = request.reply_schema if self.form == _FORMS[0] else _without_bounds(request.reply_schema)
            named = {"name": "reply", "strict": True, "schema": schema}
            said["response_format"] = {"type": "json_schema", "json_schema": named}
        if "logprobs" in said:
            said["top_logprobs"] = request.alternatives
        return said | request.parameters


class Dialect:
    """Finds the fullest way of saying requests that a server takes.

    A way is learnt where a request that was refused is answered when it is said so; a request that is refused in every
    way teaches nothing.

    Attributes:
        way: The best that is known.
    """

    def __init__(self) -> None:
        self.way = Way()
        self._taken = False

    def taken(self, way: Way) -> None:
        """The server has answered a request that was said so: from now on a refusal is about one request."""
        self.way, self._taken = way, True

    def other(self, way: Way, param: str) -> Way | None:
        """Another way to say what was refused, or None where there is none to try."""
        if self._taken and way != self.way:
            return self.way
        param = param.removeprefix("top_")
        if param in _OTHER_NAMES and param not in way.unknown:
            return replace(way, unknown=way.unknown | {param})
        if self._taken or way.form == _FORMS[-1]:
            return None
        return replace(way, form=_FORMS[_FORMS.index(way.form) + 1])


def _without_bounds(schema: Any) -> Any:
    if isinstance(schema, dict):
        return {key: _without_bounds(value) for key, value in schema.items() if key not in _BOUNDS}
    return [_without_bounds(value) for value in schema] if isinstance(schema, list) else schema
