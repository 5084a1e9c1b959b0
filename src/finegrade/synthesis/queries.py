"""Queries for texts, by the LLM: what people would type to find them."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pydantic import BaseModel

from finegrade.config import QueriesConfig
from finegrade.config.toml import parse_section
from finegrade.console import progress
from finegrade.errors import InputError
from finegrade.llm.ledger import Ledger
from finegrade.llm.session import LLM, Ask, Client, ask_each, beside_any_event_loop, llm_of, request_settings
from finegrade.llm.structured import Answer, ask_for
from finegrade.records import Chunk, LeftOut, Record, WrittenQuery
from finegrade.rows import Result, Rows, as_texts
from finegrade.storage.run_folder import LEDGER, LLM_LOG
from finegrade.synthesis.filters import query_refusal
from finegrade.synthesis.prompts.query import STYLES, queries_form, query_request
from finegrade.text import content_hash, normalised


class QuerySetAside(Record):
    """A query, or a whole reply, that is not used, and why."""

    chunk: str
    path: str
    style: str
    reason: str
    text: str


def query_set_aside(chunk: str, path: str, style: str, reason: str, text: str) -> QuerySetAside:
    """A query that is not used, and why."""
    return QuerySetAside(chunk=chunk, path=path, style=style, reason=reason, text=text)


class QueryWriter:
    """Asks for the queries of one text, one of each style."""

    def __init__(self, queries: QueriesConfig, llm: LLM, seed: int) -> None:
        self._styles, self._form = queries.styles, queries_form(queries.styles)
        self._settings = request_settings(llm, queries.temperature, seed)

    async def write(self, ask: Ask, chunk: Chunk) -> Answer[BaseModel]:
        """The reply, as it is read. It is not asked for again: other chunks give as good queries."""
        request = query_request(chunk.text, self._styles, self._settings)
        return await ask_for(ask, request, self._form, again=0, take_cut=False)


async def ask_for_queries(
    asked: Sequence[Chunk], queries: QueriesConfig, llm: LLM, seed: int, ledger: Ledger, log: Path
) -> tuple[list[WrittenQuery], list[QuerySetAside]]:
    """Asks for the queries of each chunk, in order. Returns those that pass the checks, and what was set aside."""
    written: list[WrittenQuery] = []
    set_aside: list[QuerySetAside] = []
    seen: set[str] = set()
    asking = ask_each(asked, QueryWriter(queries, llm, seed).write, llm, ledger, log)
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


class AnsweredQuery(Record):
    """A query that an LLM wrote, and the text that answers it.

    Args:
        query: The query.
        positive: The text.
        style: keywords, question or symptom.
    """

    query: str
    positive: str
    style: str


@dataclass(frozen=True)
class WrittenQueries(Result[AnsweredQuery]):
    """LLM-written queries, each with the text that it was written for: rows for the other functions.

    Attributes:
        kept: Those that passed the checks.
        left_out: Those that did not; and whole replies that could not be read, with an empty query.
    """


def write_queries(
    documents: Rows | Iterable[str],
    *,
    llm: str | Mapping[str, Any] | Client,
    per_text: int = 3,
    temperature: float = 0.7,
    seed: int = 0,
    folder: Path | str | None = None,
) -> WrittenQueries:
    """Has an LLM write what people might type to find a text.

    Args:
        documents: Texts of a few sentences each; or rows with a column such as "text", see `finegrade.rows.TEXT_NAMES`.
        llm: A model that runs here, or the keys of [llm] in finegrade.toml for a server
            (``{"base_url": ..., "model": ...}``), or an object whose ``async complete(request)`` gives the reply.
        per_text: Queries for each text, 1 to 3: keywords, a question, and what somebody types who has the problem.
        temperature: Of the LLM's sampling.
        seed: Of the LLM's sampling.
        folder: Where requests and replies are kept, so that nothing is asked twice. None: nowhere.

    Returns:
        Rows with query and positive, and what was left out and why.

    Raises:
        InputError: A document has no text, a value is wrong, or the LLM cannot be had.

    Examples:
        >>> from finegrade import write_queries
        >>> class Scripted:
        ...     async def complete(self, request):
        ...         return '{"keywords": "prune roses winter", "question": "What does this text say?"}'
        >>> written = write_queries(["Roses are cut in late winter."], llm=Scripted(), per_text=2)
        >>> written.to_dicts()
        [{'query': 'prune roses winter', 'positive': 'Roses are cut in late winter.', 'style': 'keywords'}]
        >>> written.reasons
        {'speaks of the text': 1}
    """
    if per_text not in range(1, len(STYLES) + 1):
        raise InputError("per_text", got=per_text, wanted=f"1 to {len(STYLES)}", remedy="Give another number.")
    settings = {"styles": list(STYLES)[:per_text], "temperature": temperature}
    queries = parse_section(QueriesConfig, settings, "write_queries")
    given, chunks = llm_of(llm), {chunk.id: chunk for chunk in _chunks(documents)}

    def write() -> tuple[list[WrittenQuery], list[QuerySetAside]]:
        with ExitStack() as opened:
            root = Path(folder or opened.enter_context(TemporaryDirectory()))
            ledger = opened.enter_context(Ledger(root / LEDGER, "queries"))
            return asyncio.run(ask_for_queries(list(chunks.values()), queries, given, seed, ledger, root / LLM_LOG))

    written, set_aside = beside_any_event_loop(write)
    kept = [AnsweredQuery(query=one.query, positive=chunks[one.chunk].text, style=one.style) for one in written]
    return WrittenQueries(kept, [_left_out(row, chunks[row.chunk].text) for row in set_aside])


def _chunks(documents: Rows | Iterable[str]) -> list[Chunk]:
    """Each text once."""
    texts = as_texts(documents, "documents")
    if not all(map(str.strip, texts)):
        index = next(index for index, text in enumerate(texts) if not text.strip())
        raise InputError(f"documents[{index}]", got="no text", wanted="a text", remedy="Leave it out.")
    named = ((content_hash(text), text) for text in texts)
    return [Chunk(id=key, text=text, path="", offset=0, heading="", group=key, side="train") for key, text in named]


def _left_out(row: QuerySetAside, text: str) -> LeftOut:
    query, evidence = (row.text, row.style) if row.style else ("", row.text)
    return LeftOut(sample=row.chunk, query=query, positive=text, reason=row.reason, evidence=evidence)
