"""What an LLM is asked."""

import hashlib
import json
from typing import Any

from finegrade.records import Record

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
