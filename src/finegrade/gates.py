"""What a rewritten text must pass before a model looks at it: cheap, and needing no second model."""

from difflib import SequenceMatcher

from finegrade.prompts import SIBLING_EXAMPLES
from finegrade.records import Seed
from finegrade.text import content_words, ends_a_sentence, normalised, shingles, words
from finegrade.writing_config import SynthesisConfig

MIN_SEQUENCE_RATIO = 0.5
"""A near miss keeps at least this share of the positive's word sequence; else it is another text for the sibling."""

_EXAMPLES = frozenset().union(*(shingles(text, 4) for example in SIBLING_EXAMPLES for text in example))


def refusal(seed: Seed, sibling: str, text: str, config: SynthesisConfig) -> str | None:
    """Why a rewritten text is set aside, or None where it passes.

    Args:
        seed: What it was written from.
        sibling: The query that it shall answer.
        text: What was written.
        config: Says from how many changed words on a text is no near-copy.
    """
    if not ends_a_sentence(text):
        return "ends in the middle of a sentence"
    return _content_refusal(seed, sibling, text, config)


def is_near_miss(positive: str, text: str) -> bool:
    """Whether a text that passed is the positive rewritten; else it is another text, which also answers the sibling."""
    return SequenceMatcher(None, words(positive), words(text), autojunk=False).ratio() >= MIN_SEQUENCE_RATIO


def _content_refusal(seed: Seed, sibling: str, text: str, config: SynthesisConfig) -> str | None:
    positive = seed.positives[0]
    if normalised(text) in {normalised(own) for own in seed.positives}:
        return "copy of the positive"
    before, after = content_words(positive), content_words(text)
    if normalised(positive) in normalised(text):
        return "keeps the whole positive"
    if len(before ^ after) < config.min_changed:
        return "near-copy of the positive"
    if not (content_words(sibling) & after) - before:
        return "brings in nothing of the sibling query"
    if normalised(seed.query) in normalised(text):
        return "holds the query verbatim"
    if (shingles(text, 4) & _EXAMPLES) - shingles(positive, 4):
        return "copies the prompt's example"
    return None
