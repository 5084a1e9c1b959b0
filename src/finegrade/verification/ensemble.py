"""Several scorers as one: each on the common scale, so that thresholds and a mean mean the same for all."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from typing import Any, NamedTuple

from finegrade.config import LEXICAL, LLM_JUDGE, VerificationConfig
from finegrade.console import say
from finegrade.models.resolve import model_identity
from finegrade.models.scorers import Judge, Scorer, load_scorer
from finegrade.records import Opinion, Sample
from finegrade.retrieval.bm25 import LexicalScorer
from finegrade.verification.calibration import Calibration, calibrate, try_judge
from finegrade.verification.score_cache import ScoreBook

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


class Panel:
    """The committees of a run.

    Args:
        config: Names the scorers.
        drawn: Samples of the run that they are calibrated on.
        book: Where scores are kept.
        judge: Makes the scorer that the LLM is.
        seed: Of calibration.

    Attributes:
        first: Is asked about all.

    Raises:
        InputError: A scorer cannot be had, or does not tell positives from random texts.
    """

    def __init__(
        self,
        config: VerificationConfig,
        drawn: Sequence[Sample],
        book: ScoreBook,
        judge: Callable[[], Scorer],
        seed: int,
    ) -> None:
        self._config, self._drawn, self._book, self._judge, self._seed = config, drawn, book, judge, seed
        self._members: dict[str, Member] = {}
        self.first = self._committee(config.scorers)

    def second(self, written: bool) -> Committee | None:
        """Is asked where the first is in doubt; loaded when that comes up. None where nobody is named.

        Args:
            written: About texts that an LLM wrote, or about others.
        """
        names = self._config.second_opinion_written if written else self._config.second_opinion
        return self._committee(names) if names else None

    @property
    def scales(self) -> dict[str, Any]:
        """0, 1 and the share of pairs told apart, of each scorer."""
        return {name: asdict(member.scale) for name, member in self._members.items()}

    def _committee(self, names: Sequence[str]) -> Committee:
        for name in names:
            if name not in self._members:
                self._members[name] = self._member(name)
        return Committee([self._members[name] for name in names])

    def _member(self, name: str) -> Member:
        scorer = self._scorer(name)
        told = self._drawn, self._seed, name
        scale = try_judge(scorer, *told) if isinstance(scorer, Judge) else calibrate(scorer, *told)
        say(f"verify: {name} tells positives from random texts in {scale.told_apart:.0%} of {scale.tried} queries")
        return Member(name, scorer, scale)

    def _scorer(self, name: str) -> Scorer:
        if name == LLM_JUDGE:
            return self._judge()
        if name == LEXICAL:
            texts = ((one.positive, *(negative.text for negative in one.negatives)) for one in self._drawn)
            return LexicalScorer(chain.from_iterable(texts))
        length = self._config.max_length
        return self._book.keeping(load_scorer(name, length), f"{model_identity(name)} {length}")
