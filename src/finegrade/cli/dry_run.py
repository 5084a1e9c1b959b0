"""What a run asks of the LLM, counted by a dry run: the code that writes asks a client that makes its replies up."""

import asyncio
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import cycle, islice
from math import ceil
from typing import Any

from finegrade.config import JUDGED, LLM_JUDGE, Config, VerificationConfig
from finegrade.data.chunking import CHARS_PER_TOKEN
from finegrade.data.pairs import read_pairs
from finegrade.llm.ledger import Reply
from finegrade.llm.request import ChatRequest, RequestSettings
from finegrade.llm.structured import ask_for
from finegrade.records import Chunk, Seed, Task
from finegrade.stages.tasks import brainstorm, quotas_of, with_sides
from finegrade.synthesis.prompts.query import STYLES
from finegrade.synthesis.prompts.sample import MOST_CHARS_A_WORD
from finegrade.synthesis.queries import QueryWriter
from finegrade.synthesis.requests import Order, draw, orders_for_tasks, sources_of
from finegrade.synthesis.writer import Writer
from finegrade.verification.llm_judge import MAX_CHARS, Judgement, grade_request

_SAMPLES, _TASKS, _PAIRS = 100, 500, 1_000
"""Of samples and tasks, at most so many are written in the dry run, and the counts multiplied; of pairs, looked at."""

_NEW_TASKS = 2 / 3  # of a reply: an LLM repeats itself
_CHUNK_FILLED = 0.65  # of chunk_tokens: sections end
_TRIED = 2 * JUDGED  # grades of positives and of random texts
_DOUBTFUL, _NEAR = 0.2, 0.75  # of the corpus' negatives, and of those that an LLM wrote for all levels: guesses

_KINDS = {"text": "style guard", "passage": "rewrites", "flaw": "negatives", "tasks": "tasks", "answer": "grades"}
_KINDS |= dict.fromkeys(STYLES, "queries")
"""First field of the reply -> what is asked for; all others are samples."""

_WRITTEN = dict.fromkeys(STYLES, 40) | {"description": 150, "instruction": 60, "reason": 40}
"""Field of the reply -> characters that an LLM writes."""

_FLAW, _CHARS_A_WORD = 90, 6
_SYLLABLES = [first + second for first in "bdfgklmnprstvz" for second in "aeiou"]
_WORDS = [first + second for first in _SYLLABLES for second in _SYLLABLES]


@dataclass(frozen=True)
class Asked:
    """Requests of one kind.

    Attributes:
        what: For people.
        requests: How many there will be, as far as can be known.
        most: Never more than so many.
        tokens_in: Read in all.
        tokens_fresh: Of these, what is not the same in every request: the rest comes out of the server's cache.
        tokens_out: Written in all.
    """

    what: str
    requests: int
    most: int
    tokens_in: int
    tokens_fresh: int
    tokens_out: int


@dataclass
class _Count:
    """Requests of one kind, and their characters."""

    requests: float = 0
    read: float = 0
    fresh: float = 0
    written: float = 0


