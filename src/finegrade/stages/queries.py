"""The queries stage: an LLM writes what people would type to find a chunk; what does not find it again is set aside."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from contextlib import aclosing

from pydantic import BaseModel

from finegrade.config import Config
from finegrade.console import progress, say
from finegrade.data.splitting import labelled_pairs
from finegrade.data.user_queries import labels_identity, read_own_queries
from finegrade.errors import InputError
from finegrade.llm.ledger import Ledger
from finegrade.llm.session import Ask, ask_each, reply_settings, request_settings
from finegrade.llm.structured import Answer, ask_for
from finegrade.models.resolve import model_identity
from finegrade.records import Chunk, Record, WrittenQuery
from finegrade.retrieval.bm25 import BM25
from finegrade.storage.run_folder import CHUNKS, LEDGER, LLM_LOG, QUERIES, QUERIES_SET_ASIDE, RunFolder
from finegrade.storage.tables import read_rows, write_lines, write_rows
from finegrade.synthesis.filters import query_refusal
from finegrade.synthesis.prompts.query import SYSTEM, queries_form, query_request
from finegrade.text import normalised

FOUND_WITHIN = 10
"""A query is kept if its chunk is among so many first results of BM25 or of the base model."""


def find_again(queries: Sequence[tuple[str, str]], chunks: Sequence[Chunk], config: Config) -> list[bool]:
    """For each (query, chunk id), whether BM25 or, failing that, the base model ranks the chunk among the first ten.

    Args:
        queries: What was written, and for which chunk.
        chunks: All that is searched.
        config: Names the base model, how much it reads, and how many texts it reads at once.
    """
    number = {chunk.id: place for place, chunk in enumerate(chunks)}
    texts = [chunk.text for chunk in chunks]
    rankings = BM25(texts).rank([query for query, _ in queries], FOUND_WITHIN) if queries else []
    found = [number[chunk] in ranking for (_, chunk), ranking in zip(queries, rankings, strict=True)]
    missed = [place for place, is_found in enumerate(found) if not is_found]
    if missed:
        for place, ranking in zip(missed, _by_base_model([queries[i][0] for i in missed], texts, config), strict=True):
            found[place] = number[queries[place][1]] in ranking
    return found


def _by_base_model(queries: Sequence[str], texts: Sequence[str], config: Config) -> list[list[int]]:
    from finegrade.models.encoder import (
        load_backbone,  # torch, which the rest of the data half does without
        rank_with_model,
    )

    model = load_backbone(config.training.backbone, config.training.max_length)
    return rank_with_model(model, queries, texts, config.evaluation.batch_size, "the base model searches", FOUND_WITHIN)


class QuerySetAside(Record):
    """A query, or a whole reply, that is not used, and why."""

    chunk: str
    path: str
    style: str
    reason: str
    text: str


def write_queries(config: Config, run: RunFolder) -> None:
    """Writes ``queries.parquet``: for some chunks of either side, what people might type to find them.

    Where the user's own queries test, the LLM writes none for the test side.

    Raises:
        InputError: The documents stage has not run, the LLM cannot be had, or nothing that it wrote is of use.
    """
    settings = {
        "own": labels_identity(read_own_queries(config.source)),
        "llm": reply_settings(config.llm),
        "queries": config.queries.model_dump(mode="json"),
        "test_share": config.source.test_share,
        "base": [model_identity(config.training.backbone), config.training.max_length],
        "seed": config.seed,
    }
    with run.stage("queries", settings, after=["documents"]) as stage:
        if stage.done:
            return
        chunks = read_rows(run.path(CHUNKS), Chunk)
        tested_by_own = own_queries_test(chunks, config)
        asked = choose_asked(chunks, config, tested_by_own)
        with Ledger(run.path(LEDGER), stage.name) as ledger:
            written, set_aside = asyncio.run(ask_for_queries(asked, config, run, ledger))
            usage = ledger.totals()
        found = find_again([(query.query, query.chunk) for query in written], chunks, config)
        paths = {chunk.id: chunk.path for chunk in chunks}
        for query, is_found in zip(written, found, strict=True):
            if not is_found:
                reason = f"its chunk is not among the first {FOUND_WITHIN}"
                set_aside.append(_aside(query.chunk, paths[query.chunk], query.style, reason, query.query))
        kept = [query for query, is_found in zip(written, found, strict=True) if is_found]
        sides = {chunk.id: chunk.side for chunk in chunks}
        counts = Counter(sides[query.chunk] for query in kept)
        write_lines(run.path(QUERIES_SET_ASIDE), set_aside)
        if not counts["train"] or not (counts["test"] or tested_by_own):
            remedy = f"See {run.path(LEDGER).name} and {QUERIES_SET_ASIDE}; raise queries.chunks, or name another LLM."
            raise InputError("queries", got=dict(counts), wanted="some to train and some to test", remedy=remedy)
        write_rows(run.path(QUERIES), kept, WrittenQuery)
        reasons = Counter(row.reason for row in set_aside)
        details = {
            "asked": len(asked),
            "kept": dict(counts),
            "styles": dict(Counter(query.style for query in kept)),
            "set_aside": dict(reasons.most_common()),
            "usage": usage,
            "prompts": {"queries": SYSTEM},
        }
        stage.finish([run.path(QUERIES), run.path(QUERIES_SET_ASIDE)], details)
        say(
            f"queries: {len(kept):,} kept of those written for {len(asked):,} chunks "
            f"({counts['train']:,} to train, {counts['test']:,} to test), {len(set_aside):,} set aside"
        )


def choose_asked(chunks: Sequence[Chunk], config: Config, tested_by_own: bool) -> list[Chunk]:
    """The chunks to write queries for: ``test_share`` of them on the test side, none there where own queries test.

    Chunks stand in the file in the order in which they were drawn, so the first ones are a random sample.
    """
    share = 0.0 if tested_by_own else config.source.test_share
    number = config.queries.chunks
    test = [chunk for chunk in chunks if chunk.side == "test"][: round(number * share)]
    train = [chunk for chunk in chunks if chunk.side == "train"][: number - len(test)]
    return _spread(train, test)


def _spread(many: Sequence[Chunk], few: Sequence[Chunk]) -> list[Chunk]:
    """Both in order, the few evenly among the many: the first ones asked are of both sides."""
    step = (len(many) + len(few)) / len(few) if few else 0.0
    places = {int(i * step): chunk for i, chunk in enumerate(few)}
    rest = iter(many)
    return [places.get(i) or next(rest) for i in range(len(many) + len(few))]


def own_queries_test(chunks: Sequence[Chunk], config: Config) -> bool:
    """Whether the user's labelled queries are what is tested with."""
    own = read_own_queries(config.source)
    pairs, _ = labelled_pairs(own, chunks, config.source.test_share, config.seed)
    return any(side == "test" for side, _ in pairs)


