"""The synthesize stage: graded negatives for every seed.

The hardest level is the positive, rewritten by an LLM so that it answers a real sibling query; where no rewrite is
asked for or none passes the gates, a text mined in the hardest band stands in. The levels below are mined and random.
"""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

from finegrade.config import Config
from finegrade.console import progress, say
from finegrade.llm.asking import reply_settings
from finegrade.llm.ledger import Ledger
from finegrade.mining import Miner
from finegrade.records import HARDEST, Negative, Sample, Seed
from finegrade.rewriting import Rewrite, SetAside, find_rewrites, write_rewrites
from finegrade.store import LEDGER, SAMPLES, SET_ASIDE, TRAIN_SEEDS, RunFolder, read_rows, write_lines, write_rows
from finegrade.text import content_hash


def synthesize(config: Config, run: RunFolder) -> None:
    """Writes ``samples.parquet``: every seed with its negatives at levels 1 to 4.

    Every request and raw reply is in ``ledger.sqlite`` before it is used; a second run repeats none of them.
    Replies that fail a gate go to ``set_aside.jsonl`` with the reason.

    Raises:
        InputError: The seeds stage has not run, or the LLM cannot be had.
    """
    settings = {
        "llm": reply_settings(config.llm),
        "synthesis": config.synthesis.model_dump(mode="json"),
        "seed": config.seed,
    }
    with run.stage("synthesize", settings, after=["seeds"]) as stage:
        if stage.done:
            return
        seeds = read_rows(run.path(TRAIN_SEEDS), Seed)
        within_groups = not config.source.has_documents  # a document is too small to find siblings in
        rewrites = find_rewrites(seeds, config.synthesis, config.seed, within_groups)
        written, set_aside, usage = _write(rewrites, config, run)
        miner = Miner(seeds, config.seed)
        samples = _samples([seed for seed in seeds if seed.query], written, miner)
        write_rows(run.path(SAMPLES), samples)
        write_lines(run.path(SET_ASIDE), set_aside)
        reasons = Counter(f"llm: {row.reason}" for row in set_aside) + miner.set_aside
        details = {"set_aside": dict(reasons.most_common()), "usage": usage, **_count(samples)}
        stage.finish([run.path(SAMPLES), run.path(SET_ASIDE)], details)
        if len(written) < min(config.synthesis.llm_samples, len(rewrites)):
            say(
                f"synthesize: {len(written)} rewrites instead of {config.synthesis.llm_samples}: "
                f"{_most_frequent(set_aside)}synthesis.max_requests is {config.synthesis.max_requests}"
            )
        say(f"synthesize: {len(samples):,} samples, {len(written)} of them with a negative that the LLM wrote")


def _write(
    rewrites: Sequence[Rewrite], config: Config, run: RunFolder
) -> tuple[dict[str, Negative], list[SetAside], dict[str, float]]:
    """Asks until enough texts have passed the gates. Returns negatives by seed id, what was set aside, and usage."""
    wanted = min(config.synthesis.llm_samples, len(rewrites))
    if wanted < config.synthesis.llm_samples:
        say(
            f"synthesize: only {wanted} seeds can be rewritten: the others have no near sibling query, a text that is "
            f"longer than synthesis.max_passage_chars, or nothing in it to change"
        )
    if not wanted:
        return {}, [], {}
    with Ledger(run.path(LEDGER), "synthesize") as ledger:
        written, set_aside = asyncio.run(write_rewrites(rewrites, wanted, config, run, ledger))
        return written, set_aside, ledger.totals()


def _samples(seeds: Sequence[Seed], written: dict[str, Negative], miner: Miner) -> list[Sample]:
    """One sample for each positive of each seed; what the LLM wrote belongs to the first one."""
    samples = []
    with progress("mining negatives", len(seeds)) as meter:
        for seed in seeds:
            for positive in seed.positives:
                text = written.get(seed.id) if positive == seed.positives[0] else None
                samples.append(_sample(seed, positive, text, miner.negatives(seed)))
            meter.advance()
    return samples


def _sample(seed: Seed, positive: str, written: Negative | None, mined: Sequence[Negative]) -> Sample:
    """The LLM's text takes the hardest level; the mined one of that level makes room."""
    negatives = [n for n in mined if not (written and n.level == HARDEST)] + ([written] if written else [])
    ordered = tuple(sorted(negatives, key=lambda n: n.level))
    return Sample(
        id=content_hash(seed.query, positive),
        query=seed.query,
        positive=positive,
        negatives=ordered,
        group=seed.group,
        hardest_mined=max(mined, key=lambda n: n.level).text if mined else "",
    )


def _most_frequent(set_aside: Sequence[SetAside]) -> str:
    reasons = Counter(row.reason for row in set_aside).most_common(3)
    return "".join(f"{number} {reason}, " for reason, number in reasons)


def _count(samples: Sequence[Sample]) -> dict[str, Any]:
    counts = Counter(f"level {n.level} {n.source}" for sample in samples for n in sample.negatives)
    return {"samples": len(samples), "negatives": dict(sorted(counts.items()))}
