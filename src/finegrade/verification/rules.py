"""The rules of verification: what is decided on a sample's negatives, from what the scorers say of them.

In this order, for a negative:
1. no score: a scorer gave no number -> dropped;
2. it is the query itself, which says nothing -> dropped;
3. false negative: it is the positive -> dropped; or does not score ``margin`` below it -> promoted where every scorer
   finds that it answers, and it is no text that was written to be wrong; else dropped. Of false negatives all samples
   of a query say the same (finegrade.verification.rules);
4. sibling test, for rewritten texts: it does not answer its sibling query better than the original -> dropped;
5. duplicate: it is nearly a harder negative of the sample -> dropped;
6. contradiction, among texts that an LLM wrote for their levels: it does not belong to the most of them whose scores
   rise with their levels -> dropped. An LLM grades better than scorers do: to deal its levels out again by score makes
   twice as many errors (LOG.md, 2026-11-26);
7. gap: among what is left it scores less than ``min_gap`` below the next harder one -> dropped;
8. order: the levels of what is left are dealt out again by score -> regraded where that changes one. A text that was
   given without a level gets one by its place on the common scale.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from math import inf
from statistics import fmean

from finegrade.config import LLM_JUDGE, VerificationConfig
from finegrade.records import Negative, Opinion, Sample, Verdict
from finegrade.retrieval.shingle_index import NearCopies
from finegrade.text import content_hash, normalised
from finegrade.verification.scorer_results import Nearness, View, nearness

RULES = 2
"""Raised when what is decided changes: verdicts by other rules are not taken up."""

NO_SCORE = "no scorer gave a number"
FALSE_NEGATIVE = "scores too near to the positive"
ANSWERS = "answers the query"
THE_QUERY = "is the query"
THE_POSITIVE = "is the positive"
NEARLY_ANSWERS = "is a text that answers, or nearly one"
NOT_FOR_SIBLING = "does not answer its sibling query better"
REPEATS = "repeats a harder negative"
CONTRADICTS = "its level contradicts the scores"
NO_GAP = "hardly easier than the next harder negative"
OUT_OF_ORDER = "level out of order"
WEAK_POSITIVE = "the positive does not answer"

FALSE = frozenset((FALSE_NEGATIVE, ANSWERS, THE_POSITIVE, NEARLY_ANSWERS))
"""Reasons that say of a text that it is no negative of its query."""

TYPICAL_POSITIVE = 1.0  # on the common scale
_CALLED_THE_SAME = 2.5 / 3  # of an LLM's grades: "the same answer" in three of four cases, else "a different one"


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
    """Whether a negative is false, or so near to it that others should be asked; not where their word cannot count."""
    if not view.is_known:
        return False
    doubt = rules.doubt_written if negative.source == "llm" else rules.doubt
    return doubt > 0 and not excess(view, rules) <= -doubt


def why_no_scorer(sample: Sample, negative: Negative) -> str:
    """Why a negative needs no scorer: it is the sample's own query or positive, but for case and signs; else empty."""
    text = normalised(negative.text)
    if text == normalised(sample.positive):
        return THE_POSITIVE
    return THE_QUERY if text == normalised(sample.query) else ""


def is_weak(positive: float, rules: VerificationConfig) -> bool:
    """Whether a positive is too weak for its sample to be used; also one whose score is no number."""
    return not positive >= rules.weakest_positive


def why_false(sample: Sample, views: Sequence[View], rules: VerificationConfig) -> list[str]:
    """Why each negative of a sample is none, or not known to be one; empty where it may be one.

    Args:
        sample: With its negatives.
        views: One a negative.
        rules: Margins.
    """
    return [_why_false(sample, negative, view, rules) for negative, view in zip(sample.negatives, views, strict=True)]


def judge_sample(
    sample: Sample, views: Sequence[View], false: Sequence[str], rules: VerificationConfig, levels: int
) -> list[Verdict]:
    """Decides on each negative of a sample.

    Args:
        sample: With its negatives.
        views: One a negative.
        false: See ``why_false``; what holds for all samples of the query.
        rules: The gap.
        levels: How many there are, for texts that were given without one.

    Returns:
        One verdict a negative, in their order.
    """
    near = nearness(views)
    decisions = _Decisions({place: reason for place, reason in enumerate(false) if reason})
    distances = [one.distance if view.is_known else -inf for one, view in zip(near, views, strict=True)]
    hardest_first = sorted(range(len(views)), key=lambda i: (-sample.negatives[i].rank, -distances[i]))
    for i in _staying(hardest_first, decisions):
        gain = views[i].gain
        if gain is not None and not gain > 0:
            decisions.leaves[i] = NOT_FOR_SIBLING
    _drop_repeats(sample, hardest_first, decisions)
    _drop_contradictions(sample, near, decisions)
    _thin_out(near, hardest_first, rules.min_gap, decisions)
    _deal_levels(sample, near, levels, decisions)
    return [_verdict(sample, i, view, near[i], decisions) for i, view in enumerate(views)]


