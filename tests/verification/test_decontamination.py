"""What leaks is found, whatever its case and punctuation; what is only like it stays."""

import random
import re
import sys
import time
import unicodedata
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.errors import InputError
from finegrade.verification.benchmarks import BenchmarkText
from finegrade.verification.decontamination import COMMON, Benchmarks, Leak, comparable

WORDS = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in ("lmo", "nar", "sti", "vex")]
PASSAGE = (
    "The mitochondrion is an organelle found in the cells of most eukaryotes, such as animals, plants and fungi; it "
    "has a double membrane and makes most of the chemical energy that the cell then uses for whatever it has to do."
)
NO_MATTER = {"a", "an", "the", "to", "do", "does", "is", "are", "s", "i", "we", "you", "my", "our", "your", "please"}


def text(dice: random.Random, number: int) -> str:
    return " ".join(dice.choices(WORDS, k=number))


def queries(*texts: str, benchmark: str = "bench") -> list[BenchmarkText]:
    return [BenchmarkText(benchmark, "query", one) for one in texts]


def titles(*texts: str, benchmark: str = "bench") -> list[BenchmarkText]:
    return [BenchmarkText(benchmark, "title", one) for one in texts]


def documents(*texts: str, benchmark: str = "bench") -> list[BenchmarkText]:
    return [BenchmarkText(benchmark, "document", one) for one in texts]


# The plain definition: every text of the sample beside every text of the benchmarks, as sets of words.


def split(one: str) -> list[str]:
    return re.findall(r"\w+", one.lower())


def runs(one: list[str], size: int) -> set[tuple[str, ...]]:
    return {tuple(one[i : i + size]) for i in range(len(one) - size + 1)}


def byte_runs(one: list[str]) -> set[str]:
    folded = " ".join(one)
    return {folded[i : i + 5] for i in range(max(1, len(folded) - 4))}


def telling(one: list[str]) -> list[str]:
    kept = [word.removesuffix("s") for word in one if word not in NO_MATTER]
    return kept if len(kept) >= 3 and len(one) <= 52 else []


def size_of(one: list[str]) -> int:
    return min(13, len(one)) if len(one) >= 8 else 0


def overlap(how: str, own: list[str], other: list[str], common: set[tuple[str, ...]]) -> float:
    if how == "same text":
        return float(own == other)
    if how == "shared run of words":
        size = size_of(other)
        shared = runs(own, size) & runs(other, size) if size else set()
        if not shared - common:
            return 0.0
        covered = {i + k for i in range(len(own)) if tuple(own[i : i + size]) in shared for k in range(size)}
        return min(1.0, len(covered) / min(len(own), len(other)))
    left, right = byte_runs(own), byte_runs(other)
    similarity = len(left & right) / len(left | right)
    is_near = similarity >= 0.8 and min(len(own), len(other)) >= 26
    return similarity if is_near or (telling(own) and telling(own) == telling(other)) else 0.0


def plain_leaks(texts: list[BenchmarkText], query: str, positive: str) -> set[Leak]:
    """All leaks of the strongest kind that there is, of the query if it has one."""
    unique: dict[tuple[str, ...], BenchmarkText] = {}
    for one in sorted(texts, key=lambda one: ("query", "document", "title").index(one.role)):
        unique.setdefault(tuple(split(one.text)), one)
    counts = Counter(run for words in unique for run in runs(list(words), 13)) if unique else Counter()
    common = {run for run, number in counts.items() if number > COMMON}
    for how in ("same text", "shared run of words", "near duplicate"):
        for own, mine in (("query", split(query)), ("positive", split(positive))):
            found = set()
            for words, one in unique.items():
                least = 8 if one.role == "title" else 0 if own == one.role == "query" else 4
                is_named = min(len(mine), len(words)) < least
                if mine and words and not is_named and (share := overlap(how, mine, list(words), common)):
                    found.add(Leak(one.benchmark, one.role, own, how, one.text[:300], share))
            if found:
                return found
    return set()


PIECES = [text(random.Random(number), number % 14 + 1) for number in range(24)] + ["the", "is", "to"]
TEXT = st.lists(st.sampled_from(PIECES), min_size=0, max_size=4).map(" ".join)
BENCHMARK_TEXT = st.builds(BenchmarkText, st.sampled_from("ab"), st.sampled_from(["query", "document", "title"]), TEXT)


def agrees(found: Leak | None, wanted: set[Leak]) -> bool:
    if found is None:  # MinHash may overlook a near duplicate among long texts
        return not wanted or all(one.how == "near duplicate" and len(one.text.split()) >= 26 for one in wanted)
    return any(
        found == one or (found[:-1] == one[:-1] and found.overlap == pytest.approx(one.overlap)) for one in wanted
    )


