"""What of a request a server takes: OpenAI-compatible servers differ in the parameters and forms of reply they know."""

from dataclasses import dataclass, replace
from typing import Any

from finegrade.llm.request import ChatRequest

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
        """Another way to say what was refused, or None where there is none to try.

        Args:
            way: How it was said.
            param: The parameter that the refusal names, if it names one.
        """
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
