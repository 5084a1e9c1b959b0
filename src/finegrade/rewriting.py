"""Near misses: positives that an LLM rewrites so that they answer a sibling query instead."""

import random
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass

from finegrade.config import Config
from finegrade.console import progress
from finegrade.gates import refusal
from finegrade.llm.asking import ask_each, model_name
from finegrade.llm.ledger import Ledger
from finegrade.llm.request import ChatRequest
from finegrade.llm.structured import ask_for
from finegrade.prompts import Passage, sibling_request
from finegrade.records import HARDEST, Negative, Record, Seed
from finegrade.siblings import Siblings
from finegrade.store import LLM_LOG, RunFolder
from finegrade.text import content_words
from finegrade.writing_config import SynthesisConfig


@dataclass(frozen=True)
class Rewrite:
    """One rewrite to ask for: the seed, and the real query of the same group that the text shall answer."""

    seed: Seed
    sibling: str


class SetAside(Record):
    """A reply that did not become a negative, and why."""

    sample: str
    query: str
    sibling: str
    reason: str
    reply: str


def find_rewrites(
    seeds: Sequence[Seed], config: SynthesisConfig, seed: int, within_groups: bool = True
) -> list[Rewrite]:
    """Seeds worth rewriting, each with its sibling, in the order to ask for them.

    The positive must hold words that belong to the query and not to the sibling: else there is
    nothing in it to change, and a small model copies. Those that hold most come first.
    """
    seeds = [seed for seed in seeds if seed.query]
    siblings = Siblings(seeds, within_groups)
    order = random.Random(seed).sample(list(seeds), len(seeds))
    found = []
    for one in order:
        positive = one.positives[0]
        sibling = siblings.nearest(one) if len(positive) <= config.max_passage_chars else None
        if sibling is not None:
            to_change = (content_words(one.query) & content_words(positive)) - content_words(sibling)
            if to_change:
                found.append((len(to_change), Rewrite(one, sibling)))
    found.sort(key=lambda pair: -pair[0])
    return [rewrite for _, rewrite in found]


async def write_rewrites(
    rewrites: Sequence[Rewrite], wanted: int, config: Config, run: RunFolder, ledger: Ledger
) -> tuple[dict[str, Negative], list[SetAside]]:
    """Asks for one rewrite after the other until enough texts have passed the gates.

    Args:
        rewrites: What may be asked for, in order; never more than ``synthesis.max_requests`` of them.
        wanted: How many texts are enough.
        config: Names the LLM and its parameters.
        run: Where the embedded server's log goes.
        ledger: Where requests and replies are kept.

    Returns:
        Negatives by seed id, and what was set aside.
    """
    written: dict[str, Negative] = {}
    set_aside: list[SetAside] = []
    rewrites = rewrites[: config.synthesis.max_requests]
    asking = ask_each(
        rewrites,
        lambda ask, rewrite: ask_for(ask, _request(rewrite, config), Passage, again=0, take_cut=False),
        config.llm,
        ledger,
        run.path(LLM_LOG),
        needed=lambda: wanted - len(written),
    )
    with progress("the LLM writes negatives", wanted) as meter:
        async with aclosing(asking) as replies:
            async for rewrite, answer in replies:
                seed, text = rewrite.seed, answer.value.passage if answer.value else ""
                reason = answer.reason or refusal(seed, rewrite.sibling, text, config.synthesis)
                if not reason:
                    written[seed.id] = Negative(text=text, level=HARDEST, source="llm", sibling=rewrite.sibling)
                    meter.advance()
                else:
                    row = {"sample": seed.id, "query": seed.query, "sibling": rewrite.sibling}
                    set_aside.append(SetAside(reason=reason, reply=answer.reply.text, **row))
                meter.note(f"{len(set_aside)} set aside")
    return written, set_aside


def _request(rewrite: Rewrite, config: Config) -> ChatRequest:
    return sibling_request(
        rewrite.seed.query,
        rewrite.seed.positives[0],
        rewrite.sibling,
        model=model_name(config.llm),
        server=config.llm.base_url or "",
        temperature=config.synthesis.temperature,
        seed=config.seed,
    )
