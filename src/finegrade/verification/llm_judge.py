"""The LLM as a scorer: it grades from 0 to 3 how well a text answers, beside a text that is known to answer.

A small model cannot say from the query alone whether a text answers it, but it sees where two texts differ in meaning:
so it gets the known answer beside the text (docs/lab/verification.md, 2026-11-26).
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from math import nan
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel

from finegrade.config import LLMConfig
from finegrade.console import progress
from finegrade.llm.ledger import Reply
from finegrade.llm.request import ChatRequest, Message, RequestSettings
from finegrade.llm.session import Ask, Session, request_settings
from finegrade.llm.structured import CUT, Answer, UnreadableError, ask_for, plain, read
from finegrade.text import content_hash, folded

GRADES = {"unrelated": 0, "different": 1, "same": 3}
"""The LLM's words as graded relevance: it weighs words better than numbers. There is no grade 2, "a part of the
answer", where a small model puts near misses (docs/lab/verification.md)."""
HIGHEST = GRADES["same"]
MAX_REASON, MAX_CHARS = 120, 4_000  # characters of a reason, and of a text that is judged; the rest is cut off

SYSTEM = (
    "You check test data for a search engine. You get a query, a passage A that answers it, and a passage B. Say "
    'whether B gives the same answer as A. Other words, another order or less detail do not matter: that is "same". If '
    "a fact, number, direction, condition, name or subject in B is another one or the opposite, so that somebody who "
    'trusts B does something else or something wrong, that is "different". If B does not speak of what is asked, that '
    'is "unrelated". Reply with JSON: the word, and the reason in a few words.'
)

EXAMPLES = (  # query, A, B, grade, reason
    ("Return the largest element of a list.", "The biggest item is returned. An empty list raises an error.",
     "You get back whichever entry exceeds all others; there is an exception if nothing is in the list.",
     "same", "the biggest one; an error if empty"),
    ("Return the largest element of a list.", "The biggest item is returned. An empty list raises an error.",
     "The smallest item is returned. An empty list raises an error.", "different", "smallest in place of biggest"),
    ("How do I reset my password?",
     "Open Account, choose Security and click Reset password. A link is mailed to you and works for one hour.",
     "Open Account, choose Security and click Change email. A link is mailed to you and works for one hour.",
     "different", "changes the email, not the password"),
    ("Can the battery be replaced?", "The cell is user-replaceable: slide the rear cover down and lift it out.",
     "Owners may swap the battery themselves by pushing the back plate downwards and taking the old one out.",
     "same", "the owner does it, cover down and out"),
    ("When does the shop open on Sunday?", "On Sundays the doors open at 10 in the morning.",
     "The shop sells bread, fruit and newspapers.", "unrelated", "says nothing of opening times"),
    ("When does the shop open on Sunday?", "On Sundays the doors open at 10 in the morning.",
     "On Sundays the doors open at noon.", "different", "noon in place of 10"),
    ("Turn off notifications", "Notifications are switched off under Settings, Alerts.",
     "Under Settings, Alerts you can silence all notifications.", "same", "off under Settings, Alerts"),
)  # fmt: skip


class Judgement(BaseModel):
    """A reply."""

    answer: Literal["unrelated", "different", "same"]
    reason: Annotated[str, AfterValidator(lambda text: folded(text)[:MAX_REASON])] = ""


_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "answer": {"type": "string", "enum": list(GRADES)},
        "reason": {"type": "string", "maxLength": MAX_REASON},
    },
    "required": ["answer", "reason"],
    "additionalProperties": False,
}


def grade_request(query: str, answer: str, text: str, settings: RequestSettings) -> ChatRequest:
    """Asks how well a text answers a query, beside a known answer.

    The fixed part comes first, so that a server's prompt cache takes it.
    """
    messages = [Message(role="system", content=SYSTEM)]
    for example_query, known, judged, grade, reason in EXAMPLES:
        messages.append(Message(role="user", content=_turn(example_query, known, judged)))
        messages.append(Message(role="assistant", content=json.dumps({"answer": grade, "reason": reason})))
    messages.append(Message(role="user", content=_turn(query, answer, text)))
    return ChatRequest(**dict(settings), messages=tuple(messages), max_tokens=80, reply_schema=_SCHEMA, alternatives=10)


