"""What a sample is to be like: drawn from configured distributions, the same for the same seed and number.

The properties are those that E5-mistral's prompts ask for (Wang et al., ACL 2024) and that the paper takes over (Pan et
al., ACL 2025); here they are drawn, not left to the LLM.
"""

import random
from collections.abc import Mapping
from functools import cache
from importlib import resources
from typing import TypeVar

from finegrade.config import DrawsConfig
from finegrade.records import Record

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
    text = resources.files("finegrade").joinpath("templates", "topics.txt").read_text(encoding="utf-8")
    return tuple(line for line in text.splitlines() if line)
