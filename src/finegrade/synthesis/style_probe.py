"""Can a linear model tell who wrote a negative? Where it can, a trained model may learn the writer, not the relevance.

(SyNeg, and METHOD.md's style shortcut: what only the LLM writes gives itself away.) Texts are bags of character n-grams
and words; the score is the area under the ROC curve over held-out samples: 0.5 is no better than tossing a coin.
"""

from collections.abc import Iterable, Sequence

from finegrade.records import Sample

TEXTS, FEWEST = 400, 20
"""Of each kind at most, and at least for a number to mean anything."""

_FOLDS, _LOOKED_AT = 5, 20_000


def probe(samples: Iterable[Sample], seed: int) -> dict[str, float | None]:
    """How well a linear model tells texts of the LLM from others.

    Returns:
        "llm or corpus negative" and "llm negative or positive" -> area under the ROC curve, or None with too few texts.
        Of tasks the first is None: there the LLM wrote the corpus, too.
    """
    written: list[tuple[str, str]] = []
    corpus: list[tuple[str, str]] = []
    positives: list[tuple[str, str]] = []
    seen: set[str] = set()
    for number, sample in enumerate(samples):
        if number == _LOOKED_AT or min(len(written), len(corpus)) >= TEXTS:
            break
        for negative in sample.negatives:
            if negative.source == "llm":
                _take(written, sample.id, negative.text)
            elif not sample.kind and negative.text not in seen and len(corpus) < TEXTS:  # of tasks it is the LLM's, too
                seen.add(negative.text)
                corpus.append((sample.id, negative.text))
        if any(negative.source == "llm" for negative in sample.negatives):
            _take(positives, sample.id, sample.positive)
    return {
        "llm or corpus negative": _separability(written, corpus, seed),
        "llm negative or positive": _separability(written, positives, seed),
    }


def _take(texts: list[tuple[str, str]], sample: str, text: str) -> None:
    if len(texts) < TEXTS:
        texts.append((sample, text))


def _separability(ours: Sequence[tuple[str, str]], others: Sequence[tuple[str, str]], seed: int) -> float | None:
    """Texts of one sample are in one fold: what they share says nothing of who wrote them."""
    groups = [sample for sample, _ in (*ours, *others)]
    if min(len(ours), len(others)) < FEWEST or len(set(groups)) < _FOLDS:
        return None
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.model_selection import StratifiedGroupKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline, make_union

    texts = [text for _, text in (*ours, *others)]
    labels = [1] * len(ours) + [0] * len(others)
    model = make_pipeline(
        make_union(
            TfidfVectorizer(analyzer="char_wb", ngram_range=(2, 4), max_features=20_000, sublinear_tf=True),
            TfidfVectorizer(token_pattern=r"\w+", ngram_range=(1, 2), max_features=20_000, sublinear_tf=True),
        ),
        LogisticRegression(C=10, max_iter=1_000),
    )
    folds = StratifiedGroupKFold(_FOLDS, shuffle=True, random_state=seed)
    scores = cross_val_predict(model, texts, labels, groups=groups, cv=folds, method="decision_function")
    return round(float(roc_auc_score(labels, scores)), 3)
