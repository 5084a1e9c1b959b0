"""The rules of verification: what is decided on a sample's negatives, from what the scorers say of them.

In this order, for a negative:
1. duplicate: it is the positive, or nearly a harder negative of the sample -> dropped;
2. false negative: it does not score ``margin`` below the positive -> promoted where every scorer finds that it answers,
   and it is no text that was written to be wrong; else dropped;
3. sibling test, for rewritten texts: it does not answer its sibling query better than the original -> dropped;
4. contradiction, among texts that an LLM wrote for their levels: it does not belong to the most of them whose scores
   rise with their levels -> dropped. An LLM grades better than scorers do: to deal its levels out again by score makes
   twice as many errors, to drop where both disagree a quarter (LOG.md, 2026-11-26);
5. gap: among what is left it scores less than ``min_gap`` below the next harder one -> dropped;
6. order: the levels of what is left are dealt out again by score -> regraded where that changes one. A text that was
   given without a level gets one by its place on the common scale.

A score that is no number drops the negative.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from math import isfinite
from statistics import fmean

from finegrade.config import LLM_JUDGE, VerificationConfig
from finegrade.records import Negative, Opinion, Sample, Verdict
from finegrade.sample_gates import are_nearly_the_same
from finegrade.text import content_hash, normalised

RULES = 1
"""Raised when what is decided changes: verdicts by other rules are not taken up."""

FALSE_NEGATIVE = "scores too near to the positive"
ANSWERS = "answers the query"
NOT_FOR_SIBLING = "does not answer its sibling query better"
OUT_OF_ORDER = "level out of order"
THE_POSITIVE = "is the positive"
REPEATS = "repeats a harder negative"
CONTRADICTS = "its level contradicts the scores"
NO_GAP = "hardly easier than the next harder negative"
WEAK_POSITIVE = "the positive does not answer"

TYPICAL_POSITIVE = 1.0  # on the common scale


@dataclass(frozen=True)
class View:
    """What is known of one negative.

    Args:
        deciding: The opinions that count.
        heard: Those that were asked before, and were in doubt.
    """

    deciding: tuple[Opinion, ...]
    heard: tuple[Opinion, ...] = ()

    @property
    def positive(self) -> float:
        """Score of (query, positive)."""
        return fmean(one.positive for one in self._similar)

    @property
    def score(self) -> float:
        """Score of (query, negative)."""
        return fmean(one.score for one in self._similar)

    @property
    def _similar(self) -> tuple[Opinion, ...]:
        """What the negatives of a sample are compared by: an LLM says whether a text answers, not how near it is."""
        asked_last_first = (self.deciding, self.heard)
        scorers = (tuple(one for one in some if one.scorer != LLM_JUDGE) for some in asked_last_first)
        return next((some for some in scorers if some), self.deciding)

    @property
    def distance(self) -> float:
        """How far the negative is above the positive; below: less than 0."""
        return self.score - self.positive

    @property
    def sibling(self) -> float | None:
        """Score of (sibling query, negative); None where nobody was asked."""
        found = [one.sibling for one in self.deciding if one.sibling is not None]
        return fmean(found) if found else None

    @property
    def gain(self) -> float | None:
        """How much better the negative answers its sibling query than the query; None where nobody was asked."""
        found = [one.sibling - one.score for one in self.deciding if one.sibling is not None]
        return fmean(found) if found else None

    def then(self, opinions: Sequence[Opinion]) -> "View":
        """What is known when others were asked: they decide, as far as their scores are numbers."""
        numbers = tuple(one for one in opinions if isfinite(one.score))
        return View(numbers, (*self.deciding, *(one for one in opinions if one not in numbers))) if numbers else self


@dataclass
class _Decisions:
    """Place of a negative -> why it leaves; and the new levels of those that stay."""

    leaves: dict[int, str] = field(default_factory=dict)
    levels: dict[int, int] = field(default_factory=dict)


def excess(view: View, rules: VerificationConfig) -> float:
    """How far a negative is above the highest score that a true one has; the mean over those who decide.

    The relative rule is for positives above 0, where a share of the score means something.
    """
    return fmean(one.score - _allowed(one, rules) for one in view.deciding)


def _allowed(one: Opinion, rules: VerificationConfig) -> float:
    margin = rules.judge_margin if one.scorer == LLM_JUDGE else rules.margin
    share = one.positive * (1 - rules.relative_margin) if one.positive > 0 else one.positive
    return min(one.positive - margin, share)


def is_in_doubt(negative: Negative, view: View, rules: VerificationConfig) -> bool:
    """Whether a negative is false, or so near to it that others should be asked."""
    doubt = rules.doubt_written if negative.source == "llm" else rules.doubt
    return doubt > 0 and not excess(view, rules) <= -doubt


def is_weak(positive: float, rules: VerificationConfig) -> bool:
    """Whether a positive is too weak for its sample to be used; also one whose score is no number."""
    return not positive >= rules.weakest_positive


def judge_sample(sample: Sample, views: Sequence[View], rules: VerificationConfig, levels: int) -> list[Verdict]:
    """Decides on each negative of a sample.

    Args:
        sample: With its negatives.
        views: One a negative.
        rules: Margins and gaps.
        levels: How many there are, for texts that were given without one.

    Returns:
        One verdict a negative, in their order.
    """
    found = _Decisions()
    hardest_first = sorted(range(len(views)), key=lambda i: -sample.negatives[i].level)
    taken: list[str] = []
    for i in hardest_first:
        reason = _why_it_leaves(sample, sample.negatives[i], views[i], taken, rules)
        if reason:
            found.leaves[i] = reason
        else:
            taken.append(sample.negatives[i].text)
    _drop_contradictions(sample, views, found)
    _thin_out(sample, views, rules.min_gap, found)
    _deal_levels(sample, views, levels, found)
    return [_verdict(sample, i, view, found) for i, view in enumerate(views)]


def _why_it_leaves(sample: Sample, negative: Negative, view: View, taken: list[str], rules: VerificationConfig) -> str:
    if normalised(negative.text) == normalised(sample.positive):
        return THE_POSITIVE
    if any(are_nearly_the_same(negative.text, other) for other in taken):
        return REPEATS
    if not excess(view, rules) <= 0:
        return ANSWERS if rules.promote and _answers(negative, view) else FALSE_NEGATIVE
    if view.gain is not None and not view.gain > 0:
        return NOT_FOR_SIBLING
    return ""


def _answers(negative: Negative, view: View) -> bool:
    """Whether all agree; no similarity tells a text that an LLM wrote to be wrong from one that is right (LOG.md)."""
    if negative.source == "llm":
        return False
    return all(one.score >= max(one.positive, TYPICAL_POSITIVE) for one in (*view.heard, *view.deciding))


def _drop_contradictions(sample: Sample, views: Sequence[View], found: _Decisions) -> None:
    """Of several largest sets that are in order the one with the harder levels stays."""
    written = [i for i in _left(sample, found) if sample.negatives[i].source == "llm"]
    easiest_first = sorted(written, key=lambda i: sample.negatives[i].level)
    sets = (chosen for size in range(len(written), 0, -1) for chosen in combinations(easiest_first, size))
    in_order = [chosen for chosen in sets if all(views[i].distance <= views[j].distance for i, j in pairwise(chosen))]
    if in_order:
        best = max(in_order, key=lambda chosen: (len(chosen), sum(sample.negatives[i].level for i in chosen)))
        found.leaves |= {i: CONTRADICTS for i in written if i not in best}


def _thin_out(sample: Sample, views: Sequence[View], gap: float, found: _Decisions) -> None:
    """The hardest stays."""
    above = None
    for i in sorted(_left(sample, found), key=lambda i: -views[i].distance):
        if above is not None and not above - views[i].distance >= gap:
            found.leaves[i] = NO_GAP
        else:
            above = views[i].distance


def _deal_levels(sample: Sample, views: Sequence[View], levels: int, found: _Decisions) -> None:
    left = _left(sample, found)
    for i in left:
        if sample.negatives[i].source == "given":
            found.levels[i] = level_of(views[i].score, levels)
    own = [i for i in left if i not in found.levels]
    easiest_first = sorted(own, key=lambda i: (views[i].distance, sample.negatives[i].level))
    found.levels.update(zip(easiest_first, sorted(sample.negatives[i].level for i in own), strict=True))


def level_of(score: float, levels: int) -> int:
    """The level of a score: each has an equal share of the way from a random text (0) to a positive (1).

    Args:
        score: On the common scale.
        levels: How many there are.
    """
    return 1 + min(levels - 1, int(levels * max(0.0, score)))


def _left(sample: Sample, found: _Decisions) -> list[int]:
    return [i for i in range(len(sample.negatives)) if i not in found.leaves]


def _verdict(sample: Sample, place: int, view: View, found: _Decisions) -> Verdict:
    negative, reason = sample.negatives[place], found.leaves.get(place, "")
    before = None if negative.source == "given" else negative.level
    after = found.levels.get(place)
    moved = not reason and before is not None and before != after
    left = "promoted" if reason == ANSWERS else "dropped"
    return Verdict(
        sample=sample.id,
        text=negative.text,
        source=negative.source,
        level_before=before,
        level_after=after,
        decision=left if reason else "regraded" if moved else "kept",
        reason=reason or (OUT_OF_ORDER if moved else ""),
        positive_score=view.positive,
        score=view.score,
        sibling_score=view.sibling,
        opinions=(*view.heard, *view.deciding),
    )


def apply_verdicts(sample: Sample, verdicts: Sequence[Verdict]) -> list[Sample]:
    """What becomes of a sample.

    Args:
        sample: As it was.
        verdicts: One a negative, in their order.

    Returns:
        The sample with the negatives that stay, at their levels, perhaps none; then one for each negative that is a
        positive now, with the same negatives.
    """
    pairs = list(zip(sample.negatives, verdicts, strict=True))
    left = [n.model_copy(update={"level": v.level_after}) for n, v in pairs if v.level_after is not None]
    left.sort(key=lambda negative: negative.level)
    promoted = [n.text for n, v in pairs if v.decision == "promoted"]
    own = sample.model_copy(update={"negatives": tuple(left)})
    return [own, *(_with_positive(own, text) for text in promoted)]


def _with_positive(sample: Sample, text: str) -> Sample:
    mined = "" if sample.hardest_mined == text else sample.hardest_mined
    new = {"id": content_hash(sample.query, text), "positive": text, "hardest_mined": mined}
    return sample.model_copy(update=new)