@settings(max_examples=300, deadline=None)
@given(texts=st.lists(BENCHMARK_TEXT, max_size=16), pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4))
def test_the_index_finds_what_comparing_every_pair_finds(texts, pairs):
    for pair, found in zip(pairs, Benchmarks(texts).leaks(pairs), strict=True):
        wanted = plain_leaks(texts, *pair)
        assert agrees(found, wanted), (found, wanted)


@pytest.mark.parametrize("shared", range(COMMON - 1, COMMON + 3))
def test_the_same_where_a_run_is_common(shared):
    dice = random.Random(shared)
    licence = text(dice, 20)
    texts = documents(*(f"{text(dice, 5)} {licence} {text(dice, 9)}" for _ in range(shared)))
    sample = text(dice, 6), f"{text(dice, 30)} {licence}"
    found = Benchmarks(texts).leak(*sample)
    assert bool(found) is (shared <= COMMON)
    assert agrees(found, plain_leaks(texts, *sample))


def test_many_samples_at_once_are_judged_as_each_alone():
    dice = random.Random(5)
    texts = [text(dice, dice.choice([2, 5, 9, 14, 40])) for _ in range(250)]
    benchmarks = Benchmarks(one for one in [*queries(*texts[:80]), *documents(*texts[80:])])
    pairs = [(dice.choice(texts), text(dice, 30) + " " + dice.choice(texts)) for _ in range(120)]
    pairs += [(text(dice, 9), text(dice, 50)) for _ in range(120)]
    alone = [benchmarks.leak(*pair) for pair in pairs]
    assert 100 <= sum(leak is not None for leak in alone) < 240
    assert benchmarks.leaks(iter(pairs)) == alone


# What leaks.


@pytest.mark.parametrize(
    ("query", "positive", "own", "how"),
    [
        ("HOW to open... the valve?", "x", "query", "same text"),
        ("x", PASSAGE.upper().replace(",", " --"), "positive", "same text"),
        (PASSAGE, "x", "query", "same text"),
        ("x", "how to open the valve", "positive", "same text"),
        ("x", "Somebody said: " + PASSAGE[20:130] + "? And more.", "positive", "shared run of words"),
        ("x", "FAQ. Who was the first to sail around the whole world alone? A man.", "positive", "shared run of words"),
        ("how do I open a valve", "x", "query", "near duplicate"),
        ("How to open the valves?", "x", "query", "near duplicate"),
        ("Strasse in Munchen".replace("u", "u\u0308"), "x", "query", "same text"),
        ("valve", "x", "query", "same text"),
        ("query: how to open the valve", "x", "query", "same text"),
        ("x", "passage: how to open the valve", "positive", "same text"),
        ("Instruct: Given a question: retrieve passages that answer the query\nQuery:how to open the valve", "x",
         "query", "same text"),
        ("Represent this sentence for searching relevant passages: How to open the valve?", "x", "query", "same text"),
        ("search_query： how to open the valve", "x", "query", "same text"),
        ("task: search result | query: how to open the valve", "x", "query", "same text"),
        ("x", "title: none | text: how to open the valve", "positive", "same text"),
        ("what is it for", "x", "query", "same text"),
        ("how to o\u200epen the \u202avalve\u202c", "x", "query", "same text"),
    ],
)  # fmt: skip
def test_what_leaks(query, positive, own, how):
    texts = queries("Valve", "how to open the valve", "who was the first to sail around the whole world alone")
    texts += queries("Straße in München", "Query: what is it for?")
    found = Benchmarks([*texts, *documents(PASSAGE)]).leak(query, positive)
    assert found is not None
    assert (found.own, found.how) == (own, how)


def test_the_evidence_is_the_benchmark_s_text_as_it_stands_there():
    long = PASSAGE + " " + text(random.Random(1), 100)
    benchmarks = Benchmarks([*documents(long, benchmark="one"), *queries("Who? Me, or you!", benchmark="two")])
    assert benchmarks.leak("", PASSAGE) == Leak(
        "one", "document", "positive", "shared run of words", long[:300], 1.0
    )  # fmt: skip
    assert benchmarks.leak("who me or you", "") == Leak("two", "query", "query", "same text", "Who? Me, or you!", 1.0)
    assert benchmarks.counts == {"one": {"document": 1}, "two": {"query": 1}}


