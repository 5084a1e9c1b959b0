"""What a run will take: requests, tokens, minutes, money. Said before anything is spent."""

from dataclasses import dataclass
from math import ceil

from finegrade.config import Config
from finegrade.drawing import Draw, draw
from finegrade.levels import flaws
from finegrade.llm.budget import cost
from finegrade.llm.request import ChatRequest, RequestSettings
from finegrade.llm.structured import AGAIN
from finegrade.orders import sources_of
from finegrade.prompts import sibling_request
from finegrade.query_prompts import query_request
from finegrade.records import Task
from finegrade.rows import TRAINED_ROWS
from finegrade.sample_prompts import (
    SHORT_WORDS,
    negative_request,
    negatives_request,
    rephrase_request,
    sample_request,
)
from finegrade.sources.tokens import CHARS_PER_TOKEN
from finegrade.task_prompts import GENRES, tasks_request

# On two cores of a server (LOG.md); other machines differ, so minutes are an estimate and called one.
READ_PER_SECOND, WRITTEN_PER_SECOND = 45.0, 24.0  # tokens, by the embedded LLM
REQUEST_SECONDS, START_SECONDS = 0.7, 15.0  # of the embedded LLM, besides reading and writing
TRAINED_PER_SECOND, EMBEDDED_PER_SECOND = 34.0, 86.0  # texts of 80 tokens
SCORED_PER_SECOND = 85.0  # pairs, by the cross-encoder
STS_SECONDS = 12.0  # a row
BATCH_SECONDS = 3_600.0  # a guess: servers promise no more than a day, for few requests as for many
_TOKENS_OF_REFERENCE = 80

QUERIES_KEPT = 2.2
"""Of three that are written for a chunk."""

TASKS_REPEATED = 1.5
"""Requests for tasks, over what they would be if no task were like another."""

_CHUNK_FILLED = 0.65  # of chunk_tokens: sections end
_QUERY_TOKENS, _TASK_TOKENS, _FLAW_TOKENS = 13, 60, 25  # written; with JSON around them
_CHARS_A_WORD = 6
_DRAWN = 100  # samples, to see how many levels of one the LLM writes
_ASKED_WITH = RequestSettings(model="", temperature=0, seed=0)


@dataclass(frozen=True)
class Asked:
    """Requests of one kind.

    Attributes:
        what: For people.
        requests: How many there will be, as far as can be told.
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


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        asked: Of the LLM.
        minutes: By stage, on two cores.
        cost: In the currency of the prices; None without prices.
    """

    asked: tuple[Asked, ...]
    minutes: dict[str, float]
    cost: float | None

    @property
    def requests(self) -> int:
        """All requests to the LLM."""
        return sum(asked.requests for asked in self.asked)

    @property
    def most_requests(self) -> int:
        """Never more than so many."""
        return sum(asked.most for asked in self.asked)

    @property
    def tokens(self) -> int:
        """All tokens, read and written."""
        return sum(asked.tokens_in + asked.tokens_out for asked in self.asked)


def estimate(config: Config, queries: int | None = None, chunks: int | None = None) -> Estimate:
    """Estimates a run.

    Args:
        config: Of the run.
        queries: Queries to train and test with; None: what the configuration allows at most, or the LLM will write.
        chunks: Texts to search; None: as many as the configuration allows.
    """
    asked = []
    if config.source.has_documents:
        asked.append(_queries(config))
        queries = queries or round(config.queries.chunks * QUERIES_KEPT * len(config.queries.styles) / 3)
        chunks = min(chunks or config.source.max_chunks, config.source.max_chunks)
    if config.source.is_tasks:
        asked.append(_tasks(config))
        queries = queries or config.synthesis.llm_samples
    if config.synthesis.llm_samples:
        asked += _samples(config)
    queries = queries or config.source.max_train
    train = min(round(queries * (1 - config.source.test_share)), config.source.max_train)
    test = min(queries - train, config.source.max_test)
    minutes = {a.what: _llm_seconds(a, config) / 60 for a in asked}
    minutes |= {name: s / 60 for name, s in _model_seconds(config, train, test, chunks or queries).items()}
    money = cost(config.llm, sum(a.tokens_in for a in asked), sum(a.tokens_out for a in asked))
    return Estimate(tuple(asked), minutes, money if money or config.llm.is_remote else 0.0)


def _queries(config: Config) -> Asked:
    length = _chunk_length(config)
    request = query_request("x" * length, config.queries.styles, _ASKED_WITH)
    number = config.queries.chunks
    return _asked("queries", request, length, number, number, _QUERY_TOKENS * len(config.queries.styles))


def _tasks(config: Config) -> Asked:
    settings = config.tasks
    request = tasks_request("short-long", settings.per_request, settings.domain, GENRES[:3], _ASKED_WITH)
    kinds = sum(weight > 0 for weight in settings.kinds.values())
    wanted = max(kinds, ceil(settings.number / settings.per_request * TASKS_REPEATED))
    number = min(wanted, settings.max_requests)
    most = settings.max_requests * (1 + AGAIN)
    fresh = sum(len(message.content) for message in request.messages[1:])
    return _asked("tasks", request, fresh, number, most, _TASK_TOKENS * settings.per_request)


