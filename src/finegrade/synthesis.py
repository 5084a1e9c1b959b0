"""The synthesize stage: graded negatives for every seed.

The hardest level is the positive, rewritten by an LLM so that it answers a real sibling query; where no rewrite is
asked for or none passes the gates, a text mined in the hardest band stands in. The levels below are mined and random.
"""

import asyncio
import os
import random
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractContextManager, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

from finegrade.config import Config, LLMConfig, SynthesisConfig
from finegrade.console import progress, say
from finegrade.errors import InputError
from finegrade.fetching import model_identity, model_path
from finegrade.gates import refusal
from finegrade.llm.client import ChatClient, LLMClient
from finegrade.llm.embedded import EmbeddedServer
from finegrade.llm.ledger import Ledger, Reply
from finegrade.mining import Miner
from finegrade.prompts import parse_passage, sibling_request
from finegrade.records import Negative, Record, Sample, Seed
from finegrade.siblings import Siblings
from finegrade.store import LEDGER, SAMPLES, SET_ASIDE, TRAIN_SEEDS, RunFolder, read_rows, replacing, write_rows
from finegrade.text import content_hash, content_words

HARDEST = 4


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


def synthesize(config: Config, run: RunFolder) -> None:
    """Writes ``samples.parquet``: every seed with its negatives at levels 1 to 4.

    Every request and raw reply is in ``ledger.sqlite`` before it is used; a second run repeats none of them.
    Replies that fail a gate go to ``set_aside.jsonl`` with the reason.

    Raises:
        InputError: The seeds stage has not run, or the LLM cannot be had.
    """
    llm = config.llm.model_dump(mode="json", exclude={"concurrency", "timeout", "api_key_env", "context"})
    settings = {
        "llm": llm,
        "model": _model_name(config.llm),
        "synthesis": config.synthesis.model_dump(mode="json"),
        "seed": config.seed,
    }
    with run.stage("synthesize", settings, after=["seeds"]) as stage:
        if stage.done:
            return
        seeds = read_rows(run.path(TRAIN_SEEDS), Seed)
        rewrites = find_rewrites(seeds, config.synthesis, config.seed)
        written, set_aside, usage = _write(rewrites, config, run)
        miner = Miner(seeds, config.seed)
        samples = _samples(seeds, written, miner)
        write_rows(run.path(SAMPLES), samples)
        with replacing(run.path(SET_ASIDE)) as path:
            path.write_text("".join(row.model_dump_json() + "\n" for row in set_aside), encoding="utf-8")
        reasons = Counter(f"llm: {row.reason}" for row in set_aside) + miner.set_aside
        details = {"set_aside": dict(reasons.most_common()), "usage": usage, **_count(samples)}
        stage.finish([run.path(SAMPLES)], details)
        say(f"synthesize: {len(samples):,} samples, {len(written)} of them with a negative that the LLM wrote")


def find_rewrites(seeds: Sequence[Seed], config: SynthesisConfig, seed: int) -> list[Rewrite]:
    """Seeds worth rewriting, each with its sibling, in the order to ask for them.

    The positive must hold words that belong to the query and not to the sibling: else there is
    nothing in it to change, and a small model copies. Those that hold most come first.
    """
    siblings = Siblings(seeds)
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
    with Ledger(run.path(LEDGER)) as ledger:
        before = int(ledger.totals()["replies"])
        if before:
            say(f"synthesize: continues, the ledger holds {before} replies; what it holds is not asked again")
        written, set_aside = asyncio.run(_ask_all(rewrites, wanted, config, run, ledger))
        return written, set_aside, ledger.totals()


async def _ask_all(
    rewrites: Sequence[Rewrite], wanted: int, config: Config, run: RunFolder, ledger: Ledger
) -> tuple[dict[str, Negative], list[SetAside]]:
    written: dict[str, Negative] = {}
    set_aside: list[SetAside] = []
    rewrites = rewrites[: config.synthesis.max_requests]
    with progress("the LLM writes negatives", wanted) as meter:
        async with _client(config.llm, run, ledger) as client:
            async for rewrite, reply in _in_order(rewrites, client, config):
                text = parse_passage(reply.text)
                reason = refusal(rewrite.seed, rewrite.sibling, text, reply, config.synthesis)
                if reason is None and text is not None:
                    written[rewrite.seed.id] = Negative(text=text, level=HARDEST, source="llm", sibling=rewrite.sibling)
                    meter.advance()
                else:
                    set_aside.append(
                        SetAside(
                            sample=rewrite.seed.id,
                            query=rewrite.seed.query,
                            sibling=rewrite.sibling,
                            reason=reason or "",
                            reply=reply.text,
                        )
                    )
                meter.note(f"{len(set_aside)} set aside")
                if len(written) == wanted:
                    break
    return written, set_aside


async def _in_order(
    rewrites: Sequence[Rewrite], client: ChatClient, config: Config
) -> AsyncIterator[tuple[Rewrite, Reply]]:
    """Replies in the order of the rewrites, with ``concurrency`` requests under way: the result depends on no clock."""
    model = _model_name(config.llm)
    waiting: list[tuple[Rewrite, asyncio.Task[Reply]]] = []
    left = iter(rewrites)
    try:
        while True:
            while len(waiting) < config.llm.concurrency and (rewrite := next(left, None)):
                request = sibling_request(
                    rewrite.seed.query,
                    rewrite.seed.positives[0],
                    rewrite.sibling,
                    model=model,
                    server=config.llm.base_url or "",
                    temperature=config.synthesis.temperature,
                    seed=config.seed,
                )
                waiting.append((rewrite, asyncio.ensure_future(client.complete(request))))
            if not waiting:
                return
            rewrite, task = waiting.pop(0)
            yield rewrite, await task
    finally:
        for _, task in waiting:
            task.cancel()
        await asyncio.gather(*(task for _, task in waiting), return_exceptions=True)


def _model_name(config: LLMConfig) -> str:
    """What requests call the model: the server's own name, or name and content of the embedded one."""
    return config.model if config.base_url else model_identity(config.model)


@asynccontextmanager
async def _client(config: LLMConfig, run: RunFolder, ledger: Ledger) -> AsyncIterator[LLMClient]:
    """The remote LLM where the configuration names one, else the embedded one, alive for this block only."""
    server: AbstractContextManager[Any]
    if config.base_url:
        key = os.environ.get(config.api_key_env, "") or "none"
        base_url, server = config.base_url, nullcontext()
    else:
        path = model_path(config.model)
        if path.suffix != ".gguf":
            wanted = "a .gguf file"
            raise InputError("llm.model", got=path, wanted=wanted, remedy="Or name a server with llm.base_url.")
        server = embedded = EmbeddedServer(path, config.context, run.path("llm.log"))
    with server:
        if not config.base_url:
            base_url, key = embedded.base_url, embedded.api_key
        client = LLMClient(base_url, key, ledger, config.timeout)
        try:
            yield client
        finally:
            await client.close()


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


def _count(samples: Sequence[Sample]) -> dict[str, Any]:
    counts = Counter(f"level {n.level} {n.source}" for sample in samples for n in sample.negatives)
    return {"samples": len(samples), "negatives": dict(sorted(counts.items()))}