def prompt_version() -> str:
    """A hash of prompt, examples, schema and grades, for fingerprints."""
    return content_hash(SYSTEM, json.dumps([EXAMPLES, GRADES, _SCHEMA, MAX_CHARS]))


def expected_grade(answer: str, alternatives: Sequence[Mapping[str, float]]) -> float:
    """The mean of the grades that the LLM might have given, weighted by their probabilities.

    ``alternatives`` are the likeliest tokens with their probabilities at each of the first positions; the first that
    begins the answer counts. Where the server gives none, the answer counts as it is.
    """
    for token in alternatives:
        grades = [(begun, share) for text, share in token.items() if (begun := _begun(text)) is not None]
        total = sum(share for _, share in grades)
        if total > 0 and any(begun == GRADES[answer] for begun, _ in grades):
            return sum(begun * share for begun, share in grades) / total
    return float(GRADES[answer])


def _begun(token: str) -> int | None:
    """The grade whose word a token begins."""
    word = token.strip().lower()
    return next((grade for name, grade in GRADES.items() if len(word) > 1 and name.startswith(word)), None)


def _turn(query: str, answer: str, text: str) -> str:
    """One line for each text, so that none can imitate a turn of the conversation."""
    return "\n".join(
        f"{name}: {folded(plain(one))[:MAX_CHARS]}" for name, one in (("query", query), ("A", answer), ("B", text))
    )


Pair = tuple[str, str]
NO_GRADE = "no grade: "  # begins the reason where a reply could not be read


class LlmJudge:
    """Grades through client and ledger: what the ledger holds is not asked again. A context manager.

    A query's known answers have the highest grade; other texts are compared with the first of them. A query without a
    known answer, and a reply that cannot be read, give a score that is no number.

    The ledger is the file of requests and replies; the log is the embedded server's own.
    """

    best: float = HIGHEST

    def __init__(self, config: LLMConfig, ledger: Path, log: Path, seed: int) -> None:
        self._session = Session(config, ledger, "verify", log)
        self._settings = request_settings(config, temperature=0, seed=seed)
        self._answers: Mapping[str, Sequence[str]] = {}
        self._reasons: dict[Pair, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: Any) -> None:
        self._session.__exit__(*error)

    def know(self, answers: Mapping[str, Sequence[str]]) -> None:
        """Sets the known answers, query -> texts, in place of earlier ones."""
        self._answers, self._reasons = answers, {}

    def scores(self, pairs: Sequence[Pair]) -> Iterator[float]:
        """Yields the grade of each (query, text), in order."""
        unsure = dict.fromkeys(pair for pair in pairs if self._known(pair) is None)
        found = self._grades(list(unsure)) if unsure else {}
        for pair in pairs:
            known = self._known(pair)
            yield found[pair] if known is None else known

    def _known(self, pair: Pair) -> float | None:
        """The grade that needs no asking, or cannot be asked for."""
        answers = self._answers.get(pair[0], ())
        return HIGHEST if pair[1] in answers else None if answers else nan

    def reason(self, pair: Pair) -> str:
        """The LLM's reason for the grade of a (query, text)."""
        return self._reasons.get(pair, "")

    def _grades(self, pairs: Sequence[Pair]) -> dict[Pair, float]:
        with progress("the LLM judges", len(pairs)) as meter:
            answers = self._session.ask(pairs, self._grade, meter.advance)
        grades = {}
        for pair, answer in zip(pairs, answers, strict=True):
            found = answer.value or _judgement_of_cut(answer)
            grades[pair] = expected_grade(found.answer, answer.reply.alternatives) if found else nan
            self._reasons[pair] = found.reason if found else f"{NO_GRADE}{answer.reason}"
        return grades

    async def _grade(self, ask: Ask, pair: Pair) -> Answer[Judgement]:
        query, text = pair
        return await ask_for(ask, grade_request(query, self._answers[query][0], text, self._settings), Judgement)


def _judgement_of_cut(answer: Answer[Judgement]) -> Judgement | None:
    """Of a reply that was cut within its reason: the word comes before it, and is whole."""
    if answer.reason != CUT or not answer.reply.text.lstrip().startswith("{"):
        return None
    ended: Reply = answer.reply.model_copy(update={"finish_reason": "stop"})
    try:
        return read(ended, Judgement)
    except UnreadableError:
        return None
