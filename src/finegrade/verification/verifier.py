"""Samples become verdicts: leaks and weak positives go, the scorers are asked, the rules decide."""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from statistics import fmean
from tempfile import TemporaryDirectory
from typing import Any

from finegrade.config import LLM_JUDGE, MAX_LEVELS, MIN_LEVELS, LLMConfig, VerificationConfig
from finegrade.config.toml import parse_section
from finegrade.console import progress
from finegrade.errors import InputError
from finegrade.llm.session import beside_any_event_loop
from finegrade.models.scorers import Judge, Scorer
from finegrade.records import IN_BENCHMARK, LeftOut, Sample, Verdict
from finegrade.rows import Result, Rows, as_samples
from finegrade.storage.run_folder import LEDGER, LLM_LOG, SCORE_BOOK
from finegrade.verification.benchmarks import benchmark_texts
from finegrade.verification.calibration import draw
from finegrade.verification.decontamination import Benchmarks
from finegrade.verification.ensemble import Ensemble, Ensembles, PairScores
from finegrade.verification.llm_judge import LlmJudge
from finegrade.verification.rules import (
    WEAK_POSITIVE,
    Scores,
    agree,
    apply_verdicts,
    is_in_doubt,
    is_weak,
    judge_sample,
    why_false,
    why_no_scorer,
)
from finegrade.verification.score_cache import ScoreCache

_DEFAULT = VerificationConfig()


@dataclass(frozen=True)
class Verified(Result[Sample]):
    """What verification decided.

    Attributes:
        kept: Samples with the negatives that stay, easiest first, and one more for each negative that answers its
            query: it is a positive now.
        left_out: Samples that are not used at all, each with its reason.
        verdicts: One for each negative of the samples that were not left out, in their order.
    """

    verdicts: Sequence[Verdict]

    @property
    def decisions(self) -> dict[str, int]:
        """How many negatives were kept, regraded, promoted and dropped."""
        return dict(Counter(verdict.decision for verdict in self.verdicts).most_common())

    @property
    def reasons(self) -> dict[str, int]:
        """How many negatives were not kept as they were, and how many samples were left out, for which reason."""
        reasons = [verdict.reason for verdict in self.verdicts if verdict.reason]
        return dict(Counter([*reasons, *(row.reason for row in self.left_out)]).most_common())