def _samples(config: Config) -> list[Asked]:
    """What is asked for one sample, times the samples."""
    settings, number, mode = config.synthesis, config.synthesis.llm_samples, config.writing_mode
    length = min(settings.max_passage_chars, _chunk_length(config))
    drawn = _typical_draw(config)
    if config.source.is_tasks:
        length = round(_CHARS_A_WORD * (drawn.words + SHORT_WORDS) / 2)  # of five kinds two have long texts, two short
    text, told, levels = length / CHARS_PER_TOKEN, flaws(settings.levels), _llm_levels(config)
    per_negative = round(text + _FLAW_TOKENS)
    found = []
    if config.source.is_tasks:
        task = Task(id="", kind="short-long", description="x" * 150, instruction="", side="train")
        request = sample_request(task, drawn, told if mode == "one-call" else {}, _ASKED_WITH)
        written = round(text + _QUERY_TOKENS + (levels.mean * per_negative if mode == "one-call" else 0))
        found.append(_again("samples", request, number, number, written))
    elif mode == "one-call":
        request = negatives_request("x" * 60, "x" * length, drawn, told, _ASKED_WITH)
        written = round(levels.mean / levels.share * per_negative) if levels.share else 0
        found.append(_again("samples", request, round(number * levels.share), number, written))
    if mode == "stepwise":
        level = settings.levels
        request = negative_request("x" * 60, "x" * length, drawn, level, told[level], _ASKED_WITH)
        found.append(_again("negatives", request, round(number * levels.mean), number * levels.most, per_negative))
    if mode == "sibling":
        request = sibling_request("x" * 60, "x" * length, "x" * 60, _ASKED_WITH)
        found.append(_asked("rewrites", request, length + 120, round(number * levels.share), number, round(text) + 8))
    if settings.style_guard:
        found.append(_again("style guard", rephrase_request("x" * length, _ASKED_WITH), number, number, round(text)))
    return found


@dataclass(frozen=True)
class _LLMLevels:
    """Of a sample's levels those that the LLM writes.

    Attributes:
        mean: How many they are.
        share: Of the samples that have any.
        most: Never more than so many.
    """

    mean: float
    share: float
    most: int


def _llm_levels(config: Config) -> _LLMLevels:
    trained = 1 - config.source.test_share if config.source.is_tasks else 1.0  # what is tested with needs no negatives
    drawn = [list(sources_of(str(i), config).values()).count("llm") for i in range(_DRAWN)]
    never = sum(not weights.get("llm") for weights in config.synthesis.sources.values())
    most = 1 if config.writing_mode == "sibling" else config.synthesis.levels - never
    return _LLMLevels(trained * sum(drawn) / _DRAWN, trained * sum(map(bool, drawn)) / _DRAWN, most)


def _typical_draw(config: Config) -> Draw:
    weights = config.draws.text_words
    words = sum(int(name) * weight for name, weight in weights.items()) / sum(weights.values())
    return draw(config.draws, config.seed, "estimate").model_copy(update={"words": round(words)})


def _again(what: str, request: ChatRequest, number: int, most: int, written: int) -> Asked:
    """Requests that may be made once more each, where the reply cannot be read."""
    fresh = sum(len(message.content) for message in request.messages[1:])
    return _asked(what, request, fresh, number, most * (1 + AGAIN), written)


def _chunk_length(config: Config) -> int:
    """Of most chunks, in characters."""
    return round(config.source.chunk_tokens * CHARS_PER_TOKEN * _CHUNK_FILLED)


def _asked(what: str, request: ChatRequest, fresh_chars: int, number: int, most: int, written: int) -> Asked:
    read = round(sum(len(message.content) for message in request.messages) / CHARS_PER_TOKEN)
    fresh = round(fresh_chars / CHARS_PER_TOKEN)
    return Asked(what, number, most, read * number, fresh * number, written * number)


def _llm_seconds(asked: Asked, config: Config) -> float:
    if config.llm.batch:
        return BATCH_SECONDS
    if config.llm.base_url:
        return asked.requests * 5.0 / config.llm.concurrency  # a guess: servers differ by far more
    read, written = asked.tokens_fresh / READ_PER_SECOND, asked.tokens_out / WRITTEN_PER_SECOND
    return START_SECONDS + asked.requests * REQUEST_SECONDS + read + written


def _model_seconds(config: Config, train: int, test: int, chunks: int) -> dict[str, float]:
    training = config.training
    longer = training.max_length / _TOKENS_OF_REFERENCE
    texts = {"none": 2, "graded": 3, "mined": 3}
    rows = [row for row in TRAINED_ROWS if training.controls or not row.is_control]
    read = sum(training.steps * training.batch_size * texts[row.negatives] for row in rows)
    embedded = (len(rows) + 1) * (chunks + test) * longer / EMBEDDED_PER_SECOND
    sts = STS_SECONDS * (len(rows) + 1) if config.evaluation.sts else 0.0
    found_again = {"queries found again": chunks * longer / EMBEDDED_PER_SECOND} if config.source.has_documents else {}
    return found_again | {
        "verify": 5 * train / SCORED_PER_SECOND,
        "train": read * longer / TRAINED_PER_SECOND,
        "evaluate": embedded + sts,
    }


def told_estimate(config: Config) -> str:
    """The estimate for people."""
    found = estimate(config)
    lines = [
        f"{a.what}: {a.requests:,} requests{_at_most(a)}, {a.tokens_in:,} tokens in, {a.tokens_out:,} out"
        for a in found.asked
    ]
    lines.append(f"LLM: {config.llm.host or 'embedded, on this machine'}; {told_money(found.cost)}")
    lines += [f"{name}: {minutes:.1f} minutes" for name, minutes in found.minutes.items()]
    lines.append(f"in all: about {sum(found.minutes.values()):.0f} minutes on two cores without a GPU")
    return "\n".join(lines)


def _at_most(asked: Asked) -> str:
    return f" (at most {asked.most:,})" if asked.most > asked.requests else ""


def told_money(money: float | None) -> str:
    """A cost for people."""
    if money is None:
        return "cost unknown: name llm.price_in and llm.price_out"
    return f"about {money:.2f} by the prices you named" if money else "no cost"
