"""What written queries, positives and negatives must pass before a model looks at them: it needs no second model."""

import re
from collections import Counter
from collections.abc import Sequence, Set
from difflib import SequenceMatcher

from finegrade.data.languages import certain_language
from finegrade.retrieval.shingle_index import are_nearly_the_same
from finegrade.synthesis.levels import LADDER
from finegrade.synthesis.prompts.query import EXAMPLE_QUERIES
from finegrade.synthesis.prompts.sample import PROMPTS
from finegrade.synthesis.prompts.sibling import SIBLING_EXAMPLES, SIBLING_SYSTEM
from finegrade.synthesis.prompts.task import WHAT
from finegrade.text import (
    content_words,
    ends_a_sentence,
    normalised,
    shingles,
    telling_words,
    word_count,
    words,
)

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
            *(flaw.description for flaw in LADDER),
            *(text for sort in WHAT.values() for text in (sort.description, sort.task, sort.instruction)),
        )
    )
)


def wording_refusal(query: str, task: str = "") -> str | None:
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


def text_refusal(text: str, task: str = "") -> str | None:
    """What is wrong with a written positive or negative by itself, or None."""
    return "boilerplate opening" if _REFUSES.match(text) else wording_refusal(text, task)


def wrong_language(text: str, language: str) -> str | None:
    """The reason where a text is certainly in another language than this one (ISO 639-1), or None."""
    found = certain_language(text)
    return "wrong language" if found is not None and found != language else None


CHECKS = 2
"""Raised when the checks change, or how a reply is read: samples are then made again, out of the ledger."""

MAX_TEXT_CHARS = 16_000

LEAKED_WORDS = 4
"""A query of fewer words stands in most texts about its subject."""

LONGEST = 3.0
"""A negative that is so many times longer than the positive, or shorter, is told by its length."""

SHARED_WORDS = 8
"""A text that shares so many words with the positive is in its language; telling it by its letters takes longer."""

_LENGTHS_FROM = 60  # characters: of shorter texts a word more is half of them


def pair_refusal(query: str, positive: str, language: str, task: Sequence[str] = ()) -> str | None:
    """Why a written query with its positive is set aside, or None where both pass.

    Args:
        query: The query.
        positive: The text that is right for it.
        language: That both are to be in, ISO 639-1.
        task: What they are an example of, as the LLM was told: description and instruction.
    """
    for name, text in (("query", query), ("positive", positive)):
        if len(text) > MAX_TEXT_CHARS:
            return f"{name} too long"
    if normalised(query) == normalised(positive):
        return "positive is the query"
    about = " ".join(task)
    if reason := wording_refusal(query, about) or text_refusal(positive, about):
        return reason
    for text in (query, positive):
        if any(shingles(text, COPIED_WORDS) & shingles(told, COPIED_WORDS) for told in task):
            return "copies the task"
        if reason := wrong_language(text, language):
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
    if (language := certain_language(text)) and (reason := wrong_language(rephrased, language)):
        return reason
    return None if text_refusal(text) else text_refusal(rephrased)


