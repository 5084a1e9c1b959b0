"""The rules of verification: what is decided on a sample's negatives, from their scores.

In this order, for a negative:
1. no score: a scorer gave no number -> dropped;
2. it is the query itself, which answers nothing -> dropped;
3. false negative: it is the positive -> dropped; or it does not score ``margin`` below it -> promoted where every
   scorer finds that it answers, unless it was written to be wrong; else dropped. All samples of a query agree on what
   is false (see ``agree``);
4. sibling test, for rewritten texts: it does not answer its sibling query better than the original -> dropped;
5. duplicate: it is nearly the same as a harder negative of the sample -> dropped;
6. contradiction, among LLM-written texts: it is not among the most of them whose scores rise with their levels ->
   dropped. An LLM grades better than scorers do: regrading its texts by score makes twice as many errors
   (docs/lab/verification.md, 2026-11-26);
7. gap: of those left, it scores less than ``min_gap`` below the next harder one -> dropped;
8. order: the levels of those left are assigned again by score -> regraded where that changes one. A text without a
   level gets one by its score on the common scale.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import combinations, pairwise
from math import inf, isfinite
from statistics import fmean
from typing import NamedTuple

from finegrade.config import LLM_JUDGE, VerificationConfig
from finegrade.records import Negative, Sample, ScorerResult, Verdict
from finegrade.retrieval.shingle_index import SAME_NEGATIVE, ShingleIndex
from finegrade.text import content_hash, normalised

RULES = 2  # raised when what is decided changes: verdicts by other rules are not reused

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
"""Reasons for which a text is no negative of its query."""

TYPICAL_POSITIVE = 1.0  # on the common scale
_CALLED_THE_SAME = 2.5 / 3  # of an LLM's grades: "the same answer" in three of four cases, else "a different one"


# What the scorers found of a negative


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


# Rules 1 to 3


def is_weak(positive: float, config: VerificationConfig) -> bool:
    """Whether a positive's score is too low for its sample to be used, or no number."""
    return not positive >= config.weakest_positive


def is_in_doubt(negative: Negative, scores: Scores, config: VerificationConfig) -> bool:
    """Whether a negative is false, or so nearly that a second opinion is needed; not where it could not count."""
    doubt = config.doubt_written if negative.source == "llm" else config.doubt
    return scores.are_known and doubt > 0 and not excess(scores, config) <= -doubt


def excess(scores: Scores, config: VerificationConfig) -> float:
    """How far a negative is above the highest score that a true one has; the mean over the scorers that decide."""
    return fmean(one.score - _allowed(one, config) for one in scores.deciding)


def _allowed(one: ScorerResult, config: VerificationConfig) -> float:
    """The relative margin is for positives above 0, where a share of the score means something."""
    margin = config.judge_margin if one.scorer == LLM_JUDGE else config.margin
    share = one.positive * (1 - config.relative_margin) if one.positive > 0 else one.positive
    return min(one.positive - margin, share)


def why_false(sample: Sample, scores: Sequence[Scores], config: VerificationConfig) -> list[str]:
    """Why each negative of a sample is none, or not known to be one; empty where it may be one."""
    reasons = []
    for negative, one in zip(sample.negatives, scores, strict=True):
        reason = why_no_scorer(sample, negative)
        if not reason and not one.are_known:
            reason = NO_SCORE
        elif not reason and excess(one, config) > 0:
            # similarity cannot tell an LLM-written text that is wrong from one that is right
            may_answer = config.promote and negative.source != "llm"
            reason = ANSWERS if may_answer and all(map(_finds_that_it_answers, one.results)) else FALSE_NEGATIVE
        reasons.append(reason)
    return reasons


def why_no_scorer(sample: Sample, negative: Negative) -> str:
    """Why a negative needs no scorer: it is the sample's query or positive but for case and punctuation; else empty."""
    text = normalised(negative.text)
    if text == normalised(sample.positive):
        return THE_POSITIVE
    return THE_QUERY if text == normalised(sample.query) else ""


def _finds_that_it_answers(one: ScorerResult) -> bool:
    wanted = _CALLED_THE_SAME if one.scorer == LLM_JUDGE else max(one.positive, TYPICAL_POSITIVE)
    return one.score >= wanted


def agree(samples: Sequence[Sample], reasons: Sequence[Sequence[str]]) -> list[list[str]]:
    """Makes samples of one query, which are judged one at a time and may lie apart, agree on what is false.

    What is false beside one positive is false beside all. A text is promoted once, the first time, and so is one of
    several that are nearly the same. What is nearly a promoted text is no negative either, unless it is LLM-written:
    there one word turns what is right into what is wrong. ``reasons`` say of each sample why each negative is none;
    empty where it may be one. Those that hold are returned.
    """
    of_query: defaultdict[str, list[tuple[Sample, Sequence[str]]]] = defaultdict(list)
    for sample, own in zip(samples, reasons, strict=True):
        of_query[sample.query].append((sample, own))
    known = {query: _Query(all_) for query, all_ in of_query.items()}
    return [
        [known[sample.query].reason(*one) for one in zip(sample.negatives, own, strict=True)]
        for sample, own in zip(samples, reasons, strict=True)
    ]


