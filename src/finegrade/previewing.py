"""A few samples before the long work: asked for as the run will ask, kept in the ledger, shown."""

import asyncio

from finegrade.config import Config
from finegrade.console import say
from finegrade.llm.ledger import Ledger
from finegrade.mining import Miner
from finegrade.pipeline import fetch_models, run_stage
from finegrade.querying import ask_for_queries, choose_asked, own_queries_test
from finegrade.records import Chunk, Seed
from finegrade.rewriting import find_rewrites, write_rewrites
from finegrade.store import CHUNKS, LEDGER, TRAIN_SEEDS, RunFolder, read_rows


def show_preview(config: Config, run: RunFolder, number: int) -> None:
    """Shows the first samples that a run will make; the run itself does not ask for them again.

    Args:
        config: Of the run.
        run: Its folder.
        number: How many requests to make.
    """
    fetch_models(config)
    documents = config.source.has_documents
    run_stage("documents" if documents else "seeds", config, run)
    with run.locked(), Ledger(run.path(LEDGER), "queries" if documents else "synthesize") as ledger:
        (_show_queries if documents else _show_rewrites)(config, run, number, ledger)
    say("The same command without --preview goes on from here; what you have seen is not asked again.")


def _show_queries(config: Config, run: RunFolder, number: int, ledger: Ledger) -> None:
    there = read_rows(run.path(CHUNKS), Chunk)
    asked = choose_asked(there, config, own_queries_test(there, config))[:number]
    written, set_aside = asyncio.run(ask_for_queries(asked, config, run, ledger))
    miner = Miner([_seed("", chunk) for chunk in there if chunk.side == "train"], config.seed)
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
    say(f"  negatives for {what}, hardest first, as the corpus gives them:")
    for negative in miner.negatives(seed):
        say(f"    level {negative.level} ({negative.source}): {negative.text}")


def _show_rewrites(config: Config, run: RunFolder, number: int, ledger: Ledger) -> None:
    seeds = read_rows(run.path(TRAIN_SEEDS), Seed)
    found = find_rewrites(seeds, config.synthesis, config.seed)[: min(number, config.synthesis.max_requests)]
    written, set_aside = asyncio.run(write_rewrites(found, number, config, run, ledger))
    told = {row.sample: f"set aside ({row.reason}): {row.reply}" for row in set_aside}
    told |= {seed: f"level {negative.level} (llm): {negative.text}" for seed, negative in written.items()}
    miner = Miner(seeds, config.seed)
    for rewrite in found:
        seed = rewrite.seed
        say(f"\nquery: {seed.query}\n  positive: {seed.positives[0]}\n  sibling: {rewrite.sibling}\n  {told[seed.id]}")
        _show_mined("it", miner, seed)
    if len(found) < number:
        say(f"No more than {len(found)}: other seeds cannot be rewritten, or synthesis.max_requests allows no more.")
