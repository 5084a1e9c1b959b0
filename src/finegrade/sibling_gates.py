"""What a text that was rewritten for a sibling query must pass beside what all negatives must."""

from difflib import SequenceMatcher

from finegrade.prompts import SIBLING_EXAMPLES
from finegrade.text import content_words, shingles, words

MIN_SEQUENCE_RATIO = 0.5
"""A near miss keeps at least this share of the positive's word sequence; else it is another text for the sibling."""

_COPIED_WORDS = 4  # of the examples: a small model takes over less than a sentence
_EXAMPLES = frozenset().union(*(shingles(text, _COPIED_WORDS) for example in SIBLING_EXAMPLES for text in example))


def sibling_refusal(positive: str, sibling: str, text: str) -> str | None:
    """Why a rewritten text is set aside, or None where it passes.

    Args:
        positive: What was rewritten.
        sibling: The query that it shall answer.
        text: What was written.
    """
    if not (_alike(sibling) & _alike(text)) - _alike(positive):
        return "brings in nothing of the sibling query"
    if (shingles(text, _COPIED_WORDS) & _EXAMPLES) - shingles(positive, _COPIED_WORDS):
        return "copies the prompt's example"
    return None


def _alike(text: str) -> frozenset[str]:
    """Content words, one and many of a thing as one word."""
    return frozenset(word.removesuffix("s") for word in content_words(text))


def is_near_miss(positive: str, text: str) -> bool:
    """Whether a text that passed is the positive rewritten; else it is another text, which also answers the sibling."""
    return SequenceMatcher(None, words(positive), words(text), autojunk=False).ratio() >= MIN_SEQUENCE_RATIO
