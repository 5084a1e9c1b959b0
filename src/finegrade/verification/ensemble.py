"""Several scorers as one: each on the common scale, so that thresholds and a mean mean the same for all."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from itertools import chain
from typing import Any, NamedTuple

from finegrade.config import LEXICAL, VerificationConfig
from finegrade.console import say
from finegrade.models.resolve import model_identity
from finegrade.models.scorers import Judge, Scorer, load_scorer
from finegrade.records import Negative, Sample, ScorerResult
from finegrade.retrieval.bm25 import LexicalScorer
from finegrade.verification.calibration import Calibration, calibrate, try_judge
from finegrade.verification.score_cache import CachedScorer, ScoreCache

Pair = tuple[str, str]


class CalibratedScorer(NamedTuple):
    """A scorer with its name and its scale."""

    name: str
    scorer: Scorer
    scale: Calibration


Ensemble = Sequence[CalibratedScorer]  # one or more, that are asked together


class PairScores:
    """The scores of positives, which are known to answer, and of negatives: each scorer scores each pair of texts once.

    ``advance`` is called with each share of the work that is done.
    """

    def __init__(
        self,
        ensemble: Ensemble,
        samples: Iterable[Sample],
        negatives: Iterable[tuple[Sample, Negative]],
        advance: Callable[[float], None] = lambda share: None,
    ) -> None:
        answers: defaultdict[str, list[str]] = defaultdict(list)
        for sample in samples:
            answers[sample.query].append(sample.positive)
        pairs = [(query, text) for query, texts in answers.items() for text in texts]
        of_siblings = []
        for sample, negative in negatives:
            pairs += [(sample.query, sample.positive), (sample.query, negative.text)]
            of_siblings += [] if negative.sibling is None else [(negative.sibling, negative.text)]
        self._found: list[tuple[CalibratedScorer, dict[Pair, float]]] = []
        for one in ensemble:
            if isinstance(one.scorer, Judge):
                one.scorer.know(answers)
            # a judge knows no answer to a sibling query
            unique = list(dict.fromkeys(pairs if isinstance(one.scorer, Judge) else pairs + of_siblings))
            found: dict[Pair, float] = {}
            for pair, score in zip(unique, one.scorer.scores(unique), strict=True):
                found[pair] = score
                advance(1 / len(unique) / len(ensemble))
            self._found.append((one, found))

    def of_positive(self, sample: Sample) -> dict[str, float]:
        """Scorer -> its score of the positive on the common scale; no judge, which takes positives for answers."""
        pair = sample.query, sample.positive
        return {one.name: one.scale.of(raw[pair]) for one, raw in self._found if not isinstance(one.scorer, Judge)}

    def results(self, sample: Sample, negative: Negative) -> tuple[ScorerResult, ...]:
        """Of each scorer, for a negative."""
        results = []
        for (name, scorer, scale), raw in self._found:
            pair = sample.query, negative.text
            sibling = None if negative.sibling is None else raw.get((negative.sibling, negative.text))
            result = ScorerResult(
                scorer=name,
                positive=scale.of(raw[sample.query, sample.positive]),
                score=scale.of(raw[pair]),
                sibling=None if sibling is None else scale.of(sibling),
                raw=raw[pair],
                reason=scorer.reason(pair) if isinstance(scorer, Judge) else "",
            )
            results.append(result)
        return tuple(results)


class Ensembles:
    """The ensembles that a configuration names; scorers are loaded and calibrated when they are first needed.

    Args:
        config: Names the scorers.
        drawn, seed: Samples that they are calibrated on, and the seed of what is drawn of them.
        own: Name -> a scorer that needs no loading, such as the LLM.
        cache: Where the scores of the others are kept. None: nowhere.
    """

    def __init__(
        self,
        config: VerificationConfig,
        drawn: Sequence[Sample],
        seed: int,
        own: Mapping[str, Scorer],
        cache: ScoreCache | None = None,
    ) -> None:
        self._config, self._drawn, self._seed, self._own, self._cache = config, drawn, seed, own, cache
        self._scorers: dict[str, CalibratedScorer] = {}
        self.first = self._ensemble(config.scorers)  # is asked about all negatives

    def second(self, written: bool) -> Ensemble | None:
        """Is asked where the first is in doubt about LLM-written texts, or others. None where no scorer is named."""
        names = self._config.second_opinion_written if written else self._config.second_opinion
        return self._ensemble(names) if names else None

    @property
    def scales(self) -> dict[str, Any]:
        """Scorer -> its 0, its 1 and the share of pairs that it told apart."""
        return {name: asdict(one.scale) for name, one in self._scorers.items()}

    def _ensemble(self, names: Sequence[str]) -> Ensemble:
        for name in (name for name in names if name not in self._scorers):
            scorer = self._scorer(name)
            of = self._drawn, self._seed, name
            scale = try_judge(scorer, *of) if isinstance(scorer, Judge) else calibrate(scorer, *of)
            say(f"verify: {name} tells positives from random texts in {scale.told_apart:.0%} of {scale.tried} queries")
            self._scorers[name] = CalibratedScorer(name, scorer, scale)
        return [self._scorers[name] for name in names]

    def _scorer(self, name: str) -> Scorer:
        if name in self._own:
            return self._own[name]
        if name == LEXICAL:
            texts = ((one.positive, *(negative.text for negative in one.negatives)) for one in self._drawn)
            return LexicalScorer(chain.from_iterable(texts))
        length = self._config.max_length
        scorer = load_scorer(name, length)
        if self._cache is None:
            return scorer
        return CachedScorer(scorer, f"{model_identity(name)} {length}", self._cache)