def test_the_overlap_of_runs_is_a_share_of_the_shorter_text():
    dice = random.Random(2)
    run = text(dice, 15)
    found = Benchmarks(documents(f"{text(dice, 40)} {run} {text(dice, 40)}")).leak("", f"{run} {text(dice, 15)}")
    assert found.overlap == pytest.approx(0.5)


def test_the_query_s_evidence_goes_before_the_positive_s_and_equality_before_all():
    texts = [*queries("how to open the valve"), *documents(PASSAGE)]
    assert Benchmarks(texts).leak("how to open the valve", PASSAGE).own == "query"
    assert Benchmarks(texts).leak("how to open a valve", PASSAGE).own == "positive"


def test_an_equal_query_counts_more_than_an_equal_document_before_it():
    texts = [*documents("valve", benchmark="one"), *queries("Valve!", benchmark="two")]
    assert Benchmarks(texts).leak("valve", "").benchmark == "two"
    assert Benchmarks(texts).leak("", "valve") is None


@pytest.mark.parametrize(("spelt", "found_at_least"), [(30, 0.99), (16, 0.95)])
def test_long_near_duplicates_without_a_shared_run_are_found(spelt, found_at_least):
    """One letter of every twelfth word is another."""
    dice = random.Random(spelt)
    originals = [text(dice, 120).split() for _ in range(200)]
    copies = [[w[:-1] + "q" if i % 12 == 0 else w for i, w in enumerate(one)] for one in originals]
    for one in copies:
        for place in dice.sample(range(120), 120 // spelt - 4 if spelt < 30 else 0):
            one[place] = one[place][:-1] + "q"
    benchmarks = Benchmarks(documents(*map(" ".join, originals)))
    found = benchmarks.leaks(("", " ".join(one)) for one in copies)
    assert sum(leak is not None for leak in found) >= found_at_least * 200
    for leak, original, copy in zip(found, originals, copies, strict=True):
        if leak:
            left, right = byte_runs(original), byte_runs(copy)
            assert leak.overlap == pytest.approx(len(left & right) / len(left | right))
            assert leak.how == "near duplicate"


def test_a_near_duplicate_is_found_among_thousands_of_a_template():
    template = "What is the population of the town of {} after the last census was taken?"
    benchmarks = Benchmarks(queries(*(template.format(f"{a}{b}") for a in WORDS[:50] for b in WORDS[:40])))
    assert benchmarks.leak(template.format("balmofilmo"), "") is None
    assert benchmarks.leak(template.format(f"{WORDS[7]}{WORDS[9]}").replace("the last", "last"), "")


@pytest.mark.slow
def test_samples_of_a_template_take_no_time_of_each_text_of_it():
    dice = random.Random(4)
    template = " {} ".join(text(dice, 11) for _ in range(4)).replace("{}", "{0}")
    benchmarks = Benchmarks(queries(*(template.format(f"town{i}") for i in range(10_000))))
    began = time.process_time()
    found = benchmarks.leaks((template.format(f"place{i}"), "x") for i in range(300))
    assert time.process_time() - began < 5
    assert {leak and leak.how for leak in found} == {"near duplicate"}  # what all texts have in common is no evidence


def test_scripts_without_spaces_count_two_characters_for_a_word():
    dice = random.Random(3)
    signs = ["".join(dice.choice("日本語文章水火木金土山川田人口目耳手足車") for _ in range(60)) for _ in range(3)]
    benchmarks = Benchmarks(documents(signs[0], signs[1][:17]))
    assert benchmarks.leak("", signs[2][:20] + signs[0][10:36]).how == "shared run of words"
    assert benchmarks.leak("", signs[2][:20] + signs[0][10:35] + "。") is None
    assert benchmarks.leak("", signs[2] + signs[1][:17]).how == "shared run of words"
    assert benchmarks.leak("", signs[2]) is None
    mixed = Benchmarks(documents(text(dice, 40) + " " + signs[0][:14] + " " + text(dice, 9)))
    assert mixed.leak("", signs[2] + signs[0][:14]) is None  # thirteen signs are no thirteen words


# What does not.


@pytest.mark.parametrize(
    ("query", "other"),
    [
        ("how to get the first row of a table", "how to get the last row of a table"),
        ("how to select the first row of a pandas dataframe by group", "how to select the last row of a pandas "
        "dataframe by group"),
        ("does vitamin c help against a cold in children", "does vitamin d help against a cold in children"),
        ("when was the painter Vincent van Gogh born", "where was the painter Vincent van Gogh born"),
        ("population of New York City in the census of 2010", "population of New York City in the census of 2020"),
        ("convert a list to a tuple in python", "convert a tuple to a list in python"),
        ("is it possible to sort a dict in place by value", "is it impossible to sort a dict in place by value"),
        ("flights from Paris to London on a Monday", "flights from London to Paris on a Monday"),
        ("how to read a file in C", "how to read a file in C++"),
        ("switch the light on after sunset", "switch the light off after sunset"),
        ("what is the capital of France", "what is the capital of Finland"),
        ("how to do it", "how do you do it"),
    ],
)  # fmt: skip
def test_one_word_makes_another_question(query, other):
    assert Benchmarks(queries(query)).leak(other, other) is None


@pytest.mark.parametrize("label", ["Paris", "billing department", "New York City", "yes", "42"])
def test_names_and_labels_are_right_for_many_queries(label):
    assert Benchmarks(documents(label)).leak(label, label) is None
    assert Benchmarks(queries(label)).leak("another question", label) is None
    assert Benchmarks(queries(label)).leak(label, "x").how == "same text"


def test_a_short_title_is_a_name_and_a_long_one_a_text():
    short, long = "History of the United States", "How do I sort a list of dictionaries by value?"
    benchmarks = Benchmarks(titles(short, long))
    assert benchmarks.leak(short, short) is None
    assert benchmarks.leak("x", f"{short}. It began long ago.") is None
    assert benchmarks.leak(long, "x")[1:4] == ("title", "query", "same text")
    assert Benchmarks([*titles(short), *documents(short)]).leak("x", short).role == "document"
    assert Benchmarks([*titles(short), *queries(short)]).leak(short, "x").role == "query"
    assert Benchmarks([*titles(short, short), *queries(short)]).counts == {"bench": {"title": 2, "query": 1}}


def test_a_common_run_hides_no_equal_text():
    dice = random.Random(6)
    licence = text(dice, 60)
    texts = [f"{licence} {word}" for word in WORDS[:30]]
    benchmarks = Benchmarks(documents(*texts))
    assert benchmarks.leak("", texts[3]).how == "same text"
    assert benchmarks.leak("", licence.rsplit(" ", 30)[0]) is None


def test_a_text_that_is_there_often_is_not_common():
    dice = random.Random(7)
    one = text(dice, 40)
    assert Benchmarks(documents(*[one] * 30, one.upper())).leak("", text(dice, 9) + " " + one[40:]) is not None


def test_a_short_text_that_many_longer_ones_hold_counts():
    dice = random.Random(9)
    short = text(dice, 9)
    longer = [f"{text(dice, 20)} {short} {text(dice, 20)}" for _ in range(COMMON + 2)]
    found = Benchmarks([*documents(*longer), *queries(short)]).leak("", f"{text(dice, 20)} {short}")
    assert found.text == short


def test_a_run_that_one_text_has_often_is_not_common():
    dice = random.Random(8)
    run = text(dice, 14)
    assert Benchmarks(documents(f"{run} " * 2 * COMMON)).leak("", f"{text(dice, 9)} {run}") is not None


def test_the_same_topic_is_no_leak():
    texts = documents(PASSAGE)
    other = "Mitochondria are found in the cells of most eukaryotes. They make energy and have a double membrane."
    assert Benchmarks(texts).leak("what is a mitochondrion", other) is None


# What holds for all texts.

LETTERS = st.text(alphabet="abcdefß éñöüΣσςωИиЇїЖжÆøļ", min_size=1, max_size=8)
SENTENCE = st.lists(LETTERS, min_size=1, max_size=20).map(" ".join)


def disguised(one: str, dice: random.Random) -> str:
    """Other case, other punctuation, other form of Unicode, characters that nobody sees."""
    changed = dice.choice([str.upper, str.lower, str.title, str.swapcase])(one)
    changed = unicodedata.normalize(dice.choice(["NFC", "NFD", "NFKC", "NFKD"]), changed)
    words = [
        word[:1] + dice.choice(["", "\u00ad", "\u200b", "\u200e", "\u2067", "\ufe0f"]) + word[1:]
        for word in changed.split()
    ]
    return dice.choice(["", "«", "  "]) + "".join(word + dice.choice([" ", ", ", " - ", "\n", "! "]) for word in words)


@settings(max_examples=150, deadline=None)
@given(texts=st.lists(SENTENCE, min_size=1, max_size=5), dice=st.randoms(use_true_random=False))
def test_case_and_punctuation_never_hide_a_leak(texts, dice):
    benchmarks = Benchmarks(queries(*texts))
    for one in texts:
        found = benchmarks.leak(disguised(one, dice), "")
        assert comparable(one) == "" or found.how == "same text"
        behind = "zzz " * 9 + disguised(one, dice)
        plain, hidden = benchmarks.leak("", "zzz " * 9 + one), benchmarks.leak("", behind)
        assert plain == hidden


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(BENCHMARK_TEXT, min_size=1, max_size=5), more=st.lists(BENCHMARK_TEXT, max_size=5),
    query=TEXT, positive=TEXT,
)  # fmt: skip
def test_a_leak_stays_one_when_texts_are_added(texts, more, query, positive):
    """As long as no run becomes a common one."""
    for added in ([*texts, *more], [*more, *texts]):
        assert Benchmarks(texts).leak(query, positive) is None or Benchmarks(added).leak(query, positive) is not None


