"""What makes a negative of each level wrong: the ladder from nearly the answer down to another subject.

The paper asks for one negative of high, two of medium and one of low similarity (Pan et al., ACL 2025, section 3.1) and
leaves it to the LLM what that means. Here each level has a flaw of its own, so that "harder" is something that can be
written, and checked.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Flaw:
    """Why a text does not answer a query."""

    name: str
    description: str


LADDER = (
    Flaw(
        "another field",
        "is about a subject of another field, the one given as `other subject`; it has the positive's kind, tone and "
        "length, and nothing else in common with it",
    ),
    Flaw(
        "same field",
        "is from the query's broad field, but about a topic that has nothing to do with what is asked",
    ),
    Flaw(
        "same words",
        "uses several of the query's important words in another sense or setting, and is about something else",
    ),
    Flaw(
        "background only",
        "gives background to the query's subject (history, purpose, terms), leads up to the question and never "
        "reaches the answer",
    ),
    Flaw(
        "sibling subject",
        "answers the same question about a sibling of the subject: a neighbour of the same category that is easily "
        "taken for it; the subject itself is not treated",
    ),
    Flaw(
        "other circumstances",
        "answers the question for circumstances that are not the query's (another version, place, time, group, unit "
        "or condition) and names them",
    ),
    Flaw(
        "other aspect",
        "treats the very subject of the query in detail, but another aspect of it, and holds nothing of what is asked",
    ),
    Flaw(
        "decisive fact",
        "keeps the positive's subject, wording and structure, but the one fact that the query turns on (a name, value, "
        "direction, order or condition) is a different one, so that the text answers another question or misleads; a "
        "paraphrase of the positive would be a mistake",
    ),
)
"""Easiest first."""

_CHOSEN = {
    2: (0, 7),
    3: (0, 4, 7),
    4: (0, 2, 4, 7),
    5: (0, 2, 4, 6, 7),
    6: (0, 2, 3, 4, 6, 7),
    7: (0, 2, 3, 4, 5, 6, 7),
}


def flaws(levels: int) -> dict[int, Flaw]:
    """Level -> what is wrong with its texts; level 1 is the easiest."""
    chosen = _CHOSEN.get(levels, range(levels))
    return {level: LADDER[rung] for level, rung in enumerate(chosen, start=1)}
