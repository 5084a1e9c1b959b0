"""What is known of a negative: the opinions of those who were asked, who of them decides, and how near it is."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from math import isfinite
from statistics import fmean

from finegrade.config import LLM_JUDGE
from finegrade.records import Opinion


@dataclass(frozen=True)
class View:
    """What is known of one negative.

    Args:
        deciding: The opinions that say whether it is false.
        heard: Those that were asked before and were in doubt, and those whose score is no number.
    """

    deciding: tuple[Opinion, ...]
    heard: tuple[Opinion, ...] = ()

    @property
    def opinions(self) -> tuple[Opinion, ...]:
        """All of them."""
        return (*self.heard, *self.deciding)

    @property
    def sibling(self) -> float | None:
        """Score of (sibling query, negative); None where nobody was asked."""
        found = [one.sibling for one in self.opinions if one.sibling is not None]
        return fmean(found) if found else None

    @property
    def gain(self) -> float | None:
        """How much better the negative answers its sibling query than the query; None where nobody was asked."""
        found = [one.sibling - one.score for one in self.opinions if one.sibling is not None]
        return fmean(found) if found else None

    @property
    def is_known(self) -> bool:
        """Whether there is a number of each who decides, and of each who says how near a text is."""
        return all(isfinite(one.score - one.positive) for one in (*self.deciding, *_of_nearness(self.heard)))

    def then(self, opinions: Sequence[Opinion]) -> "View":
        """What is known when others were asked: they decide, as far as their scores are numbers."""
        numbers = tuple(one for one in opinions if isfinite(one.score))
        if not numbers:
            return View(self.deciding, (*self.heard, *opinions))
        return View(numbers, (*self.opinions, *(one for one in opinions if one not in numbers)))


@dataclass(frozen=True)
class Nearness:
    """Where a negative lies on the common scale, as the negatives of its sample are compared.

    Args:
        positive: Score of (query, positive).
        score: Score of (query, negative).
    """

    positive: float
    score: float

    @property
    def distance(self) -> float:
        """How far the negative is above the positive; below: less than 0."""
        return self.score - self.positive


def nearness(views: Sequence[View]) -> list[Nearness]:
    """How near each of a sample's negatives is, as the same scorers see all of them.

    These are the last ones that were asked about all. An LLM says whether a text answers, not how near it is: its
    grades count only where nobody else was asked.

    Args:
        views: Of the negatives. One whose score is not known has a nearness that is no number.
    """
    known = [view for view in views if view.is_known]
    deciding = _asked_of_all(_of_nearness(view.deciding) for view in known)
    asked = deciding or _asked_of_all(_of_nearness(view.opinions) for view in known)
    names = asked or _asked_of_all(view.opinions for view in known)
    return [_mean([one for one in view.opinions if one.scorer in names] or view.opinions) for view in views]


def _of_nearness(opinions: Iterable[Opinion]) -> list[Opinion]:
    return [one for one in opinions if one.scorer != LLM_JUDGE]


def _asked_of_all(groups: Iterable[Iterable[Opinion]]) -> frozenset[str]:
    named = [frozenset(one.scorer for one in group) for group in groups]
    return frozenset.intersection(*named) if named else frozenset()


def _mean(opinions: Sequence[Opinion]) -> Nearness:
    return Nearness(fmean(one.positive for one in opinions), fmean(one.score for one in opinions))
