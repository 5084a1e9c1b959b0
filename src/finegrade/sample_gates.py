"""What written queries, positives and negatives must pass before a model looks at them: it needs no second model."""

import re

from finegrade.levels import LADDER
from finegrade.records import KINDS
from finegrade.sample_prompts import PROMPTS
from finegrade.sources.languages import certain_language
from finegrade.task_prompts import WHAT
from finegrade.text import content_words, ends_a_sentence, jaccard, normalised, shingles, words

MAX_QUERY_CHARS = 6_000
COPIED_WORDS = 8
"""A text that repeats so many words of the prompt in a row was copied."""

LEAKED_WORDS = 4
"""A query of fewer words stands in most texts about its subject."""

LONGEST = 3.0
"""A negative that is so many times longer than the positive, or shorter, is told by its length."""

SHARED_WORDS = 8
"""A text that shares so many words with the positive is in its language; telling it by its letters takes longer."""

SAME = 0.8
"""Jaccard of 3-word shingles from which two negatives of a sample are one."""

_LENGTHS_FROM = 60  # characters: of shorter texts a word more is half of them

_BOILERPLATE = re.compile(
    r"[\s*_#>\"'“‘]*(?:"  # what sets it off
    r"(?:sure|certainly|absolutely|of course|okay)[,!.:]|here(?:['’]s| is| are) (?:the|a|an|your|some)\b.{0,60}:|"
    r"as an ai\b|i(?:['’]m| am) sorry\b|i can(?:not|['’]t)\b|"
    r"(?:title|passage|answer|positive|negative|text|document|query|flaw|level ?\d+)(?: \d+)? ?:|"
    r"(?:in )?this (?:passage|text|article|document|paragraph|excerpt) )",
    re.IGNORECASE,
)
_SPEAKS_OF_THE_TASK = re.compile(
    r"\b(?:hard[- ]negatives?|(?:negative|positive) (?:example|text|sample|passage)s?|similarity level|"
    r"embedding (?:task|model)s?|(?:the|this|your) (?:query|question) (?:asks|is about|wants|mentions)|"
    r"(?:does not|doesn't|fails to|without) answer(?:ing)? (?:the|this|your) (?:query|question)|level_\d|flaw_\d)\b",
    re.IGNORECASE,
)
_PROMPTS = frozenset().union(
    *(
        shingles(text, COPIED_WORDS)
        for text in (*PROMPTS.values(), *(flaw.told for flaw in LADDER), *(WHAT[kind].task for kind in KINDS))
    )
)


def pair_refusal(query: str, positive: str, language: str) -> str | None:
    """Why a written query with its positive is set aside, or None where both pass.

    Args:
        query: The query.
        positive: The text that is right for it.
        language: That both are to be in, ISO 639-1.
    """
    if not any(map(str.isalnum, query)) or not any(map(str.isalnum, positive)):
        return "no words"
    if len(query) > MAX_QUERY_CHARS:
        return "query too long"
    if normalised(query) == normalised(positive):
        return "positive is the query"
    for text in (query, positive):
        if reason := _fault(text) or _wrong_language(text, language):
            return reason
    return None


def rephrasing_refusal(text: str, rephrased: str) -> str | None:
    """Why a text in other words cannot stand for the text, or None."""
    if normalised(text) == normalised(rephrased):
        return "copy of the text"
    if _numbers(text) != _numbers(rephrased):
        return "other numbers than the text"
    if not 1 / 2 < len(rephrased) / len(text) < 2:
        return "much shorter or longer than the text"
    return None if _fault(text) else _fault(rephrased)


class NegativeGates:
    """What the negatives of one sample must pass; remembers those that did.

    Args:
        query: The sample's.
        positive: The sample's.
        min_changed: Content words that a negative must differ in from the positive.
        language: That the texts are to be in; None: the positive's, where that is certain.
    """

    def __init__(self, query: str, positive: str, min_changed: int, language: str | None = None) -> None:
        found = certain_language(positive)
        self._positive, self._min_changed, self._language = positive, min_changed, language or found
        self._same_as_query, self._same_as_positive = normalised(query), normalised(positive)
        self._content, self._is_faulty = content_words(positive), _fault(positive) is not None
        self._words = frozenset(words(positive)) if language in (None, found) else frozenset()
        self._taken: list[frozenset[tuple[str, ...]]] = []

    def refusal(self, text: str) -> str | None:
        """Why a negative is set aside, or None where it passes and is remembered."""
        reason = self._against_the_pair(text) or self._by_itself(text)
        if reason:
            return reason
        own = shingles(text, 3)
        if any(jaccard(own, other) >= SAME for other in self._taken):
            return "nearly the same as another level"
        self._taken.append(own)
        return None

    def _against_the_pair(self, text: str) -> str | None:
        own, positive, query = normalised(text), self._same_as_positive, self._same_as_query
        if own == positive:
            return "copy of the positive"
        if own == query:
            return "copy of the query"
        if len(words(positive)) > LEAKED_WORDS and positive in own:
            return "keeps the whole positive"
        if len(content_words(text) ^ self._content) < self._min_changed:
            return "near-copy of the positive"
        if len(words(query)) >= LEAKED_WORDS and query in own:
            return "holds the query verbatim"
        return None

    def _by_itself(self, text: str) -> str | None:
        ratio = len(text) / max(1, len(self._positive))
        if len(self._positive) >= _LENGTHS_FROM and not 1 / LONGEST <= ratio <= LONGEST:
            return "much shorter or longer than the positive"
        if ends_a_sentence(self._positive) and not ends_a_sentence(text):
            return "ends in the middle of a sentence"
        if self._language and not self._sounds_like_it(text) and (reason := _wrong_language(text, self._language)):
            return reason
        return None if self._is_faulty else _fault(text)  # what the user's own text does is no fault

    def _sounds_like_it(self, text: str) -> bool:
        return len(self._words.intersection(words(text))) >= SHARED_WORDS


def _fault(text: str) -> str | None:
    if not any(map(str.isalnum, text)):
        return "no words"
    if _BOILERPLATE.match(text):
        return "boilerplate opening"
    if _SPEAKS_OF_THE_TASK.search(text):
        return "speaks of the task"
    if shingles(text, COPIED_WORDS) & _PROMPTS:
        return "copies the prompt"
    return None


def _wrong_language(text: str, language: str) -> str | None:
    found = certain_language(text)
    return "wrong language" if found is not None and found != language else None


def _numbers(text: str) -> list[str]:
    return sorted(re.findall(r"\d+(?:[.,]\d+)*", text))