class _Query:
    """The positives and false negatives of all samples of one query."""

    def __init__(self, samples: Iterable[tuple[Sample, Sequence[str]]]) -> None:
        self._positives: set[str] = set()
        self._false: dict[str, str] = {}
        self._answers, self._promoted = ShingleIndex(rule=SAME_NEGATIVE), ShingleIndex(rule=SAME_NEGATIVE)
        for sample, reasons in samples:
            self._positives.add(normalised(sample.positive))
            for negative, reason in zip(sample.negatives, reasons, strict=True):
                if reason == ANSWERS:
                    self._answers.add(negative.text)
                if reason in FALSE:
                    self._false[normalised(negative.text)] = NEARLY_ANSWERS if reason == ANSWERS else reason

    def reason(self, negative: Negative, own: str) -> str:
        """The reason that holds where its sample has the reason ``own``; called once a negative, in their order."""
        text = normalised(negative.text)
        if own in ("", ANSWERS) and text in self._positives:
            return THE_POSITIVE
        if own == ANSWERS:
            if self._promoted.contains(negative.text):
                return NEARLY_ANSWERS
            self._promoted.add(negative.text)
        elif not own and text in self._false:
            return self._false[text]
        elif not own and negative.source != "llm" and self._answers.contains(negative.text):
            return NEARLY_ANSWERS
        return own


# Rules 4 to 8


@dataclass
class _Decisions:
    """Index of a negative -> why it leaves the sample; and the new levels of those that stay."""

    reasons: dict[int, str]
    levels: dict[int, int] = field(default_factory=dict)

    def staying(self, indices: Iterable[int]) -> list[int]:
        return [i for i in indices if i not in self.reasons]


def judge_sample(
    sample: Sample, scores: Sequence[Scores], false: Sequence[str], config: VerificationConfig, levels: int
) -> list[Verdict]:
    """Decides on each negative of a sample, in their order.

    ``false`` says why each is none (see `agree`), ``levels`` how many there are, for texts without one.
    """
    similar = similarities(scores)
    decisions = _Decisions({i: reason for i, reason in enumerate(false) if reason})
    distances = [one.distance if own.are_known else -inf for one, own in zip(similar, scores, strict=True)]
    hardest_first = sorted(range(len(scores)), key=lambda i: (-sample.negatives[i].rank, -distances[i]))
    for i in decisions.staying(hardest_first):
        gain = scores[i].gain
        if gain is not None and not gain > 0:
            decisions.reasons[i] = NOT_FOR_SIBLING
    harder = ShingleIndex(rule=SAME_NEGATIVE)
    for i in decisions.staying(hardest_first):
        if harder.contains(sample.negatives[i].text):
            decisions.reasons[i] = REPEATS
        else:
            harder.add(sample.negatives[i].text)
    _drop_contradictions(sample, similar, decisions)
    above: float | None = None  # the hardest stays
    for i in sorted(decisions.staying(hardest_first), key=lambda i: -similar[i].distance):
        if above is not None and not above - similar[i].distance >= config.min_gap:
            decisions.reasons[i] = NO_GAP
        else:
            above = similar[i].distance
    _assign_levels(sample, similar, levels, decisions)
    return [_verdict(sample, i, own, similar[i], decisions) for i, own in enumerate(scores)]


def _drop_contradictions(sample: Sample, similar: Sequence[Similarity], decisions: _Decisions) -> None:
    """Of several largest sets that are in order the one stays whose scores rise the most."""
    written = [i for i in decisions.staying(range(len(similar))) if sample.negatives[i].source == "llm"]
    easiest_first = sorted(written, key=lambda i: sample.negatives[i].rank)
    sets = (chosen for size in range(len(written), 0, -1) for chosen in combinations(easiest_first, size))
    in_order = [
        chosen for chosen in sets if all(similar[i].distance <= similar[j].distance for i, j in pairwise(chosen))
    ]
    if in_order:
        rises = {chosen: similar[chosen[-1]].distance - similar[chosen[0]].distance for chosen in in_order}
        best = max(in_order, key=lambda chosen: (len(chosen), rises[chosen]))
        decisions.reasons |= {i: CONTRADICTS for i in written if i not in best}


def _assign_levels(sample: Sample, similar: Sequence[Similarity], levels: int, decisions: _Decisions) -> None:
    left = decisions.staying(range(len(similar)))
    graded = [i for i in left if sample.negatives[i].level is not None]
    easiest_first = sorted(graded, key=lambda i: (similar[i].distance, sample.negatives[i].rank))
    decisions.levels = {i: level_of(similar[i].score, levels) for i in left if sample.negatives[i].level is None}
    decisions.levels.update(zip(easiest_first, sorted(sample.negatives[i].rank for i in graded), strict=True))


def level_of(score: float, levels: int) -> int:
    """The level of a score: each has an equal share of the way from a random text (0) to a positive (1)."""
    return 1 + min(levels - 1, int(levels * max(0.0, score)))


def _verdict(sample: Sample, index: int, scores: Scores, similar: Similarity, decisions: _Decisions) -> Verdict:
    negative, reason = sample.negatives[index], decisions.reasons.get(index, "")
    before, after = negative.level, decisions.levels.get(index)
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
        positive_score=similar.positive,
        score=similar.score,
        sibling_score=scores.sibling,
        results=scores.results,
    )


def apply_verdicts(sample: Sample, verdicts: Sequence[Verdict]) -> list[Sample]:
    """The sample with the negatives that stay, at their levels; then one for each negative that is a positive now."""
    pairs = list(zip(sample.negatives, verdicts, strict=True))
    left = [n.model_copy(update={"level": v.level_after}) for n, v in pairs if v.level_after is not None]
    left.sort(key=lambda negative: negative.rank)
    own = sample.model_copy(update={"negatives": tuple(left)})
    promoted = [v.text for v in verdicts if v.decision == "promoted"]
    return [own, *(own.model_copy(update={"id": content_hash(own.query, t), "positive": t}) for t in promoted)]
