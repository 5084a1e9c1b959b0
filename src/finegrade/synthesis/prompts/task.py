"""Asks an LLM to think up embedding tasks: the first of the paper's two stages."""

import json
from collections.abc import Sequence
from dataclasses import dataclass

from pydantic import BaseModel, ConfigDict, Field

from finegrade.llm.request import ChatRequest, Message, RequestSettings
from finegrade.records import Kind
from finegrade.synthesis.prompts.sibling import OneLine

MAX_DESCRIPTION, MAX_INSTRUCTION = 300, 200
"""Characters."""

_TOKENS_A_TASK = 160


@dataclass(frozen=True)
class Sort:
    """What tasks of a kind are."""

    description: str
    task: str
    instruction: str


WHAT: dict[Kind, Sort] = {
    "short-long": Sort(
        "a short query (a few words to one sentence) and a long text (a passage or document) that answers it",
        "Given a question of a patient, find the passage of a medical handbook that answers it.",
        "Retrieve the passage that answers the patient's question",
    ),
    "long-short": Sort(
        "a long text (a passage or document) as the query and a short text (a name, label, title or sentence) that "
        "belongs to it",
        "Given a customer's complaint, find the name of the department that handles it.",
        "Find the department that handles this complaint",
    ),
    "short-short": Sort(
        "a short query and a short text (a few words to one sentence each) that goes with it, without being the same "
        "said again",
        "Given a dish, find the tool of the kitchen that it cannot be made without.",
        "Find the kitchen tool that this dish cannot be made without",
    ),
    "long-long": Sort(
        "a long text as the query and another long text (a passage or document each) that goes with it",
        "Given the facts of a court case, find the case of the past that was decided on the same ground.",
        "Retrieve a past case that was decided on the same ground",
    ),
    "sts": Sort(
        "two texts of about the same length that mean the same in other words",
        "Given a sentence from a weather report, find a sentence that says the same in other words.",
        "Retrieve a sentence that means the same",
    ),
}
GENRES = (
    "manuals", "support tickets", "laws and contracts", "chat messages", "research papers", "news", "product pages",
    "minutes of meetings", "error messages", "diaries and letters", "forms", "recipes and instructions", "reviews",
    "job advertisements", "lecture notes", "speeches", "source code and its comments", "tables and their captions",
    "questions of beginners", "reports of experts", "encyclopaedia entries", "e-mails", "patient records",
    "price lists",
)  # fmt: skip
"""Kinds of text, for variety within one domain."""

SYSTEM = (
    "You think up tasks for a text-embedding model. A task says what is given (the query) and what is to be found (the "
    "text), so concretely that somebody could write examples of it: for whom, of what kind the texts are, and what "
    "makes a text the right one. Tasks of one reply are about different subjects, kinds of text and users. No task is "
    "a variation of another. For each task also write the instruction that the model gets before a query: one "
    "imperative sentence of at most twenty words. Answer with one JSON object: "
    '{"tasks": [{"description": ..., "instruction": ...}, ...]}.'
)


class WrittenTask(BaseModel):
    """A task as the LLM writes it."""

    model_config = ConfigDict(extra="forbid")

    description: OneLine
    instruction: OneLine


class WrittenTasks(BaseModel):
    """The reply."""

    model_config = ConfigDict(extra="forbid")

    tasks: list[WrittenTask] = Field(min_length=1)


def tasks_request(
    kind: Kind, number: int, domain: str, spread: Sequence[str], settings: RequestSettings
) -> ChatRequest:
    """Asks for tasks of one kind.

    Args:
        kind: Of all of them.
        number: How many.
        domain: What all of them are about; empty: the open domain.
        spread: Subjects (of the open domain) or kinds of text (within one), so that no two requests end in the same
            few.
        settings: Of the request.
    """
    sort = WHAT[kind]
    some = "; ".join(spread)
    about = f"Domain of all of them: {domain}\nKinds of text, among others: {some}." if domain else f"Subjects: {some}."
    example = json.dumps({"description": sort.task, "instruction": sort.instruction})
    told = (
        f"Kind of task: {sort.description}. For example: {example}. Do not repeat the example.\n{about}\n"
        f"Write {number} tasks of this kind."
    )
    return ChatRequest(
        **dict(settings),
        messages=(Message(role="system", content=SYSTEM), Message(role="user", content=told)),
        max_tokens=_TOKENS_A_TASK * number + 50,
        reply_schema=_schema(number),
    )


def _schema(number: int) -> dict[str, object]:
    text = {"type": "string", "minLength": 10}
    task = {
        "type": "object",
        "properties": {
            "description": {**text, "maxLength": MAX_DESCRIPTION},
            "instruction": {**text, "maxLength": MAX_INSTRUCTION},
        },
        "required": ["description", "instruction"],
        "additionalProperties": False,
    }
    return {
        "type": "object",
        "properties": {"tasks": {"type": "array", "items": task, "minItems": number, "maxItems": number}},
        "required": ["tasks"],
        "additionalProperties": False,
    }