def _why_false(sample: Sample, negative: Negative, view: View, rules: VerificationConfig) -> str:
    if known := why_no_scorer(sample, negative):
        return known
    if not view.is_known:
        return NO_SCORE
    if excess(view, rules) <= 0:
        return ""
    return ANSWERS if rules.promote and _answers(negative, view) else FALSE_NEGATIVE


def _answers(negative: Negative, view: View) -> bool:
    """Whether all agree; no similarity tells a text that an LLM wrote to be wrong from one that is right (LOG.md)."""
    return negative.source != "llm" and all(map(_finds_that_it_answers, view.opinions))


def _finds_that_it_answers(one: Opinion) -> bool:
    as_much = _CALLED_THE_SAME if one.scorer == LLM_JUDGE else max(one.positive, TYPICAL_POSITIVE)
    return one.score >= as_much


def _drop_repeats(sample: Sample, hardest_first: Sequence[int], decisions: _Decisions) -> None:
    harder = NearCopies()
    for i in _staying(hardest_first, decisions):
        if harder.has_one_of(sample.negatives[i].text):
            decisions.leaves[i] = REPEATS
        else:
            harder.add(sample.negatives[i].text)


def _drop_contradictions(sample: Sample, near: Sequence[Nearness], decisions: _Decisions) -> None:
    """Of several largest sets that are in order the one stays whose scores rise the most."""
    written = [i for i in _staying(range(len(near)), decisions) if sample.negatives[i].source == "llm"]
    easiest_first = sorted(written, key=lambda i: sample.negatives[i].rank)
    sets = (chosen for size in range(len(written), 0, -1) for chosen in combinations(easiest_first, size))
    in_order = [chosen for chosen in sets if all(near[i].distance <= near[j].distance for i, j in pairwise(chosen))]
    if in_order:
        best = max(in_order, key=lambda chosen: (len(chosen), near[chosen[-1]].distance - near[chosen[0]].distance))
        decisions.leaves |= {i: CONTRADICTS for i in written if i not in best}


def _thin_out(near: Sequence[Nearness], hardest_first: Sequence[int], gap: float, decisions: _Decisions) -> None:
    """The hardest stays."""
    above = None
    for i in sorted(_staying(hardest_first, decisions), key=lambda i: -near[i].distance):
        if above is not None and not above - near[i].distance >= gap:
            decisions.leaves[i] = NO_GAP
        else:
            above = near[i].distance


def _deal_levels(sample: Sample, near: Sequence[Nearness], levels: int, decisions: _Decisions) -> None:
    left = _staying(range(len(near)), decisions)
    for i in left:
        if sample.negatives[i].level is None:
            decisions.levels[i] = level_of(near[i].score, levels)
    own = [i for i in left if i not in decisions.levels]
    easiest_first = sorted(own, key=lambda i: (near[i].distance, sample.negatives[i].level))
    decisions.levels.update(zip(easiest_first, sorted(sample.negatives[i].rank for i in own), strict=True))


def level_of(score: float, levels: int) -> int:
    """The level of a score: each has an equal share of the way from a random text (0) to a positive (1).

    Args:
        score: On the common scale.
        levels: How many there are.
    """
    return 1 + min(levels - 1, int(levels * max(0.0, score)))


def _staying(places: Iterable[int], decisions: _Decisions) -> list[int]:
    return [i for i in places if i not in decisions.leaves]


def _verdict(sample: Sample, place: int, view: View, near: Nearness, decisions: _Decisions) -> Verdict:
    negative, reason = sample.negatives[place], decisions.leaves.get(place, "")
    before = negative.level
    after = decisions.levels.get(place)
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
        positive_score=near.positive,
        score=near.score,
        sibling_score=view.sibling,
        opinions=view.opinions,
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
    left.sort(key=lambda negative: negative.rank)
    promoted = [n.text for n, v in pairs if v.decision == "promoted"]
    own = sample.model_copy(update={"negatives": tuple(left)})
    return [own, *(_with_positive(own, text) for text in promoted)]


def _with_positive(sample: Sample, text: str) -> Sample:
    mined = "" if sample.hardest_mined == text else sample.hardest_mined
    new = {"id": content_hash(sample.query, text), "positive": text, "hardest_mined": mined}
    return sample.model_copy(update=new)


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
