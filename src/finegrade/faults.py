"""What is wrong with a written text by itself: no words, a greeting, talk of the task, a piece of the prompt."""

import re

from finegrade.data.languages import certain_language
from finegrade.levels import LADDER
from finegrade.prompts import SIBLING_SYSTEM
from finegrade.sample_prompts import PROMPTS
from finegrade.task_prompts import WHAT
from finegrade.text import shingles

COPIED_WORDS = 8
"""A text that repeats so many words of the prompt in a row was copied."""

_BOILERPLATE = re.compile(
    r"[\s*_#>\"'“‘]*(?:"  # what sets it off
    r"(?:sure|certainly|absolutely|of course|okay)[,!.:]|here(?:['’]s| is| are) (?:the|a|an|your|some)\b.{0,60}:|"
    r"(?:title|passage|answer|positive|negative|text|document|query|flaw|level ?\d+)(?: \d+)? ?:|"
    r"(?:in )?this (?:passage|text|article|document|paragraph|excerpt) )",
    re.IGNORECASE,
)
_REFUSES = re.compile(
    r"[\s*_#>\"'“‘]*(?:as an ai(?: |,)(?:language model|assistant|model|i\b)|"
    r"(?:i(?:['’]m| am) (?:very |really )?sorry,? (?:but )?)?i(?: cannot| can['’]t|['’]m unable to| am unable to|"
    r"['’]m not able to| am not able to) (?:help|assist|provide|fulfil|comply|write|create|generate|answer|produce|"
    r"continue|complete|do that))",
    re.IGNORECASE,
)
_SPEAKS_OF_THE_TASK = re.compile(
    r"\b(?:hard[- ]negatives?|similarity level|embedding tasks?|"
    r"(?:the|this|your) (?:query|question) (?:asks|is about|wants|mentions)|"
    r"(?:does not|doesn't|fails to|without) answer(?:ing)? (?:the|this|your) (?:query|question)|level_\d|flaw_\d)\b",
    re.IGNORECASE,
)
_PROMPTS = frozenset().union(
    *(
        shingles(text, COPIED_WORDS)
        for text in (
            SIBLING_SYSTEM,
            *PROMPTS.values(),
            *(flaw.told for flaw in LADDER),
            *(text for sort in WHAT.values() for text in (sort.told, sort.task, sort.instruction)),
        )
    )
)


def query_fault(query: str, task: str = "") -> str | None:
    """What is wrong with a written query by itself, or None. It may say that it cannot do something: users do.

    Args:
        query: The query.
        task: What it is an example of: a task that speaks of negatives and queries has texts that do.
    """
    if not any(map(str.isalnum, query)):
        return "no words"
    if _BOILERPLATE.match(query):
        return "boilerplate opening"
    if _SPEAKS_OF_THE_TASK.search(query) and not _SPEAKS_OF_THE_TASK.search(task):
        return "speaks of the task"
    if shingles(query, COPIED_WORDS) & _PROMPTS:
        return "copies the prompt"
    return None


def fault(text: str, task: str = "") -> str | None:
    """What is wrong with a written positive or negative by itself, or None.

    Args:
        text: The text.
        task: See `query_fault`.
    """
    return "boilerplate opening" if _REFUSES.match(text) else query_fault(text, task)


def wrong_language(text: str, language: str) -> str | None:
    """The reason where a text is certainly in another language than this one (ISO 639-1), or None."""
    found = certain_language(text)
    return "wrong language" if found is not None and found != language else None
