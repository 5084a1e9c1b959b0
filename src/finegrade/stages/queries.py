"""The queries stage: an LLM writes what people would type to find a chunk; what does not find it again is set aside."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from finegrade.config import LLMConfig, QueriesConfig, SourceConfig, TrainingConfig
from finegrade.console import say
from finegrade.data.splitting import labelled_pairs
from finegrade.data.user_queries import OwnQuery, labels_identity, read_own_queries
from finegrade.errors import InputError
from finegrade.llm.ledger import Ledger
from finegrade.llm.session import reply_settings
from finegrade.models.resolve import model_identity
from finegrade.records import Chunk, WrittenQuery
from finegrade.retrieval.bm25 import BM25
from finegrade.storage.run_folder import CHUNKS, LEDGER, LLM_LOG, QUERIES, QUERIES_SET_ASIDE, RunFolder
from finegrade.storage.tables import read_rows, write_lines, write_rows
from finegrade.synthesis.prompts.query import SYSTEM
from finegrade.synthesis.queries import ask_for_queries, query_set_aside

FOUND_WITHIN = 10
"""A query is kept if its chunk is among so many first results of BM25 or of the base model."""


def find_again(
    queries: Sequence[tuple[str, str]], chunks: Sequence[Chunk], training: TrainingConfig, batch_size: int
) -> list[bool]:
    """For each (query, chunk id), whether BM25 or, failing that, the base model ranks the chunk among the first ten."""
    number = {chunk.id: index for index, chunk in enumerate(chunks)}
    texts = [chunk.text for chunk in chunks]
    rankings = BM25(texts).rank([query for query, _ in queries], FOUND_WITHIN) if queries else []
    found = [number[chunk] in ranking for (_, chunk), ranking in zip(queries, rankings, strict=True)]
    missed = [index for index, is_found in enumerate(found) if not is_found]
    if missed:
        from finegrade.models import encoder  # torch, which the rest of the data half does without

        model = encoder.load_backbone(training.backbone, training.max_length)
        asked = [queries[index][0] for index in missed]
        rankings = encoder.rank_with_model(model, asked, texts, batch_size, "the base model searches", FOUND_WITHIN)
        for index, ranking in zip(missed, rankings, strict=True):
            found[index] = number[queries[index][1]] in ranking
    return found


def write_queries(
    run: RunFolder,
    *,
    source: SourceConfig,
    queries: QueriesConfig,
    llm: LLMConfig,
    training: TrainingConfig,
    batch_size: int,
    seed: int,
) -> None:
    """Writes ``queries.parquet``: for some chunks of either side, what people might type to find them.

    Where the user's own queries test, the LLM writes none for the test side.

    Args:
        run: The run folder.
        source: Names the user's own queries, and the share of chunks to test with.
        queries: How many are written, of which styles.
        llm: Writes them.
        training: Names the base model that must find the chunk again where BM25 does not.
        batch_size: How many texts it reads at once.
        seed: Of the draws, and of the LLM's sampling.

    Raises:
        InputError: The documents stage has not run, the LLM cannot be had, or nothing that it wrote is of use.
    """
    user_queries = read_own_queries(source)
    settings = {
        "own": labels_identity(user_queries),
        "llm": reply_settings(llm),
        "queries": queries.model_dump(mode="json"),
        "test_share": source.test_share,
        "base": [model_identity(training.backbone), training.max_length],
        "seed": seed,
    }
    with run.stage("queries", settings, after=["documents"]) as stage:
        if stage.done:
            return
        chunks = read_rows(run.path(CHUNKS), Chunk)
        tested_by_own = own_queries_test(user_queries, chunks, source.test_share, seed)
        asked = choose_asked(chunks, queries.chunks, 0.0 if tested_by_own else source.test_share)
        with Ledger(run.path(LEDGER), stage.name) as ledger:
            written, set_aside = asyncio.run(ask_for_queries(asked, queries, llm, seed, ledger, run.path(LLM_LOG)))
            usage = ledger.totals()
        found = find_again([(query.query, query.chunk) for query in written], chunks, training, batch_size)
        paths = {chunk.id: chunk.path for chunk in chunks}
        for query, is_found in zip(written, found, strict=True):
            if not is_found:
                reason = f"its chunk is not among the first {FOUND_WITHIN}"
                set_aside.append(query_set_aside(query.chunk, paths[query.chunk], query.style, reason, query.query))
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


def choose_asked(chunks: Sequence[Chunk], number: int, test_share: float) -> list[Chunk]:
    """The chunks to write queries for.

    Chunks stand in the file in the order in which they were drawn, so the first ones are a random sample.

    Args:
        chunks: All of them.
        number: How many are wanted.
        test_share: Of these, on the test side; 0 where the user's own queries test.
    """
    test = [chunk for chunk in chunks if chunk.side == "test"][: round(number * test_share)]
    train = [chunk for chunk in chunks if chunk.side == "train"][: number - len(test)]
    return _spread(train, test)


def _spread(many: Sequence[Chunk], few: Sequence[Chunk]) -> list[Chunk]:
    """Both in order, the few evenly among the many: the first ones asked are of both sides."""
    step = (len(many) + len(few)) / len(few) if few else 0.0
    at = {int(i * step): chunk for i, chunk in enumerate(few)}
    rest = iter(many)
    return [at.get(i) or next(rest) for i in range(len(many) + len(few))]


def own_queries_test(user_queries: Sequence[OwnQuery], chunks: Sequence[Chunk], test_share: float, seed: int) -> bool:
    """Whether the user's labelled queries are what is tested with."""
    pairs, _ = labelled_pairs(user_queries, chunks, test_share, seed)
    return any(side == "test" for side, _ in pairs)
