"""A few samples before the long work: asked for as the run will ask, kept in the ledger, shown."""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from itertools import islice

from finegrade.config import Config
from finegrade.console import say
from finegrade.data.user_queries import read_own_queries
from finegrade.llm.ledger import Ledger
from finegrade.llm.session import ask_each
from finegrade.records import Chunk, Seed, Task
from finegrade.retrieval.mining import Miner
from finegrade.stages.pipeline import fetch_models, run_stage, stage_order
from finegrade.stages.queries import choose_asked, own_queries_test
from finegrade.storage.run_folder import CHUNKS, LEDGER, LLM_LOG, TASKS, TRAIN_SEEDS, RunFolder
from finegrade.storage.tables import read_rows
from finegrade.synthesis.queries import ask_for_queries
from finegrade.synthesis.requests import Order, orders_for_seeds, orders_for_tasks
from finegrade.synthesis.writer import Writer, Written


def show_preview(config: Config, run: RunFolder, number: int) -> None:
    """Shows the first samples that a run will make; the run itself does not ask for them again.

    Args:
        config: Of the run.
        run: Its folder.
        number: How many chunks or samples to ask about.
    """
    fetch_models(config)
    llm = config.llm.model_copy(update={"batch": False})  # nobody waits a day
    config = config.resolved.model_copy(update={"llm": llm})
    documents = config.source.has_documents
    run_stage(stage_order(config)[0], config, run)
    with run.locked(), Ledger(run.path(LEDGER), "queries" if documents else "synthesize") as ledger:
        (_show_queries if documents else _show_samples)(config, run, number, ledger)
    say("The same command without --preview goes on from here; what you have seen is not asked again.")


def _show_queries(config: Config, run: RunFolder, number: int, ledger: Ledger) -> None:
    there = read_rows(run.path(CHUNKS), Chunk)
    share, seed = config.source.test_share, config.seed
    tested_by_own = own_queries_test(read_own_queries(config.source), there, share, seed)
    asked = choose_asked(there, config.queries.chunks, 0.0 if tested_by_own else share)[:number]
    asking = ask_for_queries(asked, config.queries, config.llm, seed, ledger, run.path(LLM_LOG))
    written, set_aside = asyncio.run(asking)
    miner = Miner([_seed("", chunk) for chunk in there if chunk.side == "train"], config.seed, config.synthesis.levels)
    for chunk in asked:
        say(f"\n{chunk.path}, from character {chunk.offset:,}:\n  {chunk.text}")
        queries = [query for query in written if query.chunk == chunk.id]
        for query in queries:
            say(f"  -> {query.style}: {query.query}")
        for row in set_aside:
            if row.chunk == chunk.id:
                say(f"  set aside ({row.reason}): {row.text}")
        if queries and chunk.side == "train":
            _show_mined(f'"{queries[0].query}"', miner, _seed(queries[0].query, chunk))
        elif queries:
            say("  held out for testing: no negatives")


def _seed(query: str, chunk: Chunk) -> Seed:
    return Seed(id=chunk.id, query=query, positives=(chunk.text,), group=chunk.group, section=chunk.section)


def _show_mined(what: str, miner: Miner, seed: Seed) -> None:
    say(f"  negatives for {what}, hardest first, as BM25 finds them in the corpus:")
    for negative in miner.negatives(seed):
        say(f"    level {negative.level} ({negative.source}): {negative.text}")


def _show_samples(config: Config, run: RunFolder, number: int, ledger: Ledger) -> None:
    """The first samples as the LLM writes them, each with what the corpus gives beside it."""
    if config.source.is_tasks:
        miner, tasks = None, read_rows(run.path(TASKS), Task)
        orders = list(islice(orders_for_tasks(tasks, config.synthesis, config.draws, config.seed), number))
    else:
        seeds = read_rows(run.path(TRAIN_SEEDS), Seed)
        miner = Miner(seeds, config.seed, config.synthesis.levels)
        within_groups = not config.source.has_documents
        orders = orders_for_seeds(seeds, config.synthesis, config.draws, config.seed, within_groups)[:number]
    for order, written in asyncio.run(_written(orders, config, run, ledger)):
        if order.task:
            say(f"\ntask ({order.task.kind}, to {order.task.side}): {order.task.description}")
        if written.draft:
            say(f"\nquery: {written.draft.query}\n  positive: {written.draft.positive}")
            for negative in written.draft.negatives:
                say(f"  level {negative.level} (llm): {negative.text}")
                say(f"    {negative.flaw or f'answers: {negative.sibling}'}")
        for row in written.set_aside:
            say(f"  set aside ({row.reason}): {row.text}")
        if miner and order.seed:
            _show_mined("it", miner, order.seed)
    if len(orders) < number:
        say(f"No more than {len(orders)}: synthesis.llm_samples, or the seeds that there are.")


async def _written(
    orders: Sequence[Order], config: Config, run: RunFolder, ledger: Ledger
) -> list[tuple[Order, Written]]:
    writer = Writer(config.synthesis, config.llm, config.seed)
    async with aclosing(ask_each(orders, writer.write, config.llm, ledger, run.path(LLM_LOG))) as results:
        return [result async for result in results]
