"""Queries for texts, by the LLM: what people would type to find them."""

from collections.abc import Sequence
from contextlib import aclosing
from pathlib import Path

from pydantic import BaseModel

from finegrade.config import LLMConfig, QueriesConfig
from finegrade.console import progress
from finegrade.llm.ledger import Ledger
from finegrade.llm.session import Ask, ask_each, request_settings
from finegrade.llm.structured import Answer, ask_for
from finegrade.records import Chunk, Record, WrittenQuery
from finegrade.synthesis.filters import query_refusal
from finegrade.synthesis.prompts.query import queries_form, query_request
from finegrade.text import normalised


class QuerySetAside(Record):
    """A query, or a whole reply, that is not used, and why."""

    chunk: str
    path: str
    style: str
    reason: str
    text: str


def query_set_aside(chunk: str, path: str, style: str, reason: str, text: str) -> QuerySetAside:
    return QuerySetAside(chunk=chunk, path=path, style=style, reason=reason, text=text)


async def ask_for_queries(
    asked: Sequence[Chunk], queries: QueriesConfig, llm: LLMConfig, seed: int, ledger: Ledger, log: Path
) -> tuple[list[WrittenQuery], list[QuerySetAside]]:
    """Asks for the queries of each chunk, in order. Returns those that pass the checks, and what was set aside."""
    written: list[WrittenQuery] = []
    set_aside: list[QuerySetAside] = []
    seen: set[str] = set()
    form = queries_form(queries.styles)
    settings = request_settings(llm, queries.temperature, seed)

    async def talk(ask: Ask, chunk: Chunk) -> Answer[BaseModel]:
        return await ask_for(ask, query_request(chunk.text, queries.styles, settings), form, again=0, take_cut=False)

    asking = ask_each(asked, talk, llm, ledger, log)
    with progress("the LLM writes queries", len(asked)) as meter:
        async with aclosing(asking) as replies:
            async for chunk, answer in replies:
                if answer.value is None:
                    set_aside.append(query_set_aside(chunk.id, chunk.path, "", answer.reason, answer.reply.text))
                for style, query in answer.value.model_dump().items() if answer.value else ():
                    reason = query_refusal(query, style, chunk.text, seen)
                    if reason:
                        set_aside.append(query_set_aside(chunk.id, chunk.path, style, reason, query))
                    else:
                        seen.add(normalised(query))
                        written.append(WrittenQuery(query=query, style=style, chunk=chunk.id))
                meter.advance()
                meter.note(f"{len(written)} queries, {len(set_aside)} set aside")
    return written, set_aside