def verify(
    rows: Rows,
    *,
    scorers: Sequence[str | Scorer] | str | Scorer = _DEFAULT.scorers,
    llm: str | Mapping[str, Any] | Judge | None = None,
    levels: int = 4,
    benchmarks: Sequence[str] = (),
    calibrate_on: Rows | None = None,
    margin: float = _DEFAULT.margin,
    judge_margin: float = _DEFAULT.judge_margin,
    relative_margin: float = _DEFAULT.relative_margin,
    min_gap: float = _DEFAULT.min_gap,
    weakest_positive: float = _DEFAULT.weakest_positive,
    promote: bool = _DEFAULT.promote,
    second_opinion: Sequence[str | Scorer] = (),
    doubt: float = _DEFAULT.doubt,
    doubt_written: float = _DEFAULT.doubt_written,
    max_length: int = _DEFAULT.max_length,
    seed: int = 0,
    folder: Path | str | None = None,
) -> Verified:
    """Decides whether the negatives of training data are negative, and gives each its level.

    Scores are on a common scale: 0 is what a scorer gives a random text, 1 what it gives a query's own positive
    (docs/verification.md).

    Args:
        rows: Dicts with "query", "positive" and "negatives", records of finegrade, a datasets.Dataset, a
            pandas.DataFrame or a pyarrow.Table; see ``finegrade.rows.as_samples``.
        scorers: What counts is the mean of all: catalogue names, local folders or Hugging Face ids of cross-encoders
            and bi-encoders, "bm25", "llm", or objects whose ``scores(pairs)`` gives a number for each (query, text).
        llm: Grades LLM-written negatives that the scorers are in doubt about, and whatever "llm" is named for: a model
            that runs here, or the keys of [llm] in finegrade.toml for a server (``{"base_url": ..., "model": ...}``),
            or an object like ``finegrade.models.scorers.Judge``. None: no LLM is asked.
        levels: Levels that negatives without one are given, 1 being the easiest.
        benchmarks: BEIR folders, files, or "mteb:TASK": samples that match their texts are left out.
        calibrate_on: Rows of the same kind that set the scale, where ``rows`` are fewer than 8. None: ``rows``.
        margin: A negative is false unless it scores at least this much below the positive,
        judge_margin: and of the LLM's grades, where 0 is unrelated and 1 the same answer, this much,
        relative_margin: and at most (1 - relative_margin) times what the positive scores.
        min_gap: A negative is dropped that scores less than this below the next harder one.
        weakest_positive: A sample is left out whose positive scores less.
        promote: Whether a text that answers, and is not LLM-written, becomes a positive. Else it is dropped.
        second_opinion: Scorers that decide where the first ones are in doubt about a text that is not LLM-written.
        doubt: They are in doubt where such a text is false, or not this far below that. 0: never.
        doubt_written: Likewise for LLM-written texts, about which the LLM is asked.
        max_length: Tokens that a cross-encoder reads of query and text, and a bi-encoder of a text.
        seed: Of calibration.
        folder: Where scores and the LLM's replies are kept, so that a second call is quick. None: nowhere.

    Returns:
        What was kept, what was left out and why, and the verdict on each negative.

    Raises:
        InputError: A row or value is wrong, a scorer cannot be had or does not tell positives from random texts, or
            there are fewer than 8 samples to calibrate on.

    Examples:
        >>> import finegrade
        >>> topics = ["cats", "dogs", "birds", "fish", "bees", "ants", "bats", "owls", "crabs"]
        >>> rows = [
        ...     {"query": f"what do {one} eat", "positive": f"Most {one} eat grain.", "negatives": ["Cars need fuel."]}
        ...     for one in topics
        ... ]
        >>> result = finegrade.verify(rows, scorers=["bm25"])
        >>> len(result.kept), result.decisions
        (9, {'kept': 9})
        >>> result.kept[0].negatives[0].level
        1
    """
    if not MIN_LEVELS <= levels <= MAX_LEVELS:
        wanted = f"{MIN_LEVELS} to {MAX_LEVELS}"
        raise InputError("levels", got=levels, wanted=wanted, remedy="Give a number in that range.")
    samples = as_samples(rows)
    drawn = draw(samples if calibrate_on is None else as_samples(calibrate_on), seed)
    own: dict[str, Scorer] = {}
    first = _names([scorers] if isinstance(scorers, str) or hasattr(scorers, "scores") else scorers, own)
    settings = {
        "scorer": first[0] if first else "",
        "committee": first[1:],
        "second_opinion": _names(second_opinion, own),
        "second_opinion_written": [LLM_JUDGE] if llm else [],
        "doubt": doubt,
        "doubt_written": doubt_written,
        "margin": margin,
        "judge_margin": judge_margin,
        "relative_margin": relative_margin,
        "min_gap": min_gap,
        "weakest_positive": weakest_positive,
        "promote": promote,
        "benchmarks": list(benchmarks),
        "max_length": max_length,
    }
    config = parse_section(VerificationConfig, settings, "verify")
    if config.asks_llm and not llm:
        raise InputError("llm", got=None, wanted="a model to ask", remedy='Name one with llm=, or leave "llm" out.')

    def decide() -> Verified:
        with ExitStack() as opened:
            place = Path(folder or opened.enter_context(TemporaryDirectory()))
            place.mkdir(parents=True, exist_ok=True)
            if llm:
                own[LLM_JUDGE] = llm if isinstance(llm, Judge) else opened.enter_context(_llm_judge(llm, place, seed))
            cache = opened.enter_context(ScoreCache(place / SCORE_BOOK)) if folder else None
            found = benchmark_index(config.benchmarks)
            ensembles = Ensembles(config, drawn, seed, own, cache)
            verifier = Verifier(config, levels, ensembles.first, ensembles.second, found)
            with progress("verifying samples", len(samples)) as meter:
                return verifier.verify(samples, meter.advance)

    return beside_any_event_loop(decide)


def _names(scorers: Any, own: dict[str, Scorer]) -> list[str]:
    """The names of scorers; those that are objects are named after their class, and added to ``own``."""
    names = []
    for one in scorers:
        name = one if isinstance(one, str) else type(one).__name__
        if not isinstance(one, str):
            name = f"{name} {len(own) + 1}" if name in own else name
            own[name] = one
        names.append(name)
    return names


def _llm_judge(llm: str | Mapping[str, Any], folder: Path, seed: int) -> LlmJudge:
    config = parse_section(LLMConfig, {"model": llm} if isinstance(llm, str) else llm, "llm")
    return LlmJudge(config, folder / LEDGER, folder / LLM_LOG, seed)


def benchmark_index(names: Sequence[str]) -> Benchmarks | None:
    """The texts of benchmarks, named as `benchmark_texts` takes them; None where none is named."""
    return Benchmarks(chain.from_iterable(map(benchmark_texts, names))) if names else None


