"""Samples of one query are judged one at a time; what they say of one text must agree.

What is false beside one positive is false beside all. A text is promoted once, the first time, and so is one of several
that are nearly the same; what is nearly a promoted text is no negative, either, unless an LLM wrote it: there a word
turns what is right to what is wrong.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from finegrade.near_copies import NearCopies
from finegrade.records import Sample, Verdict
from finegrade.text import normalised
from finegrade.verdicts import FALSE, NEARLY_ANSWERS, THE_POSITIVE

Judged = tuple[Sample, list[Verdict]]


def agree(judged: Sequence[Judged]) -> list[Judged]:
    """Makes verdicts of one query agree.

    Args:
        judged: Samples, each with a verdict a negative; of the same query they may lie apart.

    Returns:
        The same samples with the verdicts that hold.
    """
    of_query: defaultdict[str, list[Judged]] = defaultdict(list)
    for sample, verdicts in judged:
        of_query[sample.query].append((sample, verdicts))
    alone = {query for query, own in of_query.items() if len(own) == 1 and not _promotes(own[0][1])}
    known = {query: _Query(own) for query, own in of_query.items() if query not in alone}
    return [
        (sample, verdicts if sample.query in alone else [known[sample.query].held(one) for one in verdicts])
        for sample, verdicts in judged
    ]


def _promotes(verdicts: Iterable[Verdict]) -> bool:
    return any(one.decision == "promoted" for one in verdicts)


class _Query:
    """What the samples of a query say of texts."""

    def __init__(self, judged: Sequence[Judged]) -> None:
        self._positives = {normalised(sample.positive) for sample, _ in judged}
        verdicts = [one for _, own in judged for one in own]
        self._false = {normalised(one.text): one.reason for one in verdicts if one.reason in FALSE}
        self._answers, self._promoted = NearCopies(), NearCopies()
        for one in verdicts:
            if one.decision == "promoted":
                self._answers.add(one.text)

    def held(self, verdict: Verdict) -> Verdict:
        """The verdict, or what replaces it; called once a verdict, in their order."""
        if verdict.decision == "promoted":
            reason = self._why_not_promoted(verdict)
        else:
            reason = "" if verdict.level_after is None else self._why_false(verdict)
        return dropped(verdict, reason) if reason else verdict

    def _why_not_promoted(self, verdict: Verdict) -> str:
        if normalised(verdict.text) in self._positives:
            return THE_POSITIVE
        if self._promoted.has_one_of(verdict.text):
            return NEARLY_ANSWERS
        self._promoted.add(verdict.text)
        return ""

    def _why_false(self, verdict: Verdict) -> str:
        text = normalised(verdict.text)
        if text in self._positives:
            return THE_POSITIVE
        if text in self._false:
            return self._false[text]
        return NEARLY_ANSWERS if verdict.source != "llm" and self._answers.has_one_of(verdict.text) else ""


def dropped(verdict: Verdict, reason: str) -> Verdict:
    """The verdict on a text that leaves after all."""
    return verdict.model_copy(update={"decision": "dropped", "level_after": None, "reason": reason})
