"""The verify stage: negatives that are negative, at levels that are in order (docs/verification.md)."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from itertools import chain
from math import isfinite
from typing import Any

from finegrade.config import Config, user_path
from finegrade.console import Meter, progress, say
from finegrade.llm.ledger import Ledger
from finegrade.llm.session import reply_settings
from finegrade.models.resolve import model_identity
from finegrade.models.scorers import SCORING
from finegrade.records import LeftOut, Sample, Verdict
from finegrade.report.summary import accepted
from finegrade.storage.atomic import path_identity
from finegrade.storage.run_folder import LEDGER, LLM_LOG, SAMPLES, SCORE_BOOK, VERIFICATION_REPORT, RunFolder, Stage
from finegrade.storage.tables import count_rows, iterate_rows
from finegrade.verification.calibration import draw
from finegrade.verification.decontamination.benchmarks import benchmark_texts
from finegrade.verification.decontamination.leaks import Benchmarks
from finegrade.verification.ensemble import Panel
from finegrade.verification.llm_judge import NO_GRADE, LlmJudge, prompt_version
from finegrade.verification.parts import Found, VerifiedParts, in_parts
from finegrade.verification.rules import RULES
from finegrade.verification.score_cache import ScoreBook
from finegrade.verification.verifier import Judged, Verifier


def verify(config: Config, run: RunFolder, after: str = "synthesize") -> None:
    """Writes ``verified/``, the samples with what is left of their negatives, ``verdicts/`` and ``left_out/``.

    Args:
        config: How to verify.
        run: Holds the samples.
        after: The stage that made them.

    Raises:
        InputError: That stage has not run, or a scorer or benchmark cannot be had.
    """
    rules = config.verification
    settings: dict[str, Any] = {
        "verification": rules.model_dump(mode="json"),
        "rules": [RULES, SCORING],
        "scorers": [model_identity(name) for name in rules.models],
        "judge": reply_settings(config.llm) | {"prompt": prompt_version()} if rules.asks_llm else {},
        "benchmarks": [_benchmark_identity(name) for name in rules.benchmarks],
        "levels": config.synthesis.levels,
        "seed": config.seed,
    }
    with run.stage("verify", settings, after=[after]) as stage:
        if stage.done:
            return
        run.path(VERIFICATION_REPORT).unlink(missing_ok=True)  # it tells of other verdicts
        parts = VerifiedParts(run, stage.fingerprint)
        with (
            ScoreBook(run.path(SCORE_BOOK)) as book,
            LlmJudge(config.llm, run.path(LEDGER), run.path(LLM_LOG), config.seed) as judge,
        ):
            number = _write_parts(run, parts, cache(partial(_begin, config, run, book, judge)))
        _finish(stage, parts, number)


def _begin(config: Config, run: RunFolder, book: ScoreBook, judge: LlmJudge) -> tuple[Verifier, Callable[[], Found]]:
    """Who decides, and what was found out by now; benchmarks first, because a bad one shows at once."""
    rules = config.verification
    benchmarks = _benchmarks(rules.benchmarks)
    if len(book):
        say(f"verify: {len(book):,} scores are there and are not computed again")
    drawn = draw(iterate_rows(run.path(SAMPLES), Sample), config.seed)
    panel = Panel(rules, drawn, book, lambda: judge, config.seed)
    verifier = Verifier(rules, config.synthesis.levels, panel.first, panel.second, benchmarks)
    counts = benchmarks.counts if benchmarks else {}
    return verifier, lambda: {"scorers": panel.scales, "benchmarks": counts}


def _write_parts(
    run: RunFolder, parts: VerifiedParts, begin: Callable[[], tuple[Verifier, Callable[[], Found]]]
) -> int:
    """Makes the parts that are not there; begins only where there are any. Returns how many there are."""
    with progress("verifying samples", count_rows(run.path(SAMPLES))) as meter:
        for number, some in enumerate(in_parts(iterate_rows(run.path(SAMPLES), Sample))):
            if parts.has(number):
                meter.advance(len(some))
            else:
                verifier, found = begin()
                parts.write(number, _judge(some, verifier, meter), found())
    return number + 1


def _judge(samples: Sequence[Sample], verifier: Verifier, meter: Meter) -> Judged:
    return verifier.judge(samples, lambda share: meter.advance(share * len(samples)))


def _benchmarks(names: Sequence[str]) -> Benchmarks | None:
    return Benchmarks(chain.from_iterable(map(benchmark_texts, names))) if names else None


def _benchmark_identity(name: str) -> str:
    path = user_path(name)
    return path_identity(path) if path.exists() else name


def _finish(stage: Stage, parts: VerifiedParts, number: int) -> None:
    outputs = parts.end(number)
    counts = count_verdicts(parts.verdicts(), parts.left_out())
    details = counts | parts.found(number) | {"usage": _usage(stage.run)}
    stage.finish(outputs, details)
    total = sum(details["decisions"].values())
    listed = ", ".join(f"{number:,} {name}" for name, number in details["decisions"].items()) or "none decided on"
    written = details["by_source"].get("llm")
    of_llm = f"written by the LLM and accepted: {accepted(written)}; " if written else ""
    say(f"verify: of {total:,} negatives {listed}; {of_llm}{sum(details['left_out'].values()):,} samples left out")
    if ungraded := details["no_grade"]:
        reasons = ", ".join(f"{reason} ({number:,})" for reason, number in ungraded.items())
        say(f"verify: the LLM gave no grade for {sum(ungraded.values()):,} negatives: {reasons}")


def _usage(run: RunFolder) -> dict[str, float]:
    """What the LLM's grades took; empty where it was not asked."""
    if not run.path(LEDGER).is_file():
        return {}
    with Ledger(run.path(LEDGER), "verify") as ledger:
        totals = ledger.totals()
    return totals if totals["requests"] else {}


def count_verdicts(verdicts: Iterable[Verdict], left_out: Iterable[LeftOut]) -> dict[str, Any]:
    """Counts by decision, by reason, by source, of grades that could not be read, and of what was left out."""
    decisions: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    no_grade: Counter[str] = Counter()
    by_source: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for verdict in verdicts:
        decisions[verdict.decision] += 1
        by_source[verdict.source][verdict.decision] += 1
        if verdict.reason:
            reasons[verdict.reason] += 1
        unread = (one.reason for one in verdict.opinions if not isfinite(one.score))
        no_grade.update(reason.removeprefix(NO_GRADE) for reason in unread if reason.startswith(NO_GRADE))
    return {
        "decisions": dict(decisions.most_common()),
        "reasons": dict(reasons.most_common()),
        "no_grade": dict(no_grade.most_common()),
        "by_source": {name: dict(counts) for name, counts in sorted(by_source.items())},
        "left_out": dict(Counter(row.reason for row in left_out).most_common()),
    }
