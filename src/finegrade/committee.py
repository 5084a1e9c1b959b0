"""Several scorers as one: each on the common scale, so that thresholds and a mean mean the same for all."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from finegrade.calibration import Calibration
from finegrade.models.scorers import Judge, Scorer
from finegrade.records import Opinion, Sample

Pair = tuple[str, str]


class Asked(NamedTuple):
    """A negative that the committee is asked about."""

    query: str
    positive: str
    text: str
    sibling: str | None

    @property
    def pairs(self) -> list[Pair]:
        """What is scored."""
        return [(self.query, self.positive), (self.query, self.text)]

    @property
    def sibling_pairs(self) -> list[Pair]:
        """What is scored beside, but not by a judge: it knows no answer to the sibling query."""
        return [] if self.sibling is None else [(self.sibling, self.text)]


@dataclass(frozen=True)
class Member:
    """A scorer with its scale."""

    name: str
    scorer: Scorer
    scale: Calibration


class Scored:
    """What each member of a committee gave each of some pairs.

    Args:
        members: The committee.
        raw: Of each member, the score of each pair as it gave it.
    """

    def __init__(self, members: Sequence[Member], raw: Sequence[Mapping[Pair, float]]) -> None:
        self._members, self._raw = members, raw

    def of_positive(self, sample: Sample) -> dict[str, float]:
        """Who gave the positive what, on the common scale; no judge: they take positives as given."""
        told = zip(self._members, self._raw, strict=True)
        pair = sample.query, sample.positive
        return {one.name: one.scale.of(raw[pair]) for one, raw in told if not isinstance(one.scorer, Judge)}

    def opinions(self, asked: Asked) -> tuple[Opinion, ...]:
        """What each member says of a negative."""
        return tuple(_opinion(*one, asked) for one in zip(self._members, self._raw, strict=True))


def _opinion(member: Member, raw: Mapping[Pair, float], asked: Asked) -> Opinion:
    scorer, of, pair = member.scorer, member.scale.of, (asked.query, asked.text)
    siblings = [of(raw[pair]) for pair in asked.sibling_pairs if pair in raw]
    return Opinion(
        scorer=member.name,
        positive=of(raw[asked.query, asked.positive]),
        score=of(raw[pair]),
        sibling=siblings[0] if siblings else None,
        raw=raw[pair],
        reason=scorer.reason(pair) if isinstance(scorer, Judge) else "",
    )


class Committee:
    """Scorers that are asked together.

    Args:
        members: At least one.
    """

    def __init__(self, members: Sequence[Member]) -> None:
        self._members = tuple(members)

    def score(self, samples: Iterable[Sample], asked: Iterable[Asked], advance: Callable[[float], None]) -> Scored:
        """Has each member score each pair, once.

        Args:
            samples: Their positives are scored, and known to answer.
            asked: Negatives.
            advance: Told of each piece of the work that is done, as a share of all.
        """
        answers: defaultdict[str, list[str]] = defaultdict(list)
        for sample in samples:
            answers[sample.query].append(sample.positive)
        negatives = list(asked)
        pairs = [(query, text) for query, texts in answers.items() for text in texts]
        pairs += [pair for one in negatives for pair in one.pairs]
        of_siblings = [pair for one in negatives for pair in one.sibling_pairs]
        raw = []
        for member in self._members:
            if isinstance(member.scorer, Judge):
                member.scorer.know(answers)
            unique = list(dict.fromkeys(pairs if isinstance(member.scorer, Judge) else pairs + of_siblings))
            found = {}
            for pair, score in zip(unique, member.scorer.scores(unique), strict=True):
                found[pair] = score
                advance(1 / len(unique) / len(self._members))
            raw.append(found)
        return Scored(self._members, raw)
