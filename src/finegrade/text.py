"""Words, shingles, overlaps and hashes of texts."""

import hashlib
import re
from collections.abc import Collection, Hashable
from functools import lru_cache

_SPACELESS = (
    "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
"""Scripts that put no spaces between words: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""

_FIRST_SPACELESS = "\u0e00"
_MARKS = "\u0300-\u036f\u0591-\u05bd\u064b-\u065f\u0900-\u0963\u0966-\u0dff"  # vowels and accents are no borders
_SPACELESS_CHARACTER = re.compile(f"[{_SPACELESS}]")
_WORD = re.compile(rf"[{_SPACELESS}]|(?:[^\W{_SPACELESS}]|[{_MARKS}])+(?:\+\+|#)?")
_ASCII_WORD = re.compile(r"\w+(?:\+\+|#)?")  # of all ASCII: twice as fast. C, C++ and C# are three words
_MARKDOWN = re.compile(r"([\\`*_{}\[\]<>()#|!~])")
_REMEMBERED = 256  # texts: filters read the same few of a sample again and again
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")
_SENTENCE_END = re.compile(r"""[.!?…।؟۔](?:["'`”’»)\]*]*)(?=\s|$)|[。！？][”’」』）]*""")
_NO_END = re.compile(r"(?:^|[\s(])(?:\d+|[^\W\d_]|[eE]\.g|[iI]\.e|etc|vs|cf|[Nn]o|[Ff]ig|approx|[MD]rs?|Ms|Prof|St)\.$")
"""A stop that does not end a sentence, or not for certain: after a number, a letter, an abbreviation."""

_LOOKED_BACK = 20  # characters: more than any abbreviation has
_ENDS = (".", "!", "?", "。", "！", "？", "।", "؟", "۔")
_SMALL_WORDS = (
    "a an and any are as at be been but by can do does each every for from has have how if in into is it its may "
    "more most must no nor not of off on one only or other out over own same should so some such than that the "
    "their them then there these they this those to too under until up use used uses using very was were what "
    "when where which while who why will with you your all also"
)
_STOPWORDS = frozenset(_SMALL_WORDS.split())
_TURNING_WORDS = (
    "all any before each every from if in more most must no nor not off on only or out over to too under until up"
)
_TURNING = frozenset(_TURNING_WORDS.split())
"""Small words that a text may turn on."""


@lru_cache(_REMEMBERED)
def words(text: str) -> tuple[str, ...]:
    """Lower-case words, in order; in scripts without spaces between words each character is one."""
    return tuple((_ASCII_WORD if text.isascii() else _WORD).findall(text.lower()))


def word_count(text: str) -> int:
    """About how many words a text has: in scripts without spaces two characters count as one."""
    characters = 0 if text.isascii() else len(_SPACELESS_CHARACTER.findall(text))
    return len(words(text)) - characters // 2


def content_words(text: str) -> frozenset[str]:
    """The words that carry meaning: no stop words and no single letters, but digits, and characters that are words."""
    kept = (word for word in words(text) if word not in _STOPWORDS)
    return frozenset(word for word in kept if len(word) > 1 or word.isdigit() or word >= _FIRST_SPACELESS)


def telling_words(text: str) -> list[str]:
    """The words that carry meaning, in order, with the small ones that change it: not, off, before."""
    content = content_words(text)
    return [word for word in words(text) if word in _TURNING or word in content]


def shingles(text: str, size: int = 5) -> frozenset[tuple[str, ...]]:
    """All runs of ``size`` words; one short run for a text that has fewer.

    Where most of the text is in a script without spaces, a run has twice as many characters.
    """
    tokens = words(text)
    if word_count(text) < 0.75 * len(tokens):
        size *= 2
    return frozenset(tuple(tokens[i : i + size]) for i in range(max(1, len(tokens) - size + 1)))


def jaccard(left: Collection[Hashable], right: Collection[Hashable]) -> float:
    """Size of the intersection over size of the union, 0 for two empty sets."""
    left, right = set(left), set(right)
    union = len(left | right)
    return len(left & right) / union if union else 0.0


def normalised(text: str) -> str:
    """The text as compared for equality: its lower-case words, joined by single spaces; without words, as it is."""
    return " ".join(words(text)) or " ".join(text.split())


def ends_a_sentence(text: str) -> bool:
    """Whether a text ends with a whole sentence; three dots are no end."""
    last = text.rstrip("`'\")]*”’»」』")
    return last.endswith(_ENDS) and not last.endswith("...")


def folded(text: str) -> str:
    """The text on one line: printable characters, single spaces."""
    if not text.isprintable():
        text = "".join(character if character.isprintable() else " " for character in text)
    return " ".join(text.split())


def whole_sentences(text: str) -> str:
    """The text up to the end of its last whole sentence; empty where none ends."""
    for match in reversed(list(_SENTENCE_END.finditer(text))):
        stop = match.start() + 1
        if not _NO_END.search(text[max(0, stop - _LOOKED_BACK) : stop]):
            return text[: match.end()]
    return ""


def for_markdown(text: str) -> str:
    """The text on one line, with nothing in it that Markdown or HTML would obey."""
    return _MARKDOWN.sub(r"\\\1", " ".join(without_control_characters(text).split()))


def encodable(text: str) -> str:
    """The text with "?" for lone surrogates, which JSON and file names may hold and no file can store."""
    return text.encode("utf-8", "replace").decode("utf-8")


def without_control_characters(text: str) -> str:
    """The text with control characters replaced, which terminals obey and HTML forbids; line ends and tabs stay."""
    return _CONTROL.sub("\ufffd", text)


def content_hash(*parts: str) -> str:
    """Sixteen hex digits that identify the texts; the borders between the parts count."""
    digest = hashlib.sha256()
    for part in parts:
        data = part.encode("utf-8", "surrogatepass")
        digest.update(len(data).to_bytes(8, "big") + data)
    return digest.hexdigest()[:16]
