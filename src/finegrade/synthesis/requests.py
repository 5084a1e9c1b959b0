"""What the LLM is to write, one order a sample: the same configuration gives the same orders, in the same order."""

import random
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import TypeVar

from finegrade.config import DrawsConfig, SynthesisConfig
from finegrade.records import Record, Seed, Source, Task
from finegrade.text import content_hash, content_words

Name = TypeVar("Name", bound=str)


class Draw(Record):
    """What one sample is to be like.

    Args:
        language: ISO 639-1 code of all its texts.
        query_type: How often such a query is typed.
        query_length: Of a short query.
        clarity: Of the query.
        difficulty: What education the texts ask for.
        words: About so many in a long text.
        topic: What the easiest negative is about.
    """

    language: str
    query_type: str
    query_length: str
    clarity: str
    difficulty: str
    words: int
    topic: str


def draw(config: DrawsConfig, seed: int, *of: object) -> Draw:
    """Draws a sample's properties.

    Args:
        config: The distributions.
        seed: Of the run.
        of: What the sample is made from: the same gives the same, whatever else is drawn.
    """
    dice = random.Random(f"{seed}/{'/'.join(map(str, of))}")
    return Draw(
        language=chosen(config.languages, dice),
        query_type=chosen(config.query_types, dice),
        query_length=chosen(config.query_lengths, dice),
        clarity=chosen(config.clarities, dice),
        difficulty=chosen(config.difficulties, dice),
        words=int(chosen(config.text_words, dice)),
        topic=dice.choice(topics()),
    )


def chosen(weights: Mapping[Name, float], dice: random.Random) -> Name:
    """One of the names, as often as its weight says, in whatever order they come."""
    names = sorted(weights)
    return dice.choices(names, [weights[name] for name in names])[0]


