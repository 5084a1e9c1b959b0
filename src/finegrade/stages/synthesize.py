"""The synthesize stage: graded negatives, and for tasks also the queries and answers, by the LLM and out of the corpus.

What the LLM writes goes to drafts, in parts; from these, when all are there, samples are assembled. The same
configuration gives the same samples, however often the work was broken off.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from finegrade.config import Config
from finegrade.console import Meter, progress, say
from finegrade.errors import InputError
from finegrade.llm.ledger import Ledger
from finegrade.llm.session import reply_settings
from finegrade.records import Displaced, Sample, Seed, SetAside, Task
from finegrade.retrieval.mining import index_identity, index_of
from finegrade.storage.run_folder import (
    DISPLACED,
    DRAFTS,
    LEDGER,
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
from finegrade.synthesis.filters import GATES
from finegrade.synthesis.requests import Order, orders_for_seeds, orders_for_tasks
from finegrade.synthesis.samples import Counts, Repeats, samples_of_seeds, samples_of_tasks
from finegrade.synthesis.style_probe import probe
from finegrade.synthesis.writer import prompts_used

_LATE, _DISPLACED = "repeats.jsonl", "displaced.jsonl"


def synthesize(config: Config, run: RunFolder) -> None:
    """Writes ``samples/``: queries with positives, and negatives at graded levels; of tasks also ``test_samples/``.

    Every request and raw reply is in ``ledger.sqlite`` before it is used; a second run repeats none of them.
    What fails a gate goes to ``set_aside.jsonl`` with the reason.

    Raises:
        InputError: The stage before it has not run, the LLM cannot be had, or nothing that it wrote is of use.
    """
    settings = {
        "llm": reply_settings(config.llm),
        "synthesis": config.synthesis.model_dump(mode="json", exclude={"engine"}) | {"mode": config.writing_mode},
        "draws": config.draws.model_dump(mode="json"),
        "seed": config.seed,
        "gates": GATES,
        "miner": index_identity(config.synthesis.miner, config.synthesis.miner_model),
    }
    after = "tasks" if config.source.is_tasks else "seeds"
    with run.stage("synthesize", settings, after=[after]) as stage:
        if not stage.done:
            _write_and_assemble(config, run, stage)
        shutil.rmtree(run.path(DRAFTS), ignore_errors=True)


def _write_and_assemble(config: Config, run: RunFolder, stage: Stage) -> None:
    seeds = [] if config.source.is_tasks else read_rows(run.path(TRAIN_SEEDS), Seed)
    orders, number = _orders(seeds, config, run)
    rows = config.synthesis.shard_rows
    drafts = Drafts(run, stage.fingerprint, rows, number)
    index = index_of(config.synthesis.miner, config.synthesis.miner_model, run.path(VECTORS))
    usage = _draft(orders, drafts, config, run)  # after the miner's model: a wrong one shows before the LLM works
    passed_over: Counter[str] = Counter()
    repeats = Repeats(drafts.read, run.path(DRAFTS))
    outputs, counts = [], Counts(config.synthesis.levels)
    total = max(number, sum(len(seed.positives) for seed in seeds if seed.query))
    with (
        run.path(DRAFTS, _LATE).open("w", encoding="utf-8") as late,
        run.path(DRAFTS, _DISPLACED).open("w", encoding="utf-8") as gone,
        progress("samples", total) as meter,
    ):

        def aside(row: SetAside) -> None:
            print(row.model_dump_json(), file=late)

        def displaced(row: Displaced) -> None:
            print(row.model_dump_json(), file=gone)

        if config.source.is_tasks:
            tested = samples_of_tasks(repeats.without("test", aside), config, passed_over, index)
            outputs += write_parts(run.path(TEST_SAMPLES), _advancing(tested, meter), Sample, rows)
            samples = samples_of_tasks(repeats.without("train", aside), config, passed_over, index, displaced)
        else:
            samples = samples_of_seeds(repeats.without("train", aside), seeds, config, passed_over, index, displaced)
        outputs += write_parts(run.path(SAMPLES), counts.passing(_advancing(samples, meter)), Sample, rows)
    rows_displaced = iterate_lines(run.path(DRAFTS, _DISPLACED), Displaced)
    outputs += write_parts(run.path(DISPLACED), rows_displaced, Displaced, rows)
    set_aside = chain(drafts.set_aside(), iterate_lines(run.path(DRAFTS, _LATE), SetAside))
    write_lines(run.path(SET_ASIDE), counts.set_aside(set_aside))
    reasons = counts.reasons + passed_over
    if number and not counts.samples:
        raise _no_samples(reasons, run)
    details = {
        "model": config.llm.model,
        "mode": config.writing_mode,
        "levels": config.synthesis.levels,
        "prompts": prompts_used(config) if number else {},
        "orders": number,
        "samples": counts.samples,
        "kinds": dict(counts.kinds),
        "negatives": dict(sorted(counts.negatives.items())),
        "empty_levels": {str(level): number for level, number in counts.empty_levels.items() if number},
        "set_aside": dict(reasons.most_common()),
        "usage": usage,
        "probe": probe(iterate_rows(run.path(SAMPLES), Sample), config.seed),
    }
    stage.finish([*outputs, run.path(SET_ASIDE)], details)
    say(
        f"synthesize: {counts.samples:,} samples, {counts.written:,} of them with a negative that the LLM wrote "
        f"({number:,} asked for, {counts.reasons.total():,} texts set aside)"
    )
    if any(counts.empty_levels.values()):
        told = ", ".join(f"level {level} in {n:,}" for level, n in counts.empty_levels.items() if n)
        say(f"synthesize: levels without a negative, which neither the LLM nor the corpus gave: {told}")


def _advancing(samples: Iterable[Sample], meter: Meter) -> Iterator[Sample]:
    for sample in samples:
        meter.advance()
        yield sample


def _no_samples(reasons: Counter[str], run: RunFolder) -> InputError:
    often = "".join(f", most often: {reason}" for reason, _ in reasons.most_common(1))
    got = f"{reasons.total():,} texts that were set aside{often}"
    remedy = f"See {run.path(SET_ASIDE)}; then name another llm.model or synthesis.mode. Replies are kept."
    return InputError("synthesize", got=got, wanted="a sample to train on", remedy=remedy)


def _orders(seeds: Sequence[Seed], config: Config, run: RunFolder) -> tuple[Iterable[Order], int]:
    """What the LLM is to write, and how many samples that are."""
    wanted = config.synthesis.llm_samples
    if config.source.is_tasks:
        return orders_for_tasks(read_rows(run.path(TASKS), Task), config), wanted
    orders = orders_for_seeds(seeds, config)
    if len(orders) < wanted:
        why = "there are no more queries"
        if config.writing_mode == "sibling":
            why = (
                "the others have no near sibling query, a text that is longer than synthesis.max_passage_chars, or "
                "nothing in it to change"
            )
        say(f"synthesize: the LLM writes for {len(orders)} samples in place of {wanted}: {why}")
    return orders, len(orders)


def _draft(orders: Iterable[Order], drafts: Drafts, config: Config, run: RunFolder) -> dict[str, float]:
    """Has the LLM write; returns what that took."""
    if not drafts.number:
        return {}
    with Ledger(run.path(LEDGER), "synthesize") as ledger:
        if config.synthesis.engine == "ray":
            from finegrade.synthesis import ray_engine

            ray_engine.write_drafts(orders, drafts, config, run, ledger)
        else:
            write_drafts(orders, drafts, config, run, ledger)
        return ledger.totals()
