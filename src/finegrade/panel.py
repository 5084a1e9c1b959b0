"""Who judges: the scorers that the configuration names, loaded, on one scale, with a book of their scores."""

from collections.abc import Callable, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any

from finegrade.calibration import calibrate, try_judge
from finegrade.committee import Committee, Member
from finegrade.config import LEXICAL, LLM_JUDGE, VerificationConfig
from finegrade.console import say
from finegrade.models.resolve import model_identity
from finegrade.models.scorers import Judge, Scorer, load_scorer
from finegrade.records import Sample
from finegrade.retrieval.bm25 import LexicalScorer
from finegrade.score_book import ScoreBook


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