class Verifier:
    """Decides on samples, some at a time: nothing is remembered from one call to the next.

    Args:
        config, levels: Margins, gaps, and how many levels there are.
        first: Is asked about all negatives.
        second: Gives the scorers that decide where the first ones are in doubt: about LLM-written texts, or others.
        benchmarks: What must not be trained on.
    """

    def __init__(
        self,
        config: VerificationConfig,
        levels: int,
        first: Ensemble,
        second: Callable[[bool], Ensemble | None] = lambda written: None,
        benchmarks: Benchmarks | None = None,
    ) -> None:
        self._config, self._levels = config, levels
        self._first, self._second, self._benchmarks = first, second, benchmarks

    def verify(self, samples: Sequence[Sample], advance: Callable[[float], None] = lambda number: None) -> Verified:
        """Decides on samples; ``advance`` is called with how many samples, or parts of one, were worked through."""
        left_out: list[LeftOut] = []
        clean = self._without_leaks(samples, left_out)
        pairs = [(sample, negative) for sample in clean for negative in sample.negatives]
        found = PairScores(self._first, clean, pairs, lambda share: advance(share * len(samples)))
        strong = self._without_weak(clean, found, left_out)
        scores = [[Scores(found.results(sample, one)) for one in sample.negatives] for sample in strong]
        for written in (True, False):
            self._ask_again(strong, scores, written)
        alone = [why_false(sample, own, self._config) for sample, own in zip(strong, scores, strict=True)]
        decided = [
            (sample, judge_sample(sample, own, false, self._config, self._levels))
            for sample, own, false in zip(strong, scores, agree(strong, alone), strict=True)
        ]
        self._drop_promoted_leaks(decided)
        kept = [one for sample, verdicts in decided for one in apply_verdicts(sample, verdicts)]
        return Verified(kept, left_out, [verdict for _, verdicts in decided for verdict in verdicts])

    def _without_leaks(self, samples: Sequence[Sample], left_out: list[LeftOut]) -> list[Sample]:
        if self._benchmarks is None:
            return list(samples)
        leaks = self._benchmarks.leaks((sample.query, sample.positive) for sample in samples)
        clean = []
        for sample, leak in zip(samples, leaks, strict=True):
            if leak:
                evidence = f"its {leak.own} has {leak.how} ({leak.overlap:.2f}) with the {leak.role}: {leak.text}"
                left_out.append(_left_out(sample, f"{IN_BENCHMARK} {leak.benchmark}", evidence))
            else:
                clean.append(sample)
        return clean

    def _without_weak(self, samples: Iterable[Sample], found: PairScores, left_out: list[LeftOut]) -> list[Sample]:
        strong = []
        for sample in samples:
            scores = found.of_positive(sample)
            if scores and is_weak(score := fmean(scores.values()), self._config):
                each = ", ".join(f"{name} {own:.2f}" for name, own in scores.items())
                evidence = f"it scores {score:.2f} ({each}), where a random text scores 0 and a positive 1"
                left_out.append(_left_out(sample, WEAK_POSITIVE, evidence))
            else:
                strong.append(sample)
        return strong

    def _ask_again(self, samples: Sequence[Sample], scores: list[list[Scores]], written: bool) -> None:
        """Has the second ensemble decide where the first is in doubt, as far as it gives numbers."""
        doubtful = [
            (row, index)
            for row, sample in enumerate(samples)
            for index, negative in enumerate(sample.negatives)
            if (negative.source == "llm") == written
            and not why_no_scorer(sample, negative)
            and is_in_doubt(negative, scores[row][index], self._config)
        ]
        second = self._second(written) if doubtful else None
        if not second:
            return
        asked = [(samples[row], samples[row].negatives[index]) for row, index in doubtful]
        found = PairScores(second, [samples[row] for row in dict.fromkeys(row for row, _ in doubtful)], asked)
        for (row, index), (sample, negative) in zip(doubtful, asked, strict=True):
            scores[row][index] = scores[row][index].then(found.results(sample, negative))

    def _drop_promoted_leaks(self, decided: Sequence[tuple[Sample, list[Verdict]]]) -> None:
        """A text that a benchmark tests with does not become a positive either."""
        promoted = [
            (sample, verdicts, index)
            for sample, verdicts in decided
            for index, verdict in enumerate(verdicts)
            if verdict.decision == "promoted"
        ]
        if not (self._benchmarks and promoted):
            return
        leaks = self._benchmarks.leaks((sample.query, verdicts[index].text) for sample, verdicts, index in promoted)
        for (_, verdicts, index), leak in zip(promoted, leaks, strict=True):
            if leak:
                dropped = {"decision": "dropped", "reason": f"{IN_BENCHMARK} {leak.benchmark}"}
                verdicts[index] = verdicts[index].model_copy(update=dropped)


def _left_out(sample: Sample, reason: str, evidence: str) -> LeftOut:
    return LeftOut(sample=sample.id, query=sample.query, positive=sample.positive, reason=reason, evidence=evidence)