async def ask_for_queries(
    asked: Sequence[Chunk], config: Config, run: RunFolder, ledger: Ledger
) -> tuple[list[WrittenQuery], list[QuerySetAside]]:
    """Asks for the queries of each chunk, in order. Returns those that pass the gates, and what was set aside."""
    written: list[WrittenQuery] = []
    set_aside: list[QuerySetAside] = []
    seen: set[str] = set()
    styles = config.queries.styles
    form = queries_form(styles)
    settings = request_settings(config.llm, config.queries.temperature, config.seed)

    async def talk(ask: Ask, chunk: Chunk) -> Answer[BaseModel]:
        return await ask_for(ask, query_request(chunk.text, styles, settings), form, again=0, take_cut=False)

    asking = ask_each(asked, talk, config.llm, ledger, run.path(LLM_LOG))
    with progress("the LLM writes queries", len(asked)) as meter:
        async with aclosing(asking) as replies:
            async for chunk, answer in replies:
                if answer.value is None:
                    set_aside.append(_aside(chunk.id, chunk.path, "", answer.reason, answer.reply.text))
                for style, query in answer.value.model_dump().items() if answer.value else ():
                    reason = query_refusal(query, style, chunk.text, seen)
                    if reason:
                        set_aside.append(_aside(chunk.id, chunk.path, style, reason, query))
                    else:
                        seen.add(normalised(query))
                        written.append(WrittenQuery(query=query, style=style, chunk=chunk.id))
                meter.advance()
                meter.note(f"{len(written)} queries, {len(set_aside)} set aside")
    return written, set_aside


def _aside(chunk: str, path: str, style: str, reason: str, text: str) -> QuerySetAside:
    return QuerySetAside(chunk=chunk, path=path, style=style, reason=reason, text=text)