@settings(max_examples=100, deadline=None)
@given(texts=st.lists(st.text("abcdef "), max_size=9), query=st.text("uvwxyz "), positive=st.text("uvwxyz "))
def test_texts_without_a_word_in_common_never_leak(texts, query, positive):
    assert Benchmarks([*queries(*texts), *documents(*texts)]).leak(query, positive) is None


@settings(max_examples=200, deadline=None)
@given(one=st.text(max_size=40))
def test_any_text_is_its_own_leak_and_has_one_form(one):
    assert comparable(comparable(one)) == comparable(one)
    found = Benchmarks(queries(one)).leak(one, one)
    assert (found is not None) is bool(comparable(one))


# What is hostile.


ODD = [
    "",
    " ",
    "\0",
    "\ud800",
    "a\ud800b",
    "🙂",
    "? ! * -",
    "\u0301",
    "\ufeff",
    "﷽" * 50,
    "a" * 3_000_000,
    "a " * 300_000,
]


@pytest.mark.parametrize("one", ODD)
def test_odd_texts_do_no_harm(one):
    benchmarks = Benchmarks([*queries(one, "a good query of some words"), *documents(one, PASSAGE)])
    assert benchmarks.leak("a good query of some words", one).how == "same text"
    assert benchmarks.leak(one, PASSAGE).how == "same text"
    found = benchmarks.leak("x", one)
    assert found is None or (found.how == "same text" and len(one) >= 50)


