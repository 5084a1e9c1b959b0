"""The verify stage: negatives that are negative, at levels that are in order (docs/verification.md)."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Sequence
from functools import partial
from itertools import chain, islice
from typing import Any

from finegrade.benchmark_texts import benchmark_texts
from finegrade.calibration import draw
from finegrade.config import Config, user_path
from finegrade.console import progress, say
from finegrade.decontamination import Benchmarks
from finegrade.durable import path_identity
from finegrade.fetching import model_identity
from finegrade.llm.asking import reply_settings
from finegrade.llm.ledger import Ledger
from finegrade.llm_judge import LlmJudge
from finegrade.panel import Panel
from finegrade.records import LeftOut, Sample, Verdict
from finegrade.row_files import count_rows, iterate_rows
from finegrade.score_book import ScoreBook
from finegrade.store import LEDGER, LLM_LOG, SAMPLES, SCORE_BOOK, RunFolder, Stage
from finegrade.summary import accepted
from finegrade.verified_parts import SAMPLES_A_PART, VerifiedParts
from finegrade.verifier import Verifier


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
        "scorers": [model_identity(name) for name in rules.models],
        "judge": reply_settings(config.llm) if rules.asks_llm else {},
        "benchmarks": [_benchmark_identity(name) for name in rules.benchmarks],
        "levels": config.synthesis.levels,
        "seed": config.seed,
    }
    with run.stage("verify", settings, after=[after]) as stage:
        if stage.done:
            return
        parts = VerifiedParts(run, stage.fingerprint)
        with ScoreBook(run.path(SCORE_BOOK)) as book:
            if len(book):
                say(f"verify: {len(book):,} scores are there and are not computed again")
            drawn = draw(iterate_rows(run.path(SAMPLES), Sample), config.seed)
            judge = partial(LlmJudge, config.llm, run.path(LEDGER), run.path(LLM_LOG), config.seed)
            panel = Panel(rules, drawn, book, judge, config.seed)
            verifier = Verifier(
                rules, config.synthesis.levels, panel.first, panel.second, _benchmarks(rules.benchmarks)
            )
            number = _write_parts(run, parts, verifier)
        _finish(stage, parts, number, panel)


def _write_parts(run: RunFolder, parts: VerifiedParts, verifier: Verifier) -> int:
    samples = iterate_rows(run.path(SAMPLES), Sample)
    number = 0
    with progress("verifying samples", count_rows(run.path(SAMPLES))) as meter:
        while (some := list(islice(samples, SAMPLES_A_PART))) or not number:
            if parts.has(number):
                meter.advance(len(some))
            else:
                judged = verifier.judge(some, lambda share: meter.advance(share * len(some)))
                parts.write(number, judged)
            number += 1
    return number


def _benchmarks(names: Sequence[str]) -> Benchmarks | None:
    return Benchmarks(chain.from_iterable(map(benchmark_texts, names))) if names else None


def _benchmark_identity(name: str) -> str:
    path = user_path(name)
    return path_identity(path) if path.exists() else name


def _finish(stage: Stage, parts: VerifiedParts, number: int, panel: Panel) -> None:
    outputs = parts.end(number)
    counts = count_verdicts(parts.verdicts(), parts.left_out())
    details = counts | {"scorers": panel.scales, "usage": _usage(stage.run)}
    stage.finish(outputs, details)
    total = sum(details["decisions"].values())
    listed = ", ".join(f"{number:,} {name}" for name, number in details["decisions"].items())
    say(
        f"verify: of {total:,} negatives {listed}; written by the LLM and accepted: "
        f"{accepted(details['by_source'].get('llm', {}))}; {sum(details['left_out'].values()):,} samples left out"
    )


def _usage(run: RunFolder) -> dict[str, float]:
    """What the LLM's grades took; empty where it was not asked."""
    if not run.path(LEDGER).is_file():
        return {}
    with Ledger(run.path(LEDGER), "verify") as ledger:
        totals = ledger.totals()
    return totals if totals["requests"] else {}


def count_verdicts(verdicts: Iterable[Verdict], left_out: Iterable[LeftOut]) -> dict[str, Any]:
    """Counts by decision, by reason, by source, and of what was left out."""
    decisions: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    by_source: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for verdict in verdicts:
        decisions[verdict.decision] += 1
        by_source[verdict.source][verdict.decision] += 1
        if verdict.reason:
            reasons[verdict.reason] += 1
    return {
        "decisions": dict(decisions.most_common()),
        "reasons": dict(reasons.most_common()),
        "by_source": {name: dict(counts) for name, counts in sorted(by_source.items())},
        "left_out": dict(Counter(row.reason for row in left_out).most_common()),
    }
