"""Who judges: the scorers that the configuration names, loaded, on one scale, with a book of their scores."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from functools import cached_property
from itertools import chain
from typing import Any

from finegrade.calibration import calibrate
from finegrade.committee import Committee, Member
from finegrade.config import JUDGED, LEXICAL, LLM_JUDGE, VerificationConfig
from finegrade.console import say
from finegrade.fetching import model_identity
from finegrade.lexical_scorer import LexicalScorer
from finegrade.records import Sample
from finegrade.score_book import ScoreBook
from finegrade.scoring import Judge, Scorer, load_scorer


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

    @cached_property
    def second(self) -> Committee:
        """Is asked where the first is in doubt; loaded when that comes up."""
        return self._committee(self._config.second_opinion)

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
        drawn = self._drawn[:JUDGED] if name == LLM_JUDGE else self._drawn
        scorer = self._scorer(name)
        if isinstance(scorer, Judge):
            scorer.know({sample.query: (sample.positive,) for sample in drawn})
        scale = calibrate(drawn, scorer, self._seed, name)
        say(f"verify: {name} tells positives from random texts in {scale.told_apart:.0%} of {len(drawn)} queries")
        return Member(name, scorer, scale)

    def _scorer(self, name: str) -> Scorer:
        if name == LLM_JUDGE:
            return self._judge()
        if name == LEXICAL:
            texts = ((one.positive, *(negative.text for negative in one.negatives)) for one in self._drawn)
            return LexicalScorer(chain.from_iterable(texts))
        length = self._config.max_length
        return self._book.keeping(load_scorer(name, length), f"{model_identity(name)} {length}")
