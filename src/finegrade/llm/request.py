"""What an LLM is asked, and how its answer is read."""

import hashlib
import json
import math
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from finegrade.llm.ledger import Reply
from finegrade.records import Record
from finegrade.text import encodable

_CAME_LATER = ("thinking_tokens", "parameters", "alternatives")
_MESSAGE_TOKENS = 16  # what a chat template puts around a message


class Message(Record):
    """One turn of a chat."""

    role: str
    content: str


class RequestSettings(Record):
    """What all requests of a stage have in common.

    Args:
        model: The server's name for the model; of the embedded LLM, name and hash.
        server: URL of a remote server, so that another one under the same model name is asked anew; empty for the
            embedded LLM.
        temperature: 0 is greedy.
        seed: Of the server's sampling.
        thinking_tokens: Tokens that a reasoning model may think, beside those of its reply.
        parameters: What else is sent, as it is.
    """

    model: str
    server: str = ""
    temperature: float
    seed: int
    thinking_tokens: int = 0
    parameters: dict[str, Any] = {}


class ChatRequest(RequestSettings):
    """One request, complete: what is in it decides its key in the ledger.

    Args:
        messages: The chat so far.
        max_tokens: Tokens at most in the reply.
        reply_schema: JSON schema that the reply follows, where the server can enforce it.
        alternatives: Of each token, so many of the likeliest are told with their probabilities, where the server can.
    """

    messages: tuple[Message, ...]
    max_tokens: int
    reply_schema: dict[str, Any]
    alternatives: int = 0

    @property
    def most_tokens(self) -> int:
        """Tokens that the server may write, thoughts included."""
        return self.max_tokens + self.thinking_tokens

    def size(self) -> int:
        """Bytes of all that the model may read: no tokenizer makes more tokens of them."""
        beside = sum(len(json.dumps(said)) for said in (self.reply_schema, self.parameters) if said)
        return beside + sum(len(message.content.encode()) + _MESSAGE_TOKENS for message in self.messages)

    def key(self) -> str:
        """sha256 of the request: its name in the ledger. What came later names nothing where it is not used."""
        said = self.model_dump(exclude={name for name in _CAME_LATER if not getattr(self, name)})
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()


REFUSED, FAILED = "refused", "failed"
"""Finish reasons of replies that stand for a request that the server would not answer (too long, filtered), or could
not, again and again, while it answered others. They are not kept: a run that was broken off asks again."""

_SENSIBLE = 1_000_000
"""Tokens of one request: what goes beyond is no count."""

_LONGEST_REASON = _LONGEST_TOKEN = 100  # characters
_FIRST_TOKENS = 16


class _Message(BaseModel):
    content: str | None = None


class _Choice(BaseModel):
    message: _Message
    finish_reason: str | None = None
    logprobs: Any = None


class _Alternative(BaseModel):
    token: Annotated[str, AfterValidator(encodable)]
    logprob: float = Field(le=1e-3)  # nan is no number that is less


class _Token(BaseModel):
    top_logprobs: list[_Alternative] = Field(max_length=20)


class _Logprobs(BaseModel):
    content: list[_Token]


class _Completion(BaseModel):
    """What is read of a server's answer."""

    choices: list[_Choice] = Field(min_length=1)
    usage: Any = None


def read_completion(answer: object, request: ChatRequest, seconds: float, hide: Callable[[str], str]) -> Reply:
    """The reply in a chat completion.

    Args:
        answer: The completion, as JSON.
        request: What was asked: where the server counts no tokens, the most that they can be stands in.
        seconds: From request to reply.
        hide: Takes the key out of what the server says.

    Raises:
        ValueError: It has not a completion's form.
    """
    completion = _Completion.model_validate(answer)
    choice, usage = completion.choices[0], completion.usage if isinstance(completion.usage, dict) else {}
    text = choice.message.content or ""
    return Reply(
        text=hide(text),
        # who does not say was not stopped by anything
        finish_reason=hide(choice.finish_reason or "stop")[:_LONGEST_REASON],
        prompt_tokens=_counted(usage.get("prompt_tokens"), 1, request.size()),
        completion_tokens=_counted(usage.get("completion_tokens"), len(text) > 0, request.most_tokens),
        seconds=round(seconds, 3),
        alternatives=_alternatives(choice.logprobs, hide),
    )


def _alternatives(logprobs: Any, hide: Callable[[str], str]) -> tuple[dict[str, float], ...]:
    """Probabilities of the likeliest first tokens; what is of another form is as good as untold."""
    try:
        tokens = _Logprobs.model_validate(logprobs).content[:_FIRST_TOKENS]
    except ValidationError:
        return ()
    return tuple(
        {hide(one.token)[:_LONGEST_TOKEN]: math.exp(one.logprob) for one in token.top_logprobs} for token in tokens
    )


def without_text(finish_reason: str) -> Reply:
    """The reply that stands for none: REFUSED or FAILED."""
    return Reply(text="", finish_reason=finish_reason, prompt_tokens=0, completion_tokens=0, seconds=0)


def _counted(tokens: object, least: int, most: int) -> int:
    """Tokens as the server counts them; the most that they can be where it does not, or not sensibly."""
    return tokens if isinstance(tokens, int) and least <= tokens <= _SENSIBLE else most
