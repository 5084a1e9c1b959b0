"""Reads what a server answers to a chat request."""

import math
from collections.abc import Callable
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field, ValidationError

from finegrade.llm.ledger import Reply
from finegrade.llm.request import ChatRequest
from finegrade.text import encodable

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
