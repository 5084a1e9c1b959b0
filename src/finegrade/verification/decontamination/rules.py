"""What a training sample must not have in common with a benchmark.

A query or positive leaks where it has, without regard to case, punctuation, the form of its Unicode and what models
want before a text ("query: ", "Instruct: ... Query: "),

- the same text as a query or document of the benchmark;
- a run of 13 words that stands in a text of the benchmark (the longest that GPT-3's decontamination asks for; Brown et
  al., 2020), or the whole of a benchmark's text of 8 to 12 words (8 is its shortest). A run that stands in more than
  ten texts of the benchmarks is a licence, a menu or a phrase, and no evidence. Of scripts without spaces two signs
  count as a word;
- nearly the same text. Of two texts of 26 words or more: Jaccard 0.8 of their runs of five bytes. Below that, one other
  word may leave no run of 13, changes few runs of bytes and may turn the text round ("the first row", "the last row");
  so all words must be the same, in order, but for "a", "do I" and the like and a final "s".

Texts of fewer than four words are names and labels ("Paris", "billing department"), right for many queries: they
count only where both are queries. A document's title is a name up to seven words ("History of the United States"): who
asks for that, or answers with it, has not seen the document. From eight on it is a sentence, and often a question.
"""

import re
import unicodedata
from typing import Literal

from finegrade.retrieval.minhash import RUN, SIMILAR
from finegrade.text import encodable, jaccard, normalised, word_count, words
from finegrade.verification.decontamination.columns import Role

RUN_WORDS, WHOLE_WORDS = 13, 8
"""A shared run of so many words is a leak; so is the whole of a text that is shorter, but not shorter than this."""

NAME_WORDS = 4
"""Shorter texts are names and labels: they count only where both are queries."""

Own = Literal["query", "positive"]

LONG_WORDS = 2 * RUN_WORDS  # with one other word in its middle, there is still a run that counts
_NO_MATTER = frozenset(
    ("a", "an", "the", "to", "do", "does", "is", "are", "s", "i", "we", "you", "my", "our", "your", "please")
)
_TELLING_WORDS = 3  # fewer that matter tell too little

_UNSEEN = re.compile(  # what may be ignored, and signs of format: no width, or the direction of others
    "[\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufffb\U000110bd\U000110cd\U00013430-\U0001343f"
    "\U0001bca0-\U0001bca3\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)
_PREFIX = re.compile(  # of E5, BGE, Nomic, Qwen, Gemma and their like
    r"""\W{0,9}(?:
        instruct:.{0,600}?\bquery
        |(?:search_)?(?:query|document) |passage |question |text |clustering |classification
        |represent\s(?:this|the)\b[^:\n]{0,100}\bfor\s(?:search|retriev|cluster|classif)[^:\n]{0,100}
        |task:[^|\n]{0,200}\|\s*query |title:[^|\n]{0,400}\|\s*text
    )\s*:\s*(?=\S)""",
    re.IGNORECASE | re.VERBOSE | re.DOTALL,
)
_MARKS = re.compile(r"([^\w\s]{30})[^\w\s]+")  # normalising takes a time that is the square of the marks' number


def comparable(text: str) -> str:
    """What is left of a text when case, punctuation, the form of its Unicode and a model's prefix do not count."""
    if not text.isascii():
        text = _MARKS.sub(r"\1", _UNSEEN.sub("", encodable(text)))
        text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return normalised(_PREFIX.sub("", text, count=1) if _PREFIX.match(text) else text)


def least_words(own: Own, role: Role) -> int:
    """How many words two texts must have, both of them, to be more than names.

    Args:
        own: Which of the sample's texts.
        role: Of the benchmark's.
    """
    if role == "title":
        return WHOLE_WORDS
    return 0 if own == role == "query" else NAME_WORDS


def run_size(plain: str) -> int:
    """How long the runs of a benchmark's text are that count, in words as ``words`` gives them; 0: none does."""
    number = len(words(plain))
    a_word = 2 if word_count(plain) < 0.75 * number else 1  # as text.shingles
    if number >= a_word * RUN_WORDS:
        return a_word * RUN_WORDS
    return number if number >= a_word * WHOLE_WORDS else 0


def equality(own: str, other: str) -> float:
    """1 for the same text, 0 for others."""
    return float(own == other)


def shared_share(own: str, other: str) -> float:
    """The share of the shorter text's words that lie in shared runs; of mixed scripts some runs are too short."""
    size = run_size(other)
    mine, its = own.split(" "), other.split(" ")
    runs = {" ".join(its[i : i + size]) for i in range(len(its) - size + 1)}
    shared = [
        i for i in range(len(mine) - size + 1)
        if (run := " ".join(mine[i : i + size])) in runs and word_count(run) >= WHOLE_WORDS
    ]  # fmt: skip
    covered = {place for begin in shared for place in range(begin, begin + size)}
    return min(1.0, len(covered) / min(len(mine), len(its)))


def nearness(own: str, other: str) -> float:
    """The Jaccard similarity of near duplicates; 0 for all others."""
    similarity = jaccard(_byte_runs(own), _byte_runs(other))
    if similarity >= SIMILAR and min(word_count(own), word_count(other)) >= LONG_WORDS:
        return similarity
    return similarity if telling_words_of(own) and telling_words_of(own) == telling_words_of(other) else 0.0


def _byte_runs(plain: str) -> set[bytes]:
    data = plain.encode()
    return {data[i : i + RUN] for i in range(max(1, len(data) - RUN + 1))}


def telling_words_of(plain: str) -> str:
    """The words that a short text may turn on; empty where they are too few, and for a text that is not short."""
    if plain.count(" ") >= 2 * LONG_WORDS:  # twice: words that do not matter count, too, and signs for half a word
        return ""
    telling = [word.removesuffix("s") for word in plain.split(" ") if word not in _NO_MATTER]
    return " ".join(telling) if len(telling) >= _TELLING_WORDS else ""