def test_no_format_character_is_left():
    signs = [chr(number) for number in range(sys.maxunicode + 1)]
    formats = "".join(sign for sign in signs if unicodedata.category(sign) == "Cf")
    assert comparable(f"va{formats}lve") == "valve"


@pytest.mark.parametrize("one", ["query:", "Text: ", "query", "what is a search query: a definition", "text file: how"])
def test_only_a_prefix_is_one(one):
    assert comparable(one) == comparable(one.replace(":", " "))


def test_punctuation_is_no_word():
    line = "* - " * 20
    assert Benchmarks(documents(line)).leak("", "- * " * 20) is None
    assert Benchmarks(documents(line)).leak("", line) is None


def test_heaps_of_accents_take_no_time():
    began = time.process_time()
    comparable("a" + "\u0301\u0316" * 500_000)
    assert time.process_time() - began < 5


def test_texts_of_one_hash_are_two_texts():
    """Thue's and Morse's words have equal sums whatever the base is (of 64 bits)."""
    word = "ab"
    for _ in range(11):
        word += word.translate(str.maketrans("ab", "ba"))
    other = word.translate(str.maketrans("ab", "ba"))
    before, after = text(random.Random(8), 7), text(random.Random(9), 7)
    benchmarks = Benchmarks([*queries(word), *documents(f"{before} {word} {after}")])
    assert benchmarks.leak(other, "") is None
    assert benchmarks.leak("", f"{before} {other} {after[:-9]}") is None
    assert benchmarks.leak("", f"{before} {word} {after[:-9]}").how == "shared run of words"
    both = Benchmarks(queries(word, other))
    assert both.leak(word, "").text == word[:300]
    assert both.leak(other, "").text == other[:300]


def test_nothing_to_compare_with():
    assert Benchmarks([]).leaks([("a query", "a text"), ("", "")]) == [None, None]
    assert Benchmarks(queries("", "  ")).leak("", "") is None
    assert Benchmarks(queries("a")).leaks([]) == []


def test_more_texts_than_can_be_held_are_refused_in_one_line():
    three = queries("a", "b", "A!", "c")
    assert Benchmarks(three, most=3).counts == {"bench": {"query": 4}}
    with pytest.raises(InputError, match="the benchmarks: got more than 3 texts; wanted at most 3"):
        Benchmarks([*three, *queries("d")], most=3)