class CountingClient:
    """Stands for the LLM: counts requests and makes up replies that pass the checks.

    Args:
        readable: Whether replies can be read at once. If not: pairs the second time, so that more is asked about them,
            all others never; so no run asks more.

    Attributes:
        counts: By kind.
    """

    def __init__(self, readable: bool = True) -> None:
        self._readable = readable
        self.counts: dict[str, _Count] = {}

    async def complete(self, request: ChatRequest) -> Reply:
        """A made-up reply of the request's schema."""
        # words of its own for each request: a pair in its task's words would not pass
        self._dice = random.Random("\n".join(message.content for message in request.messages))
        fields = list(request.reply_schema["properties"])
        has_pair, is_correction = "positive" in fields, request.messages[-2].role == "assistant"
        readable = self._readable or (has_pair and is_correction)
        text = json.dumps(self._made_up("", request.reply_schema, has_pair)) if readable else "no"
        count = self.counts.setdefault(_KINDS.get(fields[0], "samples"), _Count())
        count.requests += 1
        count.read += sum(len(message.content) for message in request.messages)
        count.fresh += len(request.messages[-1].content)
        count.written += len(text)
        return Reply(text=text, finish_reason="stop", prompt_tokens=0, completion_tokens=0, seconds=0)

    def _made_up(self, field: str, schema: dict[str, Any], has_pair: bool) -> Any:
        if schema["type"] == "object":
            return {name: self._made_up(name, one, has_pair) for name, one in schema["properties"].items()}
        if schema["type"] == "array":
            number = schema["minItems"]
            new = [self._made_up(field, schema["items"], has_pair) for _ in range(ceil(number * _NEW_TASKS))]
            return list(islice(cycle(new), number))
        if "enum" in schema:
            return schema["enum"][0]
        if field.startswith("flaw"):
            return self._text(_FLAW)
        if field == "passage":
            return self._text((schema["minLength"] + schema["maxLength"]) // 2)
        share = _CHARS_A_WORD if has_pair else 3  # of the room for a text: it is as long as the positive
        return self._text(_WRITTEN.get(field) or schema["maxLength"] * share // MOST_CHARS_A_WORD)

    def _text(self, length: int) -> str:
        return " ".join(self._dice.choices(_WORDS, k=length // 5 + 1)).capitalize() + "."


def requests_of_run(config: Config) -> tuple[Asked, ...]:
    """All that a run asks the LLM, in the order of the stages; a reasoning LLM is taken to think all that it may."""
    config = config.resolved
    asked: list[Asked] = []
    if config.source.has_documents:
        asked += _queries(config)
    tasks: list[Task] = []
    if config.source.is_tasks:
        requests, tasks = _tasks(config)
        asked += requests
    orders = _orders(config, tasks) if config.synthesis.llm_samples else []
    asked += _samples(config, orders)
    return tuple(_with_thoughts(asked + _grades(config, orders), config))


def grades_of_external(config: Config, negatives: int, characters: float) -> tuple[Asked, ...]:
    """All that the LLM is asked about external data.

    Args:
        config: How it is verified.
        negatives: How many there are, beside each positive.
        characters: Of query, positive and negative together, on average.
    """
    rules = config.verification
    if not (rules.asks_llm_of_corpus and negatives):
        return ()
    length = min(MAX_CHARS, round(characters / 3))
    number = ceil(negatives * _share_of_corpus(rules)) + _TRIED
    return tuple(_with_thoughts(_counted_grades(length, length, number, negatives + _TRIED), config))


def _with_thoughts(asked: Sequence[Asked], config: Config) -> list[Asked]:
    thinking = config.llm.thinking_tokens
    return [replace(one, tokens_out=one.tokens_out + one.requests * thinking) for one in asked]


def _asked(usual: CountingClient, number: float, worst: CountingClient, most: float) -> list[Asked]:
    """What was counted, times ``number``; and at most ``most`` times what an LLM was asked that cannot be read."""
    found = []
    for what in worst.counts:
        count = usual.counts.get(what, _Count())
        read, fresh, written = (round(number * n / CHARS_PER_TOKEN) for n in (count.read, count.fresh, count.written))
        most_requests = ceil(most * worst.counts[what].requests)
        found.append(
            Asked(what, min(round(number * count.requests), most_requests), most_requests, read, fresh, written)
        )
    return found


def _queries(config: Config) -> list[Asked]:
    """There are no chunks yet: those of one that is made up, for all."""
    text = "x" * _chunk_length(config)
    chunk = Chunk(id="", text=text, path="", offset=0, heading="", group="", side="train")
    writer, usual, worst = QueryWriter(config.queries, config.llm, config.seed), CountingClient(), CountingClient(False)
    for client in (usual, worst):
        asyncio.run(writer.write(client.complete, chunk))
    return _asked(usual, config.queries.chunks, worst, config.queries.chunks)


def _tasks(config: Config) -> tuple[list[Asked], list[Task]]:
    """The requests, and tasks that are made up."""
    times = max(1.0, config.tasks.number / _TASKS, config.tasks.max_requests / _TASKS)
    number = ceil(config.tasks.number / times)
    settings = config.tasks.model_copy(
        update={"number": number, "max_requests": ceil(config.tasks.max_requests / times)}
    )
    made: list[Task] = []
    usual, worst = CountingClient(), CountingClient(False)
    for client in (usual, worst):
        for kind, wanted in quotas_of(settings.kinds, number).items():
            asking = brainstorm(client.complete, kind, wanted, settings, config.llm, config.seed)
            made += asyncio.run(asking).tasks
    return _asked(usual, times, worst, times), with_sides(made, config.source.test_share, config.seed)


def _orders(config: Config, tasks: Sequence[Task]) -> list[Order]:
    """Some orders, of tasks and pairs that are made up, or of the user's own pairs."""
    synthesis = config.synthesis.model_copy(update={"llm_samples": _SAMPLES})
    if config.source.is_tasks:
        return list(orders_for_tasks(tasks, synthesis, config.draws, config.seed)) if tasks else []
    sibling = "x" * 60 if synthesis.mode == "sibling" else ""
    orders = []
    for number, seed in enumerate(islice(cycle(_seeds(config)), _SAMPLES)):
        sources = sources_of(str(number), synthesis, config.seed)
        drawn = draw(config.draws, config.seed, number)
        orders.append(Order(str(number), drawn, sources, seed=seed, sibling=sibling))
    return orders


def _seeds(config: Config) -> list[Seed]:
    source, longest = config.source, config.synthesis.max_passage_chars
    pairs = [("x" * 60, "x" * _chunk_length(config))]
    if source.kind == "pairs" and source.path is not None and source.path.is_file():
        pairs = [(pair.query, pair.positive) for pair in islice(read_pairs(source.path), _PAIRS)]
    if config.synthesis.mode == "sibling":
        pairs = [pair for pair in pairs if len(pair[1]) <= longest] or [("x" * 60, "x" * longest)]
    step = max(1, len(pairs) // _SAMPLES)
    return [Seed(id="", query=query, positives=(positive,), group="") for query, positive in pairs[::step]]


def _samples(config: Config, orders: Sequence[Order]) -> list[Asked]:
    """What is asked for some samples, times all of them."""
    if not orders:
        return []
    writer, number = Writer(config.synthesis, config.llm, config.seed), config.synthesis.llm_samples
    usual, worst = CountingClient(), CountingClient(False)

    async def write() -> None:
        for order in orders:
            await writer.write(usual.complete, order)
        await writer.write(worst.complete, _largest(config, orders))

    asyncio.run(write())
    return _asked(usual, number / len(orders), worst, number)


def _largest(config: Config, orders: Sequence[Order]) -> Order:
    """An order of all levels that the LLM may write."""
    weights = config.synthesis.sources
    sources = orders[0].sources.items()
    by_llm = [level for level, source in sources if (weights.get(str(level)) or {source: 1}).get("llm")]
    order = next((one for one in orders if not one.task or one.task.side == "train"), orders[0])
    return replace(order, sources=dict.fromkeys(by_llm, "llm"))


def _grades(config: Config, orders: Sequence[Order]) -> list[Asked]:
    """What the LLM judges: negatives that it wrote itself, those of the corpus that are in doubt, or all."""
    synthesis, rules = config.synthesis, config.verification
    if not rules.asks_llm:
        return []
    samples = synthesis.llm_samples if config.source.is_tasks else config.source.max_train
    by_llm = min(synthesis.llm_samples, samples)
    trained = 1 - config.source.test_share if config.source.is_tasks else 1.0
    in_all = samples * synthesis.levels
    most = in_all if rules.asks_llm_of_corpus else by_llm * len(_largest(config, orders).levels) if orders else 0
    if not most:
        return []
    written = by_llm * sum(len(order.levels) for order in orders) / len(orders) if orders else 0.0
    mined = in_all * trained - written
    number = ceil(_share_of_written(config) * written + _share_of_corpus(rules) * mined) + _TRIED
    lengths = [len(order.seed.positives[0]) for order in orders if order.seed]
    lengths = lengths or [_CHARS_A_WORD * order.draw.words // 2 for order in orders] or [_chunk_length(config)]
    return _counted_grades(60, sum(lengths) // len(lengths), number, most + _TRIED)


def _counted_grades(query: int, text: int, number: int, most: int) -> list[Asked]:
    """Grades of texts of so many characters."""
    request = grade_request("x" * query, "x" * text, "x" * text, RequestSettings(model="", temperature=0, seed=0))
    usual, worst = CountingClient(), CountingClient(False)
    for client in (usual, worst):
        asyncio.run(_read(client, request))
    return _asked(usual, number, worst, most)


async def _read(client: CountingClient, request: ChatRequest) -> None:
    await ask_for(client.complete, request, Judgement)


def _share_of_corpus(rules: VerificationConfig) -> float:
    """Of texts that no LLM wrote those that come to the LLM."""
    return 1.0 if LLM_JUDGE in rules.scorers else _DOUBTFUL if rules.asks_llm_of_corpus else 0.0


def _share_of_written(config: Config) -> float:
    """Of texts that an LLM wrote; those of the hardest level are all in doubt."""
    rules = config.verification
    if LLM_JUDGE in rules.scorers:
        return 1.0
    return 0.0 if not rules.asks_llm_of_written else 1.0 if config.synthesis.mode == "sibling" else _NEAR


def _chunk_length(config: Config) -> int:
    """Of most chunks, in characters."""
    return round(config.source.chunk_tokens * CHARS_PER_TOKEN * _CHUNK_FILLED)
