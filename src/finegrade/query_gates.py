"""What a written query must pass before it is searched with."""

import re
from collections.abc import Set

from finegrade.query_prompts import EXAMPLE_QUERIES
from finegrade.text import normalised, shingles, word_count

MAX_WORDS = 25
COPIED_WORDS = 8
"""A query that repeats so many words of the text in a row was copied, not typed."""

_SPEAKS_OF_THE_TEXT = re.compile(
    r"\b(?:this|the|above|given|following) (?:passage|text|document|article|excerpt|paragraph|section)\b", re.IGNORECASE
)
_EXAMPLES = frozenset(map(normalised, EXAMPLE_QUERIES))


def query_refusal(query: str, style: str, text: str, seen: Set[str]) -> str | None:
    """Why a query is set aside, or None where it passes.

    Args:
        query: The query.
        style: Its style.
        text: The chunk that it shall find.
        seen: Normalised queries that are there already.
    """
    folded = normalised(query)
    number = word_count(query)
    if not any(map(str.isalpha, query)):
        return "no words"
    if number > MAX_WORDS:
        return "too long"
    if _SPEAKS_OF_THE_TEXT.search(query):
        return "speaks of the text"
    if folded in _EXAMPLES:
        return "copies the prompt's example"
    if folded in seen:
        return "same as another query"
    if number >= COPIED_WORDS and shingles(query, COPIED_WORDS) & shingles(text, COPIED_WORDS):
        return "copied from the text"
    return None
