"""Samples of one query are judged one at a time; what they say of one text must agree."""

from collections import defaultdict
from collections.abc import Iterable, Sequence

from finegrade.records import Sample, Verdict
from finegrade.text import normalised
from finegrade.verdicts import FALSE, THE_POSITIVE

Judged = tuple[Sample, list[Verdict]]


def agree(judged: Sequence[Judged]) -> list[Judged]:
    """Makes verdicts of one query agree: what is false beside one positive is false beside all, and promoted once.

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
        self._false = {
            normalised(one.text): one.reason for _, verdicts in judged for one in verdicts if one.reason in FALSE
        }
        self._promoted: set[str] = set()

    def held(self, verdict: Verdict) -> Verdict:
        """The verdict, or what replaces it; called once a verdict, in their order."""
        text = normalised(verdict.text)
        if verdict.decision == "promoted" and text not in self._positives | self._promoted:
            self._promoted.add(text)
            return verdict
        if verdict.decision == "promoted" or (verdict.level_after is not None and text in self._positives):
            return dropped(verdict, THE_POSITIVE)
        if verdict.level_after is not None and text in self._false:
            return dropped(verdict, self._false[text])
        return verdict


def dropped(verdict: Verdict, reason: str) -> Verdict:
    """The verdict on a text that leaves after all."""
    return verdict.model_copy(update={"decision": "dropped", "level_after": None, "reason": reason})
