"""The verify stage: negatives that are negative, at levels that are in order.

Rules, in this order, on a cross-encoder's scores:
1. false negative: the negative does not score at least ``margin`` below the positive -> dropped;
2. sibling test, for rewritten texts: it does not answer its sibling query better than the original -> dropped;
3. order: among what is left of a sample, the levels are dealt out again by score -> regraded where that changes one.
"""

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import Any

from finegrade.config import Config
from finegrade.console import progress, say
from finegrade.fetching import model_identity
from finegrade.records import Sample, Verdict
from finegrade.row_files import read_rows, write_rows
from finegrade.score_book import ScoreBook
from finegrade.scoring import Scorer, load_cross_encoder
from finegrade.store import SAMPLES, VERDICTS, VERIFIED, RunFolder
from finegrade.summary import accepted

FALSE_NEGATIVE = "scores too near to the positive"
NOT_FOR_SIBLING = "does not answer its sibling query better"
OUT_OF_ORDER = "level out of order"


def verify(config: Config, run: RunFolder) -> None:
    """Writes ``verified.parquet``, the samples with what is left of their negatives, and ``verdicts.parquet``.

    Raises:
        InputError: The synthesize stage has not run, or the scorer cannot be had.
    """
    settings: dict[str, Any] = {
        "verification": config.verification.model_dump(mode="json"),
        "scorer": model_identity(config.verification.scorer),
    }
    with run.stage("verify", settings, after=["synthesize"]) as stage:
        if stage.done:
            return
        samples = read_rows(run.path(SAMPLES), Sample)
        identity = f"{settings['scorer']} {config.verification.max_length}"
        scorer = load_cross_encoder(config.verification.scorer, config.verification.max_length)
        book = ScoreBook(scorer, identity, run.path("relevance.jsonl"))
        verdicts = judge(samples, book, config.verification.margin)
        write_rows(run.path(VERIFIED), apply_verdicts(samples, verdicts), Sample)
        write_rows(run.path(VERDICTS), verdicts, Verdict)
        details = count_verdicts(verdicts)
        stage.finish([run.path(VERIFIED), run.path(VERDICTS)], details)
        llm = details["by_source"].get("llm", {})
        total = sum(details["decisions"].values())
        listed = ", ".join(f"{number:,} {name}" for name, number in details["decisions"].items())
        say(f"verify: of {total:,} negatives {listed}; written by the LLM and accepted: {accepted(llm)}")


def judge(samples: Sequence[Sample], scorer: Scorer, margin: float) -> list[Verdict]:
    """Scores every positive and negative, and decides.

    Args:
        samples: What synthesis made.
        scorer: Relevance of (query, text).
        margin: In the scorer's units.

    Returns:
        One verdict a negative, in the order of samples and negatives.
    """
    pairs: list[tuple[str, str]] = []
    for sample in samples:
        pairs.append((sample.query, sample.positive))
        for negative in sample.negatives:
            pairs.append((sample.query, negative.text))
            if negative.sibling is not None:
                pairs.append((negative.sibling, negative.text))
    scores: dict[tuple[str, str], float] = {}
    unique = list(dict.fromkeys(pairs))
    with progress("scoring positives and negatives", len(unique)) as meter:
        for pair, score in zip(unique, scorer.scores(unique), strict=True):
            scores[pair] = score
            meter.advance()
    return [verdict for sample in samples for verdict in _judge_sample(sample, scores, margin)]


def _judge_sample(sample: Sample, scores: dict[tuple[str, str], float], margin: float) -> list[Verdict]:
    positive = scores[sample.query, sample.positive]
    own = [scores[sample.query, negative.text] for negative in sample.negatives]
    sibling = [scores[n.sibling, n.text] if n.sibling is not None else None for n in sample.negatives]
    reasons = [_drop_reason(positive, *pair, margin) for pair in zip(own, sibling, strict=True)]
    left = [i for i, reason in enumerate(reasons) if not reason]
    levels = dict(
        zip(
            sorted(left, key=lambda i: (own[i], sample.negatives[i].level)),
            sorted(sample.negatives[i].level for i in left),
            strict=True,
        )
    )
    verdicts = []
    for i, negative in enumerate(sample.negatives):
        moved = i in levels and levels[i] != negative.level
        verdicts.append(
            Verdict(
                sample=sample.id,
                text=negative.text,
                source=negative.source,
                level_before=negative.level,
                level_after=levels.get(i),
                decision="dropped" if reasons[i] else "regraded" if moved else "kept",
                reason=reasons[i] or (OUT_OF_ORDER if moved else ""),
                positive_score=positive,
                score=own[i],
                sibling_score=sibling[i],
            )
        )
    return verdicts


def _drop_reason(positive: float, own: float, sibling: float | None, margin: float) -> str:
    if not own <= positive - margin:  # so that a score that is no number drops the negative, too
        return FALSE_NEGATIVE
    if sibling is not None and not sibling > own:
        return NOT_FOR_SIBLING
    return ""


def apply_verdicts(samples: Sequence[Sample], verdicts: Sequence[Verdict]) -> list[Sample]:
    """The samples with the negatives that stay, at their new levels; a sample may be left without any."""
    by_sample: defaultdict[str, list[Verdict]] = defaultdict(list)
    for verdict in verdicts:
        by_sample[verdict.sample].append(verdict)
    result = []
    for sample in samples:
        left = [
            n.model_copy(update={"level": v.level_after})
            for n, v in zip(sample.negatives, by_sample[sample.id], strict=True)
            if v.level_after is not None
        ]
        left.sort(key=lambda n: n.level)
        result.append(sample.model_copy(update={"negatives": tuple(left)}))
    return result


def count_verdicts(verdicts: Sequence[Verdict]) -> dict[str, Any]:
    """Counts by decision, by reason, and by source."""
    by_source: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for verdict in verdicts:
        by_source[verdict.source][verdict.decision] += 1
    return {
        "decisions": dict(Counter(v.decision for v in verdicts).most_common()),
        "reasons": dict(Counter(v.reason for v in verdicts if v.reason).most_common()),
        "by_source": {name: dict(counts) for name, counts in sorted(by_source.items())},
    }
