"""Samples become verdicts: leaks and weak positives go, the scorers are asked, the rules decide."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from finegrade.config import VerificationConfig
from finegrade.records import IN_BENCHMARK, LeftOut, Negative, Sample, Verdict
from finegrade.verification.decontamination.leaks import Benchmarks, Leak
from finegrade.verification.ensemble import Asked, Committee, Scored
from finegrade.verification.rules import (
    WEAK_POSITIVE,
    agree,
    apply_verdicts,
    is_in_doubt,
    is_weak,
    judge_sample,
    why_false,
    why_no_scorer,
)
from finegrade.verification.scorer_results import View


@dataclass
class Judged:
    """What came of some samples.

    Attributes:
        samples: With the negatives that stay, and those that promoted negatives became.
        left_out: Samples that went as a whole.
        verdicts: One a negative of the others, in their order.
    """

    samples: list[Sample] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    verdicts: list[Verdict] = field(default_factory=list)


class Verifier:
    """Decides on samples, some at a time: nothing is remembered from one to the next.

    Args:
        rules: Margins and gaps.
        levels: How many there are.
        first: Is asked about all.
        second: Gives those who are asked, and decide, where the first is in doubt: about what an LLM wrote, or not.
        benchmarks: What is not to be trained on.
    """

    def __init__(
        self,
        rules: VerificationConfig,
        levels: int,
        first: Committee,
        second: Callable[[bool], Committee | None] = lambda written: None,
        benchmarks: Benchmarks | None = None,
    ) -> None:
        self._rules, self._levels = rules, levels
        self._first, self._second, self._benchmarks = first, second, benchmarks

    def judge(self, samples: Sequence[Sample], advance: Callable[[float], None] = lambda share: None) -> Judged:
        """Decides on samples.

        Args:
            samples: What was synthesised, or given.
            advance: Told of each piece of the work that is done, as a share of all.
        """
        judged = Judged()
        clean = self._without_leaks(samples, judged)
        scored = self._first.score(clean, (_ask(sample, one) for sample in clean for one in sample.negatives), advance)
        strong = self._without_weak(clean, scored, judged)
        views = [[View(scored.opinions(_ask(sample, one))) for one in sample.negatives] for sample in strong]
        for written in (True, False):
            self._ask_again(strong, views, written)
        alone = [why_false(sample, own, self._rules) for sample, own in zip(strong, views, strict=True)]
        decided = [
            (sample, judge_sample(sample, own, false, self._rules, self._levels))
            for sample, own, false in zip(strong, views, agree(strong, alone), strict=True)
        ]
        for sample, verdicts in self._without_promoted_leaks(decided):
            judged.verdicts += verdicts
            judged.samples += apply_verdicts(sample, verdicts)
        return judged

    def _without_leaks(self, samples: Sequence[Sample], judged: Judged) -> list[Sample]:
        if self._benchmarks is None:
            return list(samples)
        leaks = self._benchmarks.leaks([(sample.query, sample.positive) for sample in samples])
        judged.left_out += [
            _left_out(sample, f"{IN_BENCHMARK} {leak.benchmark}", _told(leak))
            for sample, leak in zip(samples, leaks, strict=True)
            if leak
        ]
        return [sample for sample, leak in zip(samples, leaks, strict=True) if not leak]

    def _without_weak(self, samples: Iterable[Sample], scored: Scored, judged: Judged) -> list[Sample]:
        strong = []
        for sample in samples:
            scores = scored.of_positive(sample)
            if scores and is_weak(score := fmean(scores.values()), self._rules):
                each = ", ".join(f"{name} {own:.2f}" for name, own in scores.items())
                evidence = f"it scores {score:.2f} ({each}), where a random text scores 0 and a positive 1"
                judged.left_out.append(_left_out(sample, WEAK_POSITIVE, evidence))
            else:
                strong.append(sample)
        return strong

    def _without_promoted_leaks(self, judged: list[tuple[Sample, list[Verdict]]]) -> list[tuple[Sample, list[Verdict]]]:
        """A text that a benchmark tests with is no positive, either."""
        promoted = [
            (row, place)
            for row, (_, verdicts) in enumerate(judged)
            for place, verdict in enumerate(verdicts)
            if verdict.decision == "promoted"
        ]
        if self._benchmarks and promoted:
            pairs = [(judged[row][0].query, judged[row][1][place].text) for row, place in promoted]
            for (row, place), leak in zip(promoted, self._benchmarks.leaks(pairs), strict=True):
                if leak:
                    verdicts = judged[row][1]
                    gone = {"decision": "dropped", "reason": f"{IN_BENCHMARK} {leak.benchmark}"}
                    verdicts[place] = verdicts[place].model_copy(update=gone)
        return judged

    def _ask_again(self, samples: Sequence[Sample], views: list[list[View]], written: bool) -> None:
        """Has the second committee decide where the first is in doubt, as far as it can."""
        doubtful = [
            (row, place)
            for row, sample in enumerate(samples)
            for place, negative in enumerate(sample.negatives)
            if (negative.source == "llm") == written
            and not why_no_scorer(sample, negative)
            and is_in_doubt(negative, views[row][place], self._rules)
        ]
        second = self._second(written) if doubtful else None
        if not second:
            return
        rows = [samples[row] for row in dict.fromkeys(row for row, _ in doubtful)]
        asked = [_ask(samples[row], samples[row].negatives[place]) for row, place in doubtful]
        scored = second.score(rows, asked, lambda share: None)
        for (row, place), one in zip(doubtful, asked, strict=True):
            views[row][place] = views[row][place].then(scored.opinions(one))


def _ask(sample: Sample, negative: Negative) -> Asked:
    return Asked(sample.query, sample.positive, negative.text, negative.sibling)


def _told(leak: Leak) -> str:
    return f"its {leak.own} has {leak.how} ({leak.overlap:.2f}) with the {leak.role}: {leak.text}"


def _left_out(sample: Sample, reason: str, evidence: str) -> LeftOut:
    return LeftOut(sample=sample.id, query=sample.query, positive=sample.positive, reason=reason, evidence=evidence)
