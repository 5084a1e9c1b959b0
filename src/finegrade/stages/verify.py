"""The verify stage: negatives that are negative, at levels that are in order (docs/verification.md).

Its files are cut into parts: a finished one is not made again, and memory holds no more than one. A part is three
files, and a record beside the verdicts, written last: what the part was made for, the hashes of its files, and what was
found out by then (scales of scorers, sizes of benchmarks). A part with a missing or changed file is made again, and an
interrupted run knows what only its earlier sessions needed.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from math import isfinite
from pathlib import Path
from typing import Any

from finegrade.config import LLM_JUDGE, LLMConfig, VerificationConfig, user_path
from finegrade.console import progress, say
from finegrade.llm.ledger import Ledger
from finegrade.llm.session import reply_settings
from finegrade.models.resolve import model_identity
from finegrade.models.scorers import SCORING
from finegrade.records import LeftOut, Sample, Verdict
from finegrade.report.summary import accepted
from finegrade.storage.atomic import file_hash, path_identity, read_json, write_json
from finegrade.storage.run_folder import (
    LEDGER,
    LEFT_OUT,
    LLM_LOG,
    SAMPLES,
    SCORE_BOOK,
    VERDICTS,
    VERIFICATION_REPORT,
    VERIFIED,
    RunFolder,
    Stage,
)
from finegrade.storage.tables import count_rows, iterate_rows, part_path, part_paths, write_rows
from finegrade.verification.calibration import draw
from finegrade.verification.ensemble import Ensembles
from finegrade.verification.llm_judge import NO_GRADE, LlmJudge, prompt_version
from finegrade.verification.rules import RULES
from finegrade.verification.score_cache import ScoreCache
from finegrade.verification.verifier import Verified, Verifier, benchmark_index

SAMPLES_A_PART, NEGATIVES_A_PART = 1_000, 16_000
"""At most; but a sample is never cut, and samples of one query are kept together up to twice as many negatives."""
SAMPLES_TOGETHER = 100
"""Samples of one query that follow each other are in one part, because their verdicts must agree: up to so many."""

Found = Mapping[str, Mapping[str, Any]]  # kind ("scorers", "benchmarks") -> name -> what was found out; JSON


def verify_samples(
    run: RunFolder,
    *,
    verification: VerificationConfig,
    llm: LLMConfig,
    levels: int,
    seed: int,
    after: str = "synthesize",
) -> None:
    """Writes ``verified/``, the samples with the negatives that stay, ``verdicts/`` and ``left_out/``.

    Args:
        run: Holds the samples, which the stage ``after`` made.
        verification, levels: The rules.
        llm: Is asked where the scorers are in doubt, if at all.
        seed: Of calibration.
    """
    settings: dict[str, Any] = {
        "verification": verification.model_dump(mode="json"),
        "rules": [RULES, SCORING],
        "scorers": [model_identity(name) for name in verification.models],
        "judge": reply_settings(llm) | {"prompt": prompt_version()} if verification.asks_llm else {},
        "benchmarks": [
            path_identity(path) if (path := user_path(name)).exists() else name for name in verification.benchmarks
        ],
        "levels": levels,
        "seed": seed,
    }
    with run.stage("verify", settings, after=[after]) as stage:
        if stage.done:
            return
        run.path(VERIFICATION_REPORT).unlink(missing_ok=True)  # it reports other verdicts
        parts = VerifiedParts(run, stage.fingerprint)
        with (
            ScoreCache(run.path(SCORE_BOOK)) as scores,
            LlmJudge(llm, run.path(LEDGER), run.path(LLM_LOG), seed) as judge,
        ):

            @cache  # only where a part is missing, and once
            def begin() -> tuple[Verifier, Callable[[], Found]]:
                benchmarks = benchmark_index(verification.benchmarks)  # first: a bad one shows at once
                if len(scores):
                    say(f"verify: {len(scores):,} scores are there and are not computed again")
                drawn = draw(iterate_rows(run.path(SAMPLES), Sample), seed)
                ensembles = Ensembles(verification, drawn, seed, {LLM_JUDGE: judge}, scores)
                verifier = Verifier(verification, levels, ensembles.first, ensembles.second, benchmarks)
                counts = benchmarks.counts if benchmarks else {}
                return verifier, lambda: {"scorers": ensembles.scales, "benchmarks": counts}

            number = _write_parts(run, parts, begin)
        _finish(stage, parts, number)


def _write_parts(
    run: RunFolder, parts: "VerifiedParts", begin: Callable[[], tuple[Verifier, Callable[[], Found]]]
) -> int:
    """Makes the parts that are missing, and returns how many there are.

    ``begin`` gives the verifier, and what was found out by the time of a call.
    """
    with progress("verifying samples", count_rows(run.path(SAMPLES))) as meter:
        for number, some in enumerate(in_parts(iterate_rows(run.path(SAMPLES), Sample))):
            if parts.has(number):
                meter.advance(len(some))
                continue
            verifier, found = begin()
            parts.write(number, verifier.verify(some, meter.advance), found())
    return number + 1


def in_parts(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    """Cuts samples into parts; one part at least."""
    part: list[Sample] = []
    negatives = together = 0
    for sample in samples:
        negatives += len(sample.negatives)
        follows = part and sample.query == part[-1].query and negatives <= 2 * NEGATIVES_A_PART
        together = together + 1 if follows and together < SAMPLES_TOGETHER else 1
        if part and together == 1 and (len(part) >= SAMPLES_A_PART or negatives > NEGATIVES_A_PART):
            yield part
            part, negatives = [], len(sample.negatives)
        part.append(sample)
    yield part


class VerifiedParts:
    """The three folders of a run: verified samples, verdicts, and samples that were left out.

    ``made_for`` is the fingerprint of all that they depend on; parts that were made for another are made again.
    """

    def __init__(self, run: RunFolder, made_for: str) -> None:
        self._folders = [run.path(name) for name in (VERIFIED, LEFT_OUT, VERDICTS)]
        self._verified, self._left_out, self._verdicts = self._folders
        self._made_for = f"{made_for} {SAMPLES_A_PART} {NEGATIVES_A_PART} {SAMPLES_TOGETHER}"

    def has(self, number: int) -> bool:
        """Whether a part is finished, and whole."""
        record = self._record(number)
        try:
            return record.get("made_for") == self._made_for and record.get("files") == self._hashes(number)
        except OSError:
            return False

    def write(self, number: int, verified: Verified, found: Found) -> None:
        """Finishes a part: what was decided on its samples, and what was found out by now."""
        write_rows(part_path(self._verified, number), verified.kept, Sample)
        write_rows(part_path(self._left_out, number), verified.left_out, LeftOut)
        write_rows(part_path(self._verdicts, number), verified.verdicts, Verdict)
        record = {"made_for": self._made_for, "files": self._hashes(number), "found": found}
        write_json(self._record_path(number), record)

    def end(self, number: int) -> list[Path]:
        """Removes all but the first parts, which an earlier run left; returns the files of the ``number`` first."""
        parts = {part_path(folder, part): None for folder in self._folders for part in range(number)}
        records = set(map(self._record_path, range(number)))
        there = [path for folder in self._folders for path in part_paths(folder)]
        for path in (*there, *self._verdicts.glob("part-*.json")):
            if path not in parts and path not in records:
                path.unlink()
        return list(parts)

    def found(self, number: int) -> dict[str, dict[str, Any]]:
        """What was found out for the ``number`` first parts."""
        found: dict[str, dict[str, Any]] = {}
        for part in range(number):
            for kind, named in self._record(part)["found"].items():
                found.setdefault(kind, {}).update(named)
        return found

    def _hashes(self, number: int) -> dict[str, str]:
        return {folder.name: file_hash(part_path(folder, number)) for folder in self._folders}

    def _record(self, number: int) -> dict[str, Any]:
        """Empty where it is missing or damaged: the part is made again."""
        try:
            record = read_json(self._record_path(number))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) and isinstance(record.get("found"), dict) else {}

    def _record_path(self, number: int) -> Path:
        return part_path(self._verdicts, number).with_suffix(".json")


def _finish(stage: Stage, parts: VerifiedParts, number: int) -> None:
    outputs, run = parts.end(number), stage.run
    counts = count_verdicts(iterate_rows(run.path(VERDICTS), Verdict), iterate_rows(run.path(LEFT_OUT), LeftOut))
    totals: dict[str, float] = {"requests": 0}
    if run.path(LEDGER).is_file():
        with Ledger(run.path(LEDGER), "verify") as ledger:
            totals = ledger.totals()
    details = counts | parts.found(number) | {"usage": totals if totals["requests"] else {}}
    stage.finish(outputs, details)
    total = sum(details["decisions"].values())
    listed = ", ".join(f"{number:,} {name}" for name, number in details["decisions"].items()) or "none decided on"
    written = details["by_source"].get("llm")
    of_llm = f"written by the LLM and accepted: {accepted(written)}; " if written else ""
    say(f"verify: of {total:,} negatives {listed}; {of_llm}{sum(details['left_out'].values()):,} samples left out")
    if ungraded := details["no_grade"]:
        reasons = ", ".join(f"{reason} ({number:,})" for reason, number in ungraded.items())
        say(f"verify: the LLM gave no grade for {sum(ungraded.values()):,} negatives: {reasons}")


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
        unread = (one.reason for one in verdict.results if not isfinite(one.score))
        no_grade.update(reason.removeprefix(NO_GRADE) for reason in unread if reason.startswith(NO_GRADE))
    return {
        "decisions": dict(decisions.most_common()),
        "reasons": dict(reasons.most_common()),
        "no_grade": dict(no_grade.most_common()),
        "by_source": {name: dict(counts) for name, counts in sorted(by_source.items())},
        "left_out": dict(Counter(row.reason for row in left_out).most_common()),
    }