class NegativeChecks:
    """What the negatives of one sample must pass; remembers those that did.

    Args:
        query: The sample's.
        positives: All that is known to answer the query; first the one that the negatives were written for.
        min_changed: Words that a negative must differ in from each positive, gone and new together.
        language: That the texts are to be in; None: the first positive's, where that is certain.
        task: What the sample is an example of.
    """

    def __init__(
        self, query: str, positives: Sequence[str], min_changed: int, language: str | None = None, task: str = ""
    ) -> None:
        self._positive, self._min_changed = positives[0], min_changed
        found = certain_language(self._positive)
        self._language, self._task = language or found, task
        self._is_refused_itself = text_refusal(self._positive, task) is not None
        self._words = frozenset(words(self._positive)) if language in (None, found) else frozenset()
        self._query, self._has_many_words = normalised(query), word_count(query) >= LEAKED_WORDS
        self._answers = [(normalised(text), telling_words(text), word_count(text)) for text in positives]
        self._taken: list[str] = []

    def refusal(self, text: str) -> str | None:
        """Why a negative is set aside, or None where it passes and is remembered."""
        reason = self._against_the_pair(text) or self._by_itself(text)
        if reason:
            return reason
        if any(are_nearly_the_same(text, other) for other in self._taken):
            return "nearly the same as another level"
        self._taken.append(text)
        return None

    def _against_the_pair(self, text: str) -> str | None:
        own, telling = normalised(text), telling_words(text)
        if any(own == answer for answer, _, _ in self._answers):
            return "copy of the positive"
        if own == self._query:
            return "copy of the query"
        if any(number > LEAKED_WORDS and answer in own for answer, _, number in self._answers):
            return "keeps the whole positive"
        if any(_changed(of_answer, telling) < self._min_changed for _, of_answer, _ in self._answers):
            return "near-copy of the positive"
        if self._has_many_words and self._query in own:
            return "holds the query verbatim"
        return None

    def _by_itself(self, text: str) -> str | None:
        ratio = len(text) / max(1, len(self._positive))
        if len(self._positive) >= _LENGTHS_FROM and not 1 / LONGEST <= ratio <= LONGEST:
            return "much shorter or longer than the positive"
        if ends_a_sentence(self._positive) and not ends_a_sentence(text):
            return "ends in the middle of a sentence"
        if self._language and not self._sounds_like_it(text) and (reason := wrong_language(text, self._language)):
            return reason
        return (
            None if self._is_refused_itself else text_refusal(text, self._task)
        )  # what the user's own text does is no fault

    def _sounds_like_it(self, text: str) -> bool:
        """Single characters do not count: Chinese and Japanese share them."""
        return sum(len(word) > 1 for word in self._words.intersection(words(text))) >= SHARED_WORDS


def _changed(before: Sequence[str], after: Sequence[str]) -> int:
    """How many words are gone or new; where all are there in another order, how many positions have another one."""
    gone_or_new = Counter(before)
    gone_or_new.subtract(after)
    changed = sum(map(abs, gone_or_new.values()))
    if changed or before == after:
        return changed
    return sum(one != other for one, other in zip(before, after, strict=True))


def _numbers(text: str) -> list[str]:
    return sorted(re.findall(r"\d+(?:[.,]\d+)*", text))


MIN_SEQUENCE_RATIO = 0.5
"""A near miss keeps at least this share of the positive's word sequence; else it is another text for the sibling."""

_COPIED_WORDS = 4  # of the examples: a small model takes over less than a sentence
_SIBLING_EXAMPLES = frozenset().union(
    *(shingles(text, _COPIED_WORDS) for example in SIBLING_EXAMPLES for text in example)
)


def sibling_refusal(positive: str, sibling: str, text: str) -> str | None:
    """Why a rewritten text is set aside, or None where it passes."""
    if not (_alike(sibling) & _alike(text)) - _alike(positive):
        return "brings in nothing of the sibling query"
    if (shingles(text, _COPIED_WORDS) & _SIBLING_EXAMPLES) - shingles(positive, _COPIED_WORDS):
        return "copies the prompt's example"
    return None


def _alike(text: str) -> frozenset[str]:
    """Content words, one and many of a thing as one word."""
    return frozenset(word.removesuffix("s") for word in content_words(text))


def is_near_miss(positive: str, text: str) -> bool:
    """Whether a text that passed is the positive rewritten; else it is another text, which also answers the sibling."""
    return SequenceMatcher(None, words(positive), words(text), autojunk=False).ratio() >= MIN_SEQUENCE_RATIO


MAX_WORDS = 25
COPIED_QUERY_WORDS = 8
"""A query that repeats so many words of the text in a row was copied, not typed."""

_SPEAKS_OF_THE_TEXT = re.compile(
    r"\b(?:this|the|above|given|following) (?:passage|text|document|article|excerpt|paragraph|section)\b", re.IGNORECASE
)
_QUERY_EXAMPLES = frozenset(map(normalised, EXAMPLE_QUERIES))


def query_refusal(query: str, style: str, text: str, seen: Set[str]) -> str | None:
    """Why a query is set aside, or None where it passes."""
    folded = normalised(query)
    number = word_count(query)
    if not any(map(str.isalpha, query)):
        return "no words"
    if number > MAX_WORDS:
        return "too long"
    if _SPEAKS_OF_THE_TEXT.search(query):
        return "speaks of the text"
    if folded in _QUERY_EXAMPLES:
        return "copies the prompt's example"
    if folded in seen:
        return "same as another query"
    if number >= COPIED_QUERY_WORDS and shingles(query, COPIED_QUERY_WORDS) & shingles(text, COPIED_QUERY_WORDS):
        return "copied from the text"
    return None
