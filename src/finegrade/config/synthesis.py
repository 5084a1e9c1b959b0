"""The sections of finegrade.toml about LLM-written text: tasks, draws, negatives."""

import re
from math import isfinite
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from finegrade.config.base import Section
from finegrade.records import KINDS, Source


def _can_be_drawn_from(weights: dict[str, float]) -> dict[str, float]:
    total = sum(weights.values())
    if any(weight < 0 for weight in weights.values()) or not total > 0 or not isfinite(total):
        raise ValueError("needs at least one name with a weight above 0, none below, and a sum that is a number")
    return weights


Weights = Annotated[dict[str, float], AfterValidator(_can_be_drawn_from)]
"""Name -> how often it is drawn; the weights need not add up to 1."""

MIN_LEVELS, MAX_LEVELS = 2, 8

MAX_TEXT_WORDS = 1_000
"""Twice the paper's longest; the filters and the limits of replies allow as much."""

_EQUAL = 1.0


def _evenly(*names: str) -> dict[str, float]:
    return dict.fromkeys(names, _EQUAL)


class TasksConfig(Section):
    """The embedding tasks that the LLM thinks up."""

    domain: str = ""
    """The subject of the tasks, in a sentence or two. Empty: the open domain."""
    number: int = Field(100, ge=2, le=1_000_000)
    """How many, over all kinds: one to train on and one to test with, at least."""
    kinds: Weights = _evenly(*KINDS)
    """short-long, long-short, short-short, long-long (query and text), sts: how many of each."""
    per_request: int = Field(10, ge=1, le=50)
    """How many the LLM is asked for at once."""
    max_requests: int = Field(200, ge=1)
    """Hard cap on the requests to the LLM, which repeats itself; repeated tasks do not count. An unreadable reply is
    asked for once more, beyond the cap."""
    temperature: float = Field(1.0, ge=0, le=2)

    @model_validator(mode="after")
    def _known_kinds(self) -> "TasksConfig":
        if unknown := set(self.kinds) - set(KINDS):
            raise ValueError(f"tasks.kinds: {', '.join(sorted(unknown))}; there are {', '.join(KINDS)}")
        return self


class DrawsConfig(Section):
    """Attributes of samples: for each, its values and their weights."""

    languages: Weights = _evenly("en")
    """ISO 639-1 codes: en, de, ..."""
    query_types: Weights = _evenly("common", "long-tail", "extremely long-tail")
    query_lengths: Weights = _evenly("less than 5 words", "5 to 15 words", "at least 10 words")
    clarities: Weights = _evenly("clear", "understandable with some effort", "ambiguous")
    difficulties: Weights = _evenly("high school", "college", "PhD")
    text_words: Weights = _evenly("50", "100", "200", "300", "400", "500")
    """Words of a long text."""

    @model_validator(mode="after")
    def _lengths_and_languages(self) -> "DrawsConfig":
        for words in self.text_words:
            if not (words.isdecimal() and len(words) < 9 and 1 <= int(words) <= MAX_TEXT_WORDS):
                raise ValueError(f'draws.text_words: "{words}" is no number of words from 1 to {MAX_TEXT_WORDS}')
        for language in self.languages:
            if not re.fullmatch("[a-z]{2}", language):
                raise ValueError(f'draws.languages: "{language}" is no ISO 639-1 code such as en, de, zh')
        return self


Mode = Literal["one-call", "stepwise", "sibling"]


class SynthesisConfig(Section):
    """How negatives are written and mined."""

    mode: Literal["auto", "one-call", "stepwise", "sibling"] = "auto"
    """one-call: all levels in one reply, for capable LLMs. stepwise: a request for each level, for small ones. sibling:
    only the hardest level, the positive rewritten for a real query nearby. auto: one-call where the LLM is a server's
    and its name does not say that it is small; else sibling, and for tasks stepwise."""
    levels: int = Field(4, ge=MIN_LEVELS, le=MAX_LEVELS)
    """Levels of similarity; the highest is the hardest (the paper's N1)."""
    sources: dict[str, dict[Source, float]] = {}
    """Level -> weights of llm, mined, random: where its negatives come from. Default: llm for all levels; in mode
    sibling llm for the hardest, random for level 1, and mined for those between."""
    miner: Literal["bm25", "dense", "both"] = "bm25"
    """The index that negatives are mined from. bm25: words. dense: the vectors of a bi-encoder, which embeds the corpus
    first (hours for a million texts). both: their fused ranking."""
    miner_model: str = "bge-small-en"
    """The bi-encoder of dense and both. The default reads English."""
    llm_samples: int = Field(100, ge=0, le=1_000_000_000)
    """For how many samples the LLM writes. Texts that the filters reject are not replaced."""
    temperature: float | None = Field(None, ge=0, le=2)
    """None: 0.2 where a text is rewritten for a sibling, else 1."""
    style_guard: bool = False
    """The LLM also rephrases the positives of pairs and documents, so that style does not give the negatives away."""
    max_passage_chars: int = Field(600, ge=120)
    """Longer positives are not rewritten (mode sibling): the time an LLM takes grows with them."""
    min_changed: int = Field(2, ge=1)
    """A negative is a near-copy if fewer meaningful words than this differ from the positive (removed and new)."""
    engine: Literal["plain", "ray"] = "plain"
    """ray: the LLM is asked from all machines of a Ray cluster (docs/scaling.md). The samples are the same."""
    shard_rows: int = Field(1_000, ge=1, le=100_000)
    """Samples in a file. A kill costs at most the work on one file, never a reply."""

    @model_validator(mode="after")
    def _sources_are_of_levels(self) -> "SynthesisConfig":
        for level, weights in self.sources.items():
            if level not in map(str, range(1, self.levels + 1)):
                raise ValueError(f'synthesis.sources: "{level}" is no level from 1 to {self.levels}')
            _can_be_drawn_from({str(source): weight for source, weight in weights.items()})
        return self
