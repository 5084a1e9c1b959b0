"""What the embedded LLM makes of forty pairs: near misses accepted, and tokens and seconds for each of them.

    python benchmarks/near_misses.py [--pairs 40] [--folder DIR]

Pairs are docstrings of the Python packages that the demo trains on. Two ways of choosing whom to ask about, the same
prompt, checks and cross-encoder for both:

    any       pairs with a sibling query, drawn at random (as when the prompt was found)
    to change pairs whose answer holds most words of the query that the sibling has not (as the run asks)

The table counts; every text is printed below it, with what refused it, for a reader's own verdict. Requests and replies
are kept in DIR: a second run asks nothing and prints the same.
"""

import argparse
import asyncio
import random
from contextlib import aclosing
from pathlib import Path
from typing import Any

from finegrade import verify
from finegrade.config import Config
from finegrade.llm.ledger import Ledger
from finegrade.llm.session import ask_each
from finegrade.records import Sample, Seed, Verdict
from finegrade.stages.pipeline import call_stage, demo_config
from finegrade.storage.run_folder import LEDGER, LLM_LOG, TRAIN_SEEDS, RunFolder
from finegrade.storage.tables import read_rows
from finegrade.synthesis.requests import Order, Siblings, draw, find_siblings
from finegrade.synthesis.writer import Writer, Written

LONGEST = 600  # characters of an answer that is rewritten


def any_with_sibling(seeds: list[Seed], number: int) -> list[tuple[Seed, str]]:
    """Seeds with a sibling query, at random."""
    siblings, found = Siblings(seeds), []
    for seed in random.Random(1).sample(seeds, len(seeds)):
        sibling = siblings.nearest(seed) if seed.query and len(seed.positives[0]) <= LONGEST else None
        if sibling:
            found.append((seed, sibling))
        if len(found) == number:
            break
    return found


def orders_of(chosen: list[tuple[Seed, str]], config: Config) -> list[Order]:
    """Only the hardest level, by the LLM."""
    drawn = draw(config.draws, config.seed, "benchmark")
    level = config.synthesis.levels
    return [Order(seed.id, drawn, {level: "llm"}, seed=seed, sibling=sibling) for seed, sibling in chosen]


async def written_for(
    orders: list[Order], config: Config, run: RunFolder, purpose: str
) -> tuple[Any, dict[str, float]]:
    """What the LLM wrote, and what that took."""
    writer = Writer(config.resolved.synthesis, config.llm, config.seed)
    with Ledger(run.path(LEDGER), purpose) as ledger:
        async with aclosing(ask_each(orders, writer.write, config.llm, ledger, run.path(LLM_LOG))) as results:
            return [result async for result in results], ledger.totals()


def verdicts_of(found: list[tuple[Order, Written]], seeds: list[Seed], config: Config) -> dict[str, Verdict]:
    """Id of the order -> what verification decides on its negative; nothing where a check refused it before."""
    samples = [
        Sample(
            id=order.id, query=order.seed.query, positive=order.seed.positives[0], negatives=written.draft.negatives,
            group=order.seed.group,
        )
        for order, written in found
        if order.seed and written.draft and written.draft.negatives
    ]  # fmt: skip
    pairs = [{"query": seed.query, "positive": seed.positives[0]} for seed in seeds if seed.query]
    rules = config.verification
    found_out = verify(samples, scorers=[rules.scorer], margin=rules.margin, calibrate_on=pairs)
    return {verdict.sample: verdict for verdict in found_out.verdicts}


def main() -> None:
    """Asks, counts, prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=40)
    parser.add_argument("--folder", type=Path, default=Path("runs/near-misses"))
    options = parser.parse_args()
    config, run = demo_config(["synthesis.max_passage_chars=600"]), RunFolder(options.folder)
    call_stage("seeds", config, run)
    seeds = read_rows(run.path(TRAIN_SEEDS), Seed)
    ways = {
        "any": any_with_sibling(seeds, options.pairs),
        "to change": find_siblings(seeds, LONGEST, config.seed)[: options.pairs],
    }
    pages = []
    for way, chosen in ways.items():
        orders = orders_of(chosen, config)
        found, took = asyncio.run(written_for(orders, config, run, way))
        verdicts = verdicts_of(found, seeds, config)
        passed = accepted = 0
        for order, written in found:
            verdict = verdicts.get(order.id)
            passed += verdict is not None
            accepted += verdict is not None and verdict.decision != "dropped"
            aside = written.set_aside[0] if written.set_aside else None
            refused = aside.reason if aside else verdict.reason if verdict else "weak positive"
            text = aside.text if aside else written.draft.negatives[0].text
            told = f"REFUSED: {refused}" if refused else f"ACCEPTED, level {written.draft.negatives[0].level}"
            pages.append(
                f"[{way}] {told}\n  A: {order.seed.query}\n"
                f"  +: {order.seed.positives[0]}\n  B: {order.sibling}\n  -: {text}\n"
            )
        tokens = took["prompt_tokens"] + took["completion_tokens"]
        print(
            f"{way:10} {len(found)} asked, {passed} through the checks, {accepted} accepted; for each accepted one "
            f"{tokens / max(1, accepted):,.0f} tokens ({took['completion_tokens'] / max(1, accepted):,.0f} written), "
            f"{took['seconds'] / max(1, accepted):.1f} s; {took['seconds'] / len(found):.1f} s a request"
        )
    print("\n" + "\n".join(pages))


if __name__ == "__main__":
    main()
