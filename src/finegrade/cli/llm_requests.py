"""What a run asks of the LLM: how many requests of which kind, and their tokens."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from itertools import islice
from math import ceil

from finegrade.config import JUDGED, LLM_JUDGE, Config, VerificationConfig
from finegrade.data.chunking import CHARS_PER_TOKEN
from finegrade.data.pairs import read_pairs
from finegrade.llm.request import ChatRequest, RequestSettings
from finegrade.llm.structured import AGAIN
from finegrade.records import Task
from finegrade.synthesis.levels import flaws
from finegrade.synthesis.prompts.query import query_request
from finegrade.synthesis.prompts.sample import (
    SHORT_WORDS,
    negative_request,
    negatives_request,
    rephrase_request,
    sample_request,
)
from finegrade.synthesis.prompts.sibling import sibling_request
from finegrade.synthesis.prompts.task import GENRES, tasks_request
from finegrade.synthesis.requests import Draw, draw, sources_of
from finegrade.verification.llm_judge import MAX_CHARS, grade_request

TASKS_REPEATED = 1.5
"""Requests for tasks, over what they would be if no task were like another."""

_CHUNK_FILLED = 0.65  # of chunk_tokens: sections end
_QUERY_TOKENS, _TASK_TOKENS, _FLAW_TOKENS, _GRADE_TOKENS = 13, 60, 25, 22  # written; with JSON around them
_TRIED = 2 * JUDGED  # grades of positives and of random texts
_DOUBTFUL, _NEAR = 0.2, 0.75  # of the corpus' negatives, and of those that an LLM wrote for all levels: guesses
_CHARS_A_WORD = 6
_LOOKED_AT = 1_000  # pairs
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


def asked_of_llm(config: Config) -> tuple[Asked, ...]:
    """All that a run asks the LLM, in the order of the stages; a reasoning LLM is taken to think all that it may."""
    asked = (
        *([_queries(config)] if config.source.has_documents else []),
        *([_tasks(config)] if config.source.is_tasks else []),
        *(_samples(config) if config.synthesis.llm_samples else []),
        *_grades(config),
    )
    return _with_thoughts(asked, config)


def asked_of_llm_about(config: Config, negatives: int, characters: float) -> tuple[Asked, ...]:
    """All that the LLM is asked about training data of others.

    Args:
        config: How it is verified.
        negatives: How many there are, beside each positive.
        characters: Of query, positive and negative together, on average.
    """
    rules = config.verification
    if not (rules.asks_llm_of_corpus and negatives):
        return ()
    text = "x" * min(MAX_CHARS, round(characters / 3))
    request = grade_request(text, text, text, _ASKED_WITH)
    number = ceil(negatives * _share_of_corpus(rules)) + _TRIED
    asked = _again("grades", request, number, negatives + _TRIED, _GRADE_TOKENS, 3 * len(text))
    return _with_thoughts([asked], config)


def _with_thoughts(asked: Iterable[Asked], config: Config) -> tuple[Asked, ...]:
    thinking = config.llm.thinking_tokens
    return tuple(replace(one, tokens_out=one.tokens_out + one.requests * thinking) for one in asked)


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
    length = _positive_length(config)
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


def _grades(config: Config) -> list[Asked]:
    """What the LLM judges: negatives that it wrote itself, those of the corpus that are in doubt, or all."""
    synthesis, rules, levels = config.synthesis, config.verification, _llm_levels(config)
    if not rules.asks_llm:
        return []
    samples = synthesis.llm_samples if config.source.is_tasks else config.source.max_train
    by_llm = min(synthesis.llm_samples, samples)
    in_all = samples * synthesis.levels
    most = in_all if rules.asks_llm_of_corpus else by_llm * levels.most
    if not most:
        return []
    written = by_llm * levels.mean
    mined = in_all * _trained_share(config) - written
    number = ceil(_share_of_written(config) * written + _share_of_corpus(rules) * mined) + _TRIED
    length = _positive_length(config)
    request = grade_request("x" * 60, "x" * length, "x" * length, _ASKED_WITH)
    return [_again("grades", request, number, most + _TRIED, _GRADE_TOKENS, 2 * length + 60)]


def _share_of_corpus(rules: VerificationConfig) -> float:
    """Of texts that no LLM wrote those that come to the LLM."""
    return 1.0 if LLM_JUDGE in rules.scorers else _DOUBTFUL if rules.asks_llm_of_corpus else 0.0


def _share_of_written(config: Config) -> float:
    """Of texts that an LLM wrote; those of the hardest level are all in doubt."""
    rules = config.verification
    if LLM_JUDGE in rules.scorers:
        return 1.0
    return 0.0 if not rules.asks_llm_of_written else 1.0 if config.writing_mode == "sibling" else _NEAR


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
    trained = _trained_share(config)
    synthesis = config.resolved.synthesis
    drawn = [list(sources_of(str(i), synthesis, config.seed).values()).count("llm") for i in range(_DRAWN)]
    never = sum(not weights.get("llm") for weights in config.synthesis.sources.values())
    most = 1 if config.writing_mode == "sibling" else config.synthesis.levels - never
    return _LLMLevels(trained * sum(drawn) / _DRAWN, trained * sum(map(bool, drawn)) / _DRAWN, most)


def _trained_share(config: Config) -> float:
    """Of the samples that are written or drawn: what is tested with needs no negatives."""
    return 1 - config.source.test_share if config.source.is_tasks else 1.0


def _typical_draw(config: Config) -> Draw:
    weights = config.draws.text_words
    words = sum(int(name) * weight for name, weight in weights.items()) / sum(weights.values())
    return draw(config.draws, config.seed, "estimate").model_copy(update={"words": round(words)})


def _again(what: str, request: ChatRequest, number: int, most: int, written: int, fresh: float | None = None) -> Asked:
    """Requests that may be made once more each, where the reply cannot be read."""
    if fresh is None:
        fresh = sum(len(message.content) for message in request.messages[1:])
    return _asked(what, request, fresh, number, most * (1 + AGAIN), written)


def _positive_length(config: Config) -> int:
    """Of the positives that the LLM is shown, in characters: of pairs what the first of them have on average."""
    source, longest = config.source, config.synthesis.max_passage_chars
    lengths = [_chunk_length(config)]
    if source.kind == "pairs" and source.path is not None and source.path.is_file():
        lengths = [len(pair.positive) for pair in islice(read_pairs(source.path), _LOOKED_AT)]
    if config.writing_mode == "sibling":
        lengths = [length for length in lengths if length <= longest] or [longest]
    return round(sum(lengths) / len(lengths))


def _chunk_length(config: Config) -> int:
    """Of most chunks, in characters."""
    return round(config.source.chunk_tokens * CHARS_PER_TOKEN * _CHUNK_FILLED)


def _asked(what: str, request: ChatRequest, fresh_chars: float, number: int, most: int, written: int) -> Asked:
    read = round(sum(len(message.content) for message in request.messages) / CHARS_PER_TOKEN)
    fresh = round(fresh_chars / CHARS_PER_TOKEN)
    return Asked(what, number, most, read * number, fresh * number, written * number)
