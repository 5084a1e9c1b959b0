"""Samples of one query are judged one at a time; what they say of one text must agree.

What is false beside one positive is false beside all. A text is promoted once, the first time, and so is one of several
that are nearly the same; what is nearly a promoted text is no negative, either, unless an LLM wrote it: there a word
turns what is right to what is wrong.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from finegrade.records import Negative, Sample
from finegrade.retrieval.shingle_index import NearCopies
from finegrade.text import normalised
from finegrade.verdicts import ANSWERS, FALSE, NEARLY_ANSWERS, THE_POSITIVE

_Said = tuple[Sample, Sequence[str]]


def agree(samples: Sequence[Sample], false: Sequence[Sequence[str]]) -> list[list[str]]:
    """Makes what is said of negatives agree.

    Args:
        samples: Those of one query may lie apart.
        false: Of each sample why each negative is none; empty where it may be one.

    Returns:
        The same with the reasons that hold.
    """
    of_query: defaultdict[str, list[_Said]] = defaultdict(list)
    for sample, own in zip(samples, false, strict=True):
        of_query[sample.query].append((sample, own))
    known = {query: _Query(said) for query, said in of_query.items() if len(said) > 1 or FALSE & {*said[0][1]}}
    return [
        [known[sample.query].reason(*one) for one in zip(sample.negatives, own, strict=True)]
        if sample.query in known
        else list(own)
        for sample, own in zip(samples, false, strict=True)
    ]


class _Query:
    """What the samples of a query say of texts."""

    def __init__(self, said: Iterable[_Said]) -> None:
        self._positives: set[str] = set()
        self._false: dict[str, str] = {}
        self._answers, self._promoted = NearCopies(), NearCopies()
        for sample, own in said:
            self._positives.add(normalised(sample.positive))
            for negative, reason in zip(sample.negatives, own, strict=True):
                if reason == ANSWERS:
                    self._answers.add(negative.text)
                if reason in FALSE:
                    self._false[normalised(negative.text)] = NEARLY_ANSWERS if reason == ANSWERS else reason

    def reason(self, negative: Negative, own: str) -> str:
        """The reason that holds; called once a negative, in their order.

        Args:
            negative: Of one of the samples.
            own: What its sample says of it.
        """
        if own == ANSWERS:
            return self._why_not_promoted(negative.text) or own
        return own or self._why_false(negative)

    def _why_not_promoted(self, text: str) -> str:
        if normalised(text) in self._positives:
            return THE_POSITIVE
        if self._promoted.has_one_of(text):
            return NEARLY_ANSWERS
        self._promoted.add(text)
        return ""

    def _why_false(self, negative: Negative) -> str:
        text = normalised(negative.text)
        if text in self._positives:
            return THE_POSITIVE
        if text in self._false:
            return self._false[text]
        return NEARLY_ANSWERS if negative.source != "llm" and self._answers.has_one_of(negative.text) else ""
