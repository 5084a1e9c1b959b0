"""The synthesize stage: graded negatives, and for tasks also the queries and answers, by the LLM and out of the corpus.

What the LLM writes goes to drafts, in parts; from these, when all are there, samples are assembled. The same
configuration gives the same samples, however often the work was broken off.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from typing import Any

from finegrade.config import DrawsConfig, LLMConfig, SourceConfig, SynthesisConfig
from finegrade.console import Meter, progress, say
from finegrade.errors import InputError
from finegrade.llm.ledger import Ledger
from finegrade.llm.session import reply_settings
from finegrade.records import Displaced, Sample, Seed, SetAside, Task
from finegrade.retrieval.mining import Index, index_identity, index_of
from finegrade.storage.run_folder import (
    DISPLACED,
    DRAFTS,
    LEDGER,
    LLM_LOG,
    SAMPLES,
    SET_ASIDE,
    TASKS,
    TEST_SAMPLES,
    TRAIN_SEEDS,
    VECTORS,
    RunFolder,
    Stage,
)
from finegrade.storage.tables import iterate_lines, iterate_rows, read_rows, write_lines, write_parts
from finegrade.synthesis.drafts import Drafts, write_drafts
from finegrade.synthesis.filters import CHECKS
from finegrade.synthesis.requests import Order, orders_for_seeds, orders_for_tasks
from finegrade.synthesis.samples import Counts, Repeats, samples_of_seeds, samples_of_tasks
from finegrade.synthesis.style_probe import probe
from finegrade.synthesis.writer import Writer, prompts_used

_LATE, _DISPLACED = "repeats.jsonl", "displaced.jsonl"


def synthesize(
    run: RunFolder, *, source: SourceConfig, synthesis: SynthesisConfig, draws: DrawsConfig, llm: LLMConfig, seed: int
) -> None:
    """Writes ``samples/``: queries with positives, and negatives at graded levels; of tasks also ``test_samples/``.

    Every request and raw reply is in ``ledger.sqlite`` before it is used; a second run repeats none of them.
    What fails a check goes to ``set_aside.jsonl`` with the reason.

    Args:
        run: The run folder.
        source: Whether there are seeds, and of what, or tasks.
        synthesis: What is written and mined; its mode is not auto.
        draws: What samples are like.
        llm: Is asked.
        seed: Of the draws, and of the LLM's sampling.

    Raises:
        InputError: The stage before it has not run, the LLM cannot be had, or nothing that it wrote is of use.
    """
    settings = {
        "llm": reply_settings(llm),
        "synthesis": synthesis.model_dump(mode="json", exclude={"engine"}),
        "draws": draws.model_dump(mode="json"),
        "seed": seed,
        "gates": CHECKS,
        "miner": index_identity(synthesis.miner, synthesis.miner_model),
    }
    with run.stage("synthesize", settings, after=["tasks" if source.is_tasks else "seeds"]) as stage:
        if not stage.done:
            if source.is_tasks:
                seeds: list[Seed] = []
                number = synthesis.llm_samples
                orders: Iterable[Order] = orders_for_tasks(read_rows(run.path(TASKS), Task), synthesis, draws, seed)
            else:
                seeds = read_rows(run.path(TRAIN_SEEDS), Seed)
                orders = of_seeds = orders_for_seeds(seeds, synthesis, draws, seed, not source.has_documents)
                number = len(of_seeds)
                _report_too_few(number, synthesis)
            drafts = Drafts(run, stage.fingerprint, synthesis.shard_rows, number)
            # before the LLM works: a wrong model of the miner shows here
            index = index_of(synthesis.miner, synthesis.miner_model, run.path(VECTORS))
            usage = _draft(orders, drafts, synthesis, llm, seed, run)
            _assemble(drafts, seeds, index, synthesis, seed, stage, {"model": llm.model, "usage": usage})
        shutil.rmtree(run.path(DRAFTS), ignore_errors=True)


def _assemble(
    drafts: Drafts, seeds: Sequence[Seed], index: Index, synthesis: SynthesisConfig, seed: int, stage: Stage,
    about_llm: dict[str, Any],
) -> None:  # fmt: skip
    """Drafts become samples; those of tasks where there are no seeds."""
    run, rows, number = stage.run, synthesis.shard_rows, drafts.number
    passed_over: Counter[str] = Counter()
    repeats = Repeats(drafts.read, run.path(DRAFTS))
    outputs, counts = [], Counts(synthesis.levels)
    total = max(number, sum(len(one.positives) for one in seeds if one.query))
    with (
        run.path(DRAFTS, _LATE).open("w", encoding="utf-8") as late,
        run.path(DRAFTS, _DISPLACED).open("w", encoding="utf-8") as gone,
        progress("samples", total) as meter,
    ):

        def aside(row: SetAside) -> None:
            print(row.model_dump_json(), file=late)

        def displaced(row: Displaced) -> None:
            print(row.model_dump_json(), file=gone)

        if not seeds:
            tested = samples_of_tasks(repeats.without("test", aside), synthesis, seed, passed_over, index)
            outputs += write_parts(run.path(TEST_SAMPLES), _advancing(tested, meter), Sample, rows)
            train = repeats.without("train", aside)
            samples = samples_of_tasks(train, synthesis, seed, passed_over, index, displaced)
        else:
            train = repeats.without("train", aside)
            samples = samples_of_seeds(train, seeds, synthesis, seed, passed_over, index, displaced)
        outputs += write_parts(run.path(SAMPLES), counts.passing(_advancing(samples, meter)), Sample, rows)
    rows_displaced = iterate_lines(run.path(DRAFTS, _DISPLACED), Displaced)
    outputs += write_parts(run.path(DISPLACED), rows_displaced, Displaced, rows)
    set_aside = chain(drafts.set_aside(), iterate_lines(run.path(DRAFTS, _LATE), SetAside))
    write_lines(run.path(SET_ASIDE), counts.set_aside(set_aside))
    reasons = counts.reasons + passed_over
    if number and not counts.samples:
        raise _no_samples(reasons, run)
    details = {
        "model": about_llm["model"],
        "mode": synthesis.mode,
        "levels": synthesis.levels,
        "prompts": prompts_used(synthesis, of_tasks=not seeds) if number else {},
        "orders": number,
        "samples": counts.samples,
        "kinds": dict(counts.kinds),
        "negatives": dict(sorted(counts.negatives.items())),
        "empty_levels": {str(level): number for level, number in counts.empty_levels.items() if number},
        "set_aside": dict(reasons.most_common()),
        "usage": about_llm["usage"],
        "probe": probe(iterate_rows(run.path(SAMPLES), Sample), seed),
    }
    stage.finish([*outputs, run.path(SET_ASIDE)], details)
    say(
        f"synthesize: {counts.samples:,} samples, {counts.written:,} of them with a negative that the LLM wrote "
        f"({number:,} asked for, {counts.reasons.total():,} texts set aside)"
    )
    if any(counts.empty_levels.values()):
        listed = ", ".join(f"level {level} in {n:,}" for level, n in counts.empty_levels.items() if n)
        say(f"synthesize: levels without a negative, which neither the LLM nor the corpus gave: {listed}")


def _advancing(samples: Iterable[Sample], meter: Meter) -> Iterator[Sample]:
    for sample in samples:
        meter.advance()
        yield sample


def _no_samples(reasons: Counter[str], run: RunFolder) -> InputError:
    often = "".join(f", most often: {reason}" for reason, _ in reasons.most_common(1))
    got = f"{reasons.total():,} texts that were set aside{often}"
    remedy = f"See {run.path(SET_ASIDE)}; then name another llm.model or synthesis.mode. Replies are kept."
    return InputError("synthesize", got=got, wanted="a sample to train on", remedy=remedy)


def _report_too_few(number: int, synthesis: SynthesisConfig) -> None:
    if number < synthesis.llm_samples:
        why = "there are no more queries"
        if synthesis.mode == "sibling":
            why = (
                "the others have no near sibling query, a text that is longer than synthesis.max_passage_chars, or "
                "nothing in it to change"
            )
        say(f"synthesize: the LLM writes for {number} samples in place of {synthesis.llm_samples}: {why}")


def _draft(
    orders: Iterable[Order], drafts: Drafts, synthesis: SynthesisConfig, llm: LLMConfig, seed: int, run: RunFolder
) -> dict[str, float]:
    """Has the LLM write; returns what that took."""
    if not drafts.number:
        return {}
    writer = Writer(synthesis, llm, seed)
    with Ledger(run.path(LEDGER), "synthesize") as ledger:
        if synthesis.engine == "ray":
            from finegrade.synthesis import ray_engine

            ray_engine.write_drafts(orders, drafts, writer, llm, ledger)
        else:
            write_drafts(orders, drafts, writer, llm, ledger, run.path(LLM_LOG))
        return ledger.totals()
