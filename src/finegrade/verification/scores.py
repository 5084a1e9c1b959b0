"""What the scorers found of one negative: which of them decide, and how similar it is to the positive."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean
from typing import NamedTuple

from finegrade.config import LLM_JUDGE
from finegrade.records import ScorerResult


@dataclass(frozen=True)
class Scores:
    """The scorer results of one negative: those that say whether it is false, and those asked before or no number."""

    deciding: tuple[ScorerResult, ...]
    earlier: tuple[ScorerResult, ...] = ()

    @property
    def results(self) -> tuple[ScorerResult, ...]:
        """All of them, in the order of asking."""
        return (*self.earlier, *self.deciding)

    @property
    def sibling(self) -> float | None:
        """Score of (sibling query, negative); None where no scorer was asked."""
        found = [one.sibling for one in self.results if one.sibling is not None]
        return fmean(found) if found else None

    @property
    def gain(self) -> float | None:
        """How much better the negative answers its sibling query than the query; None where no scorer was asked."""
        found = [one.sibling - one.score for one in self.results if one.sibling is not None]
        return fmean(found) if found else None

    @property
    def are_known(self) -> bool:
        """Whether every scorer that decides, and every one that measures similarity, gave a number."""
        return all(isfinite(one.score - one.positive) for one in (*self.deciding, *_of_similarity(self.earlier)))

    def then(self, results: Sequence[ScorerResult]) -> "Scores":
        """With the results of a second opinion: these decide, as far as their scores are numbers."""
        numbers = tuple(one for one in results if isfinite(one.score))
        if not numbers:
            return Scores(self.deciding, (*self.earlier, *results))
        return Scores(numbers, (*self.results, *(one for one in results if one not in numbers)))


class Similarity(NamedTuple):
    """Scores of (query, positive) and (query, negative) on the common scale, by which negatives are compared."""

    positive: float
    score: float

    @property
    def distance(self) -> float:
        """How far the negative is above the positive; below: less than 0."""
        return self.score - self.positive


def similarities(scores: Sequence[Scores]) -> list[Similarity]:
    """The similarity of each of a sample's negatives, by the same scorers for all of them.

    These are the last that were asked about all. An LLM says whether a text answers, not how similar it is: its grades
    count only where it alone was asked. Where the scores are not known, the similarity is no number.
    """
    known = [one for one in scores if one.are_known]
    deciding = _asked_of_all(_of_similarity(one.deciding) for one in known)
    asked = deciding or _asked_of_all(_of_similarity(one.results) for one in known)
    names = asked or _asked_of_all(one.results for one in known)
    compared = [[result for result in one.results if result.scorer in names] or one.results for one in scores]
    return [Similarity(fmean(one.positive for one in some), fmean(one.score for one in some)) for some in compared]


def _of_similarity(results: Iterable[ScorerResult]) -> list[ScorerResult]:
    return [one for one in results if one.scorer != LLM_JUDGE]


def _asked_of_all(groups: Iterable[Iterable[ScorerResult]]) -> frozenset[str]:
    named = [frozenset(one.scorer for one in group) for group in groups]
    return frozenset.intersection(*named) if named else frozenset()