@cache
def topics() -> tuple[str, ...]:
    """A fixed, wide list: asked for something else, an LLM comes up with the same few subjects again and again."""
    text = resources.files("finegrade.synthesis").joinpath("topics.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line)


@dataclass(frozen=True)
class Order:
    """One sample that the LLM writes, or writes negatives for.

    Attributes:
        id: Names it, whatever else is ordered.
        draw: What it is to be like.
        sources: Level -> where its negative comes from.
        task: That it is an example of; None where there is a seed.
        seed: Whose query and first positive it has; None where there is a task.
        sibling: The real query that the positive is rewritten for; empty in other modes than sibling.
        turn: How many orders its task had before: two of equal draws are not to be one sample twice.
    """

    id: str
    draw: Draw
    sources: Mapping[int, Source]
    task: Task | None = None
    seed: Seed | None = None
    sibling: str = ""
    turn: int = 0

    @property
    def levels(self) -> tuple[int, ...]:
        """What the LLM writes, hardest first; nothing for what is tested with."""
        if self.task is not None and self.task.side == "test":
            return ()
        return tuple(sorted((level for level, source in self.sources.items() if source == "llm"), reverse=True))


def orders_for_tasks(
    tasks: Sequence[Task], synthesis: SynthesisConfig, draws: DrawsConfig, seed: int
) -> Iterator[Order]:
    """``llm_samples`` orders, dealt out evenly over the tasks."""
    shuffled = random.Random(seed).sample(list(tasks), len(tasks))
    for number in range(synthesis.llm_samples):
        turn, index = divmod(number, len(shuffled))
        task = shuffled[index]
        order_id = content_hash(task.id, str(turn))
        drawn = draw(draws, seed, task.id, turn)
        yield Order(order_id, drawn, sources_of(order_id, synthesis, seed), task=task, turn=turn)


def orders_for_seeds(
    seeds: Sequence[Seed], synthesis: SynthesisConfig, draws: DrawsConfig, seed: int, within_groups: bool = True
) -> list[Order]:
    """Orders for ``llm_samples`` seeds with a query: drawn ones, or in mode sibling those with most to change.

    Args:
        seeds: All of them.
        synthesis: With a mode other than auto.
        draws: What samples are like.
        seed: Of the draws.
        within_groups: Whether a sibling query must be of the same group: a document is too small for that.
    """
    asked: list[tuple[Seed, str]]
    if synthesis.mode == "sibling":
        asked = find_siblings(seeds, synthesis.max_passage_chars, seed, within_groups)
    else:
        with_query = [one for one in seeds if one.query]
        asked = [(one, "") for one in random.Random(seed).sample(with_query, len(with_query))]
    orders = []
    for one, sibling in asked[: synthesis.llm_samples]:
        order_id = content_hash(one.query, one.positives[0])
        drawn = draw(draws, seed, one.id)
        orders.append(Order(order_id, drawn, sources_of(order_id, synthesis, seed), seed=one, sibling=sibling))
    return orders


def sources_of(order_id: str, synthesis: SynthesisConfig, seed: int) -> dict[int, Source]:
    """Level -> where its negative comes from, drawn by the configured weights."""
    return {level: _source(level, order_id, synthesis, seed) for level in range(1, synthesis.levels + 1)}


def _source(level: int, order_id: str, synthesis: SynthesisConfig, seed: int) -> Source:
    weights: Mapping[Source, float] = synthesis.sources.get(str(level), {})
    if weights:  # dice of its own: a level whose weights change leaves the others as they are
        return chosen(weights, random.Random(f"{seed}/sources/{order_id}/{level}"))
    if synthesis.mode != "sibling" or level == synthesis.levels:
        return "llm"
    return "random" if level == 1 else "mined"


MIN_JACCARD, MAX_JACCARD, MIN_DIFFERENT = 0.25, 0.8, 2
"""Of content words. Nearer ones are the same question in other words, farther ones another topic."""


def to_change(query: str, positive: str, sibling: str) -> frozenset[str]:
    """Words of a positive that belong to its query and not to the sibling: what a rewritten text must not say."""
    return (content_words(query) & content_words(positive)) - content_words(sibling)


class Siblings:
    """Finds the nearest sibling of a seed's query.

    Args:
        seeds: The training seeds; those without a query are passed over.
        within_groups: Whether a sibling must be of the same group. Seeds that are alone in theirs look among each
            other.
    """

    def __init__(self, seeds: Sequence[Seed], within_groups: bool = True) -> None:
        seeds = [seed for seed in seeds if seed.query]
        sizes = Counter(seed.group for seed in seeds)
        self._pool = {seed.id: seed.group if within_groups and sizes[seed.group] > 1 else "" for seed in seeds}
        self._positives = {seed.id: frozenset(seed.positives) for seed in seeds}
        self._words = {seed.id: content_words(seed.query) for seed in seeds}
        self._queries = {seed.id: seed.query for seed in seeds}
        self._places: defaultdict[tuple[str, str], list[str]] = defaultdict(list)
        for seed in seeds:
            for word in self._words[seed.id]:
                self._places[self._pool[seed.id], word].append(seed.id)

    def nearest(self, seed: Seed) -> str | None:
        """The query of highest Jaccard within bounds that another text answers; None where there is none."""
        own = self._words[seed.id]
        shared = Counter(other for word in own for other in self._places[self._pool[seed.id], word])
        del shared[seed.id]
        best = (0.0, "")
        for other, both in shared.items():
            union = len(own) + len(self._words[other]) - both
            near = both / union
            if self._positives[other] & self._positives[seed.id]:
                continue
            if MIN_JACCARD <= near <= MAX_JACCARD and union - both >= MIN_DIFFERENT:
                best = max(best, (near, self._queries[other]))
        return best[1] or None


def find_siblings(
    seeds: Sequence[Seed], max_chars: int, seed: int, within_groups: bool = True
) -> list[tuple[Seed, str]]:
    """Seeds worth rewriting, each with the real query that the text shall answer, in the order to ask for them.

    The positive must hold words that belong to the query and not to the sibling: else there is
    nothing in it to change, and a small model copies. Those that hold most come first.
    """
    seeds = [seed for seed in seeds if seed.query]
    siblings = Siblings(seeds, within_groups)
    order = random.Random(seed).sample(list(seeds), len(seeds))
    found = []
    for one in order:
        positive = one.positives[0]
        sibling = siblings.nearest(one) if len(positive) <= max_chars else None
        if sibling is not None:
            words = to_change(one.query, positive, sibling)
            if words:
                found.append((len(words), one, sibling))
    found.sort(key=lambda entry: -entry[0])
    return [(one, sibling) for _, one, sibling in found]
