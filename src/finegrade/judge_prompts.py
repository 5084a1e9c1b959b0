"""What the LLM is asked as a judge of negatives, and how its reply is read.

A small model cannot say from the query alone whether a text answers it, but it sees where two texts say something else:
it gets the answer that is known beside the text (LOG.md, 2026-11-26).
"""

import json
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, Field

from finegrade.llm.request import ChatRequest, Message, RequestSettings
from finegrade.prompts import plain
from finegrade.text import folded

HIGHEST = 3
"""The grade of a text that gives the same answer."""

_GRADES = tuple(str(grade) for grade in range(HIGHEST + 1))

MAX_REASON, MAX_CHARS = 120, 4_000
"""Characters of a reason, and of a text that is judged: what comes behind is not read."""

SYSTEM = (
    "You check test data for a search engine. You get a query, a passage A that answers it, and a passage B. Grade how "
    "well B answers the query, where A is what is true:\n"
    "3: B gives the same answer as A, in whatever words\n"
    "2: B gives the same answer, but leaves out something that matters\n"
    "1: B looks like an answer, but a fact, number, direction, condition, name or subject in it is another one or the "
    "opposite, so that somebody who trusts it does something else or something wrong\n"
    "0: B does not answer the query at all.\n"
    "Reply with JSON: the grade, and the reason in a few words."
)

EXAMPLES = (
    (
        "Return the largest element of a list.",
        "The biggest item is returned. An empty list raises an error.",
        "You get back whichever entry exceeds all others; there is an exception if nothing is in the list.",
        3,
        "the same in other words",
    ),
    (
        "Return the largest element of a list.",
        "The biggest item is returned. An empty list raises an error.",
        "The smallest item is returned. An empty list raises an error.",
        1,
        "smallest in place of biggest",
    ),
    (
        "How do I reset my password?",
        "Open Account, choose Security and click Reset password. A link is mailed to you and works for one hour.",
        "Open Account, choose Security and click Change email. A link is mailed to you and works for one hour.",
        1,
        "changes the email, not the password",
    ),
    (
        "Can the battery be replaced?",
        "The cell is user-replaceable: slide the rear cover down and lift it out.",
        "Owners may swap the battery themselves by pushing the back plate downwards and taking the old one out.",
        3,
        "the same in other words",
    ),
    (
        "When does the shop open on Sunday?",
        "On Sundays the doors open at 10 in the morning.",
        "The shop sells bread, fruit and newspapers.",
        0,
        "says nothing of opening times",
    ),
    (
        "When does the shop open on Sunday?",
        "On Sundays the doors open at 10 in the morning.",
        "On Sundays the doors open at noon.",
        1,
        "noon in place of 10",
    ),
    (
        "Turn off notifications",
        "Notifications are switched off under Settings, Alerts. Calls still ring.",
        "Under Settings, Alerts you can silence all notifications.",
        2,
        "leaves out that calls still ring",
    ),
)


class Grade(BaseModel):
    """A reply."""

    grade: int = Field(ge=0, le=HIGHEST)
    reason: Annotated[str, AfterValidator(lambda text: folded(text)[:MAX_REASON])] = ""


_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "grade": {"type": "integer", "minimum": 0, "maximum": HIGHEST},
        "reason": {"type": "string", "maxLength": MAX_REASON},
    },
    "required": ["grade", "reason"],
    "additionalProperties": False,
}


def grade_request(query: str, answer: str, text: str, settings: RequestSettings) -> ChatRequest:
    """Asks how well a text answers a query.

    The fixed part comes first, so that a server's prompt cache takes it.

    Args:
        query: The query.
        answer: A text that is known to answer it.
        text: What is graded.
        settings: Of all requests.
    """
    messages = [Message(role="system", content=SYSTEM)]
    for example_query, known, graded, grade, reason in EXAMPLES:
        messages.append(Message(role="user", content=_turn(example_query, known, graded)))
        messages.append(Message(role="assistant", content=json.dumps({"grade": grade, "reason": reason})))
    messages.append(Message(role="user", content=_turn(query, answer, text)))
    return ChatRequest(**dict(settings), messages=tuple(messages), max_tokens=80, reply_schema=_SCHEMA, alternatives=10)


def expected_grade(grade: int, alternatives: Sequence[Mapping[str, float]]) -> float:
    """The mean of the grades that the LLM might have given, by their probabilities: small models hesitate, it shows.

    Args:
        grade: That it gave.
        alternatives: Of each of the first tokens, the likeliest with their probabilities; the first that is the grade
            counts. Empty where the server does not tell: then the grade stands as it is.
    """
    for token in alternatives:
        grades = [(int(text), share) for text, share in token.items() if text.strip() in _GRADES]
        total = sum(share for _, share in grades)
        if total > 0 and any(own == grade for own, _ in grades):
            return sum(own * share for own, share in grades) / total
    return float(grade)


def _turn(query: str, answer: str, text: str) -> str:
    return f"query: {plain(query)[:MAX_CHARS]}\nA: {plain(answer)[:MAX_CHARS]}\nB: {plain(text)[:MAX_CHARS]}"
