"""What written queries, positives and negatives must pass before a model looks at them: it needs no second model."""

import re
from collections import Counter
from collections.abc import Sequence

from finegrade.data.languages import certain_language
from finegrade.faults import COPIED_WORDS, fault, query_fault, wrong_language
from finegrade.text import ends_a_sentence, jaccard, normalised, shingles, telling_words, word_count, words

GATES = 2
"""Raised when what passes the gates changes, or how a reply is read: samples are then made again, out of the ledger."""

MAX_TEXT_CHARS = 16_000

LEAKED_WORDS = 4
"""A query of fewer words stands in most texts about its subject."""

LONGEST = 3.0
"""A negative that is so many times longer than the positive, or shorter, is told by its length."""

SHARED_WORDS = 8
"""A text that shares so many words with the positive is in its language; telling it by its letters takes longer."""

SAME = 0.8
"""Jaccard of 3-word shingles from which two negatives of a sample are one."""

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
    if reason := query_fault(query, about) or fault(positive, about):
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
    return None if fault(text) else fault(rephrased)


def are_nearly_the_same(left: str, right: str) -> bool:
    """Whether two texts cannot be two negatives of one sample."""
    return jaccard(shingles(left, 3), shingles(right, 3)) >= SAME


class NegativeGates:
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
        self._is_faulty = fault(self._positive, task) is not None
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
        return None if self._is_faulty else fault(text, self._task)  # what the user's own text does is no fault

    def _sounds_like_it(self, text: str) -> bool:
        """Single signs do not count: Chinese and Japanese share them."""
        return sum(len(word) > 1 for word in self._words.intersection(words(text))) >= SHARED_WORDS


def _changed(before: Sequence[str], after: Sequence[str]) -> int:
    """How many words are gone or new; where all are there in another order, how many places have another one."""
    gone_or_new = Counter(before)
    gone_or_new.subtract(after)
    changed = sum(map(abs, gone_or_new.values()))
    if changed or before == after:
        return changed
    return sum(one != other for one, other in zip(before, after, strict=True))


def _numbers(text: str) -> list[str]:
    return sorted(re.findall(r"\d+(?:[.,]\d+)*", text))
