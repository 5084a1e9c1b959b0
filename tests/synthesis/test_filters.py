"""Why a written query, positive or negative is set aside: each reason fires, and a near neighbour passes."""

from collections import Counter

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from finegrade.data.languages import certain_language
from finegrade.synthesis.filters import (
    COPIED_WORDS,
    LEAKED_WORDS,
    LONGEST,
    MAX_TEXT_CHARS,
    NegativeChecks,
    pair_refusal,
    rephrasing_refusal,
    text_refusal,
    wording_refusal,
)
from finegrade.synthesis.levels import LADDER
from finegrade.synthesis.prompts.sample import PROMPTS
from finegrade.synthesis.prompts.sibling import SIBLING_SYSTEM
from finegrade.synthesis.prompts.task import WHAT
from finegrade.text import content_words, normalised, telling_words, words
from helpers.corpus import GERMAN, NEGATIVE, POSITIVE, QUERY


def reason(text, query=QUERY, positive=POSITIVE, min_changed=2, language=None):
    return NegativeChecks(query, [positive], min_changed, language).refusal(text)


def test_good_texts_pass():
    assert pair_refusal(QUERY, POSITIVE, "en") is None
    assert pair_refusal("Wann öffnet das Ventil?", GERMAN, "de") is None
    assert rephrasing_refusal(POSITIVE, NEGATIVE) is None
    assert reason(NEGATIVE) is None


PAIRS = (
    ((QUERY, "— … !?"), (QUERY, "— 3 …"), "no words"),
    (("???", POSITIVE), ("C?", POSITIVE), "no words"),
    (("w " * (MAX_TEXT_CHARS // 2) + "w", POSITIVE), ("w " * (MAX_TEXT_CHARS // 2), POSITIVE), "query too long"),
    ((POSITIVE, POSITIVE.upper() + "!!"), (POSITIVE, POSITIVE + " So."), "positive is the query"),
    ((QUERY, "Sure! " + POSITIVE), (QUERY, "Surely " + POSITIVE), "boilerplate opening"),
    (("Query: " + QUERY, POSITIVE), ("Query the valve. " + QUERY, POSITIVE), "boilerplate opening"),
    ((QUERY, POSITIVE + " This is a hard negative."), (QUERY, POSITIVE + " This is negative."), "speaks of the task"),
    ((QUERY, GERMAN), (QUERY, GERMAN[:60]), "wrong language"),
)


@pytest.mark.parametrize(
    ("refused", "passes", "told"), PAIRS, ids=[f"{told} {i}" for i, (*_, told) in enumerate(PAIRS)]
)
def test_pairs(refused, passes, told):
    assert pair_refusal(*refused, "en") == told
    assert pair_refusal(*passes, "en") is None


def test_users_say_what_they_cannot_do():
    for query in ("I can't log in to my account", "I'm sorry to bother you, where is the key?", "I cannot help my dog"):
        assert wording_refusal(query) is None
        assert pair_refusal(query, POSITIVE, "en") is None


def test_a_task_about_negatives_has_texts_that_speak_of_them():
    query, about = "How are hard negatives mined?", "Given a question on mining hard negatives, find the paper."
    assert wording_refusal(query) == "speaks of the task"
    assert wording_refusal(query, about) is None
    assert pair_refusal(query, POSITIVE, "en", [about]) is None
    assert NegativeChecks(query, [POSITIVE], 2, task=about).refusal(NEGATIVE + " So much for hard negatives.") is None
    assert text_refusal("Which embedding model is small? Its positive examples and negative samples are few.") is None


@pytest.mark.parametrize(
    ("before", "after"),
    [("on", "off"), ("before", "until"), ("Press the lever, then open the lid", "Open the lid, then press the lever")],
)
def test_small_words_and_the_order_of_steps_are_a_difference(before, after):
    text = "{}: do this with the valve of the pump, for as long as the red lamp is lit."
    gates = NegativeChecks("valve?", [text.format(before)], 2)
    assert gates.refusal(text.format(before) + " The.") == "keeps the whole positive"
    assert gates.refusal(text.format(before).replace("of the pump", "of a pump")) == "near-copy of the positive"
    assert gates.refusal(text.format(after)) is None


def test_the_task_said_again_is_no_query():
    task = ("Given a fault of a boiler, find the part of the manual that says how to mend it.", "Find the part.")
    assert pair_refusal("Find the part!", POSITIVE, "en", task) == "copies the task"
    assert pair_refusal(QUERY, "So given a fault of a boiler, find the part.", "en", task) == "copies the task"
    assert pair_refusal("Given a fault of a boiler, find a part?", POSITIVE, "en", task) is None


REPHRASED = (
    (POSITIVE, POSITIVE.replace(",", "").lower(), NEGATIVE, "copy of the text"),
    ("It takes 3,5 bar at 10 degrees.", "At 10 degrees it takes 35 bar.", "At 10 degrees, 3,5 bar is what it takes.",
     "other numbers than the text"),
    (POSITIVE, NEGATIVE[:60], NEGATIVE[: len(POSITIVE) // 2 + 2], "much shorter or longer than the text"),
    (POSITIVE, NEGATIVE + NEGATIVE, NEGATIVE + NEGATIVE[:100], "much shorter or longer than the text"),
    (POSITIVE, GERMAN, GERMAN[:90], "wrong language"),
    (POSITIVE, "Here is the text: " + NEGATIVE, "Here is where it goes. " + NEGATIVE, "boilerplate opening"),
)  # fmt: skip


@pytest.mark.parametrize(("text", "refused", "passes", "told"), REPHRASED, ids=[str(i) for i in range(len(REPHRASED))])
def test_rephrasings(text, refused, passes, told):
    assert rephrasing_refusal(text, refused) == told
    assert rephrasing_refusal(text, passes) is None


NEGATIVES = (
    (POSITIVE.upper(), NEGATIVE, "copy of the positive"),
    (POSITIVE.replace("three", "four").replace("seconds", "minutes"), None, None),  # two words gone, two new
    (POSITIVE + " Mind the pump and the hose.", NEGATIVE + " Mind the pump and the hose.", "keeps the whole positive"),
    (POSITIVE.replace(" later", ""), POSITIVE.replace("later", "afterwards"), "near-copy of the positive"),
    (f"{NEGATIVE} {QUERY}", f"{NEGATIVE} At which pressure does the boiler open?", "holds the query verbatim"),
    ("It turns.", NEGATIVE[:60] + ".", "much shorter or longer than the positive"),
    (" ".join([NEGATIVE] * 4), " ".join([NEGATIVE] * 2), "much shorter or longer than the positive"),
    (NEGATIVE[:-8], NEGATIVE[:-8] + ".", "ends in the middle of a sentence"),
    (GERMAN, GERMAN[:90].rstrip() + ".", "wrong language"),
    ("Certainly! " + NEGATIVE, "It is certainly so. " + NEGATIVE, "boilerplate opening"),
    ("I'm sorry, but I can't help with that. " + NEGATIVE, "I'm sorry to say: " + NEGATIVE, "boilerplate opening"),
    ("I can’t write that. " + NEGATIVE, "I can’t see it. " + NEGATIVE, "boilerplate opening"),
    ("As an AI language model, I say: " + NEGATIVE, "As an air pump: " + NEGATIVE, "boilerplate opening"),
    ("**Answer:** " + NEGATIVE, "**The answer** is this. " + NEGATIVE, "boilerplate opening"),
    ("Level 3: " + NEGATIVE, "Level ground is good. " + NEGATIVE, "boilerplate opening"),
    (NEGATIVE + " It does not answer the query.", NEGATIVE + " Nobody can answer that.", "speaks of the task"),
    (NEGATIVE + " The question asks for more.", NEGATIVE + " He asks for more.", "speaks of the task"),
)


@pytest.mark.parametrize(
    ("refused", "passes", "told"), NEGATIVES, ids=[f"{told} {i}" for i, (*_, told) in enumerate(NEGATIVES)]
)
def test_negatives(refused, passes, told):
    assert reason(refused) == told
    assert passes is None or reason(passes) is None


def test_negatives_are_compared_with_every_positive():
    gates = NegativeChecks(QUERY, [POSITIVE, NEGATIVE], 2)
    assert gates.refusal(NEGATIVE.lower()) == "copy of the positive"
    assert gates.refusal(NEGATIVE + " So it goes.") == "keeps the whole positive"
    assert gates.refusal(NEGATIVE.replace(" later", "")) == "near-copy of the positive"
    assert gates.refusal(NEGATIVE.replace("flap", "door").replace("thirty", "sixty")) is None


CHINESE = "锅炉上的安全阀在三巴压力时打开。当压力降到两巴以下时它会再次关闭，十秒钟后水泵启动。"


def test_chinese_is_counted_in_signs():
    other = CHINESE.replace("锅炉", "暖气").replace("打开", "转动").replace("十秒", "两分")
    gates = NegativeChecks("安全阀在多大压力时打开？", [CHINESE], 2)
    assert gates.refusal(CHINESE + "请注意水泵。") == "keeps the whole positive"
    assert gates.refusal(CHINESE[:-3] + "安全阀在多大压力时打开。") == "holds the query verbatim"
    assert gates.refusal(other) is None
    assert NegativeChecks("阀门？", [CHINESE], 2).refusal(f"阀门{other}") is None


def test_the_query_itself_is_no_negative():
    assert reason("Opens when?", query="Opens when?", positive="At three bar.") == "copy of the query"
    assert reason("Closes when?", query="Opens when?", positive="At three bar.") is None


def test_a_query_of_few_words_may_stand_in_a_negative():
    few = "relief valve boiler pump"
    assert len(words(few)) == LEAKED_WORDS
    assert reason(f"{NEGATIVE} So the {few} goes.", query=few) == "holds the query verbatim"
    assert reason(f"{NEGATIVE} So the relief valve boiler goes.", query="relief valve boiler") is None


def test_a_short_positive_may_stand_in_a_negative():
    assert reason("Paris is far from the sea; Lyon is, too.", positive="Paris") is None
    assert reason("Lyon", positive="Paris") is None
    assert reason("Paris!", positive="Paris") == "copy of the positive"


def test_lengths_of_short_positives_are_not_compared():
    assert reason("The tax office, on the second floor, next to the stairs.", positive="Complaints") is None


def test_what_ends_without_a_stop_is_whole_where_the_positive_does_too():
    assert reason(NEGATIVE[:-1], positive=POSITIVE[:-1]) is None


@pytest.mark.parametrize("end", [".'", '!"', "?)", "。", "！」"])
def test_closing_signs_behind_the_stop_are_no_middle_of_a_sentence(end):
    assert reason(NEGATIVE[:-1] + end) is None


PROMPTED = (
    *PROMPTS.values(),
    SIBLING_SYSTEM,
    *(flaw.description for flaw in LADDER),
    *(text for sort in WHAT.values() for text in (sort.description, sort.task, sort.instruction)),
)


LONG = [prompt for prompt in PROMPTED if len(words(prompt)) >= COPIED_WORDS]  # of a shorter one it is the whole


@pytest.mark.parametrize("prompt", LONG, ids=range(len(LONG)))
def test_a_run_of_words_of_any_prompt_was_copied_and_a_shorter_one_was_not(prompt):
    run = words(prompt)[-COPIED_WORDS:]
    assert reason(f"{NEGATIVE} {' '.join(run)}.") in ("copies the prompt", "speaks of the task")
    assert reason(f"{NEGATIVE} {' '.join(run[1:])}.") != "copies the prompt"
    assert pair_refusal(f"So {' '.join(run)}", POSITIVE, "en") in ("copies the prompt", "speaks of the task")


def test_what_the_user_s_own_text_does_is_no_fault_of_its_negative():
    opened = "Title: " + POSITIVE
    assert reason("Title: " + NEGATIVE, positive=opened) is None
    assert reason("Title: " + NEGATIVE) == "boilerplate opening"
    assert rephrasing_refusal(opened, "Title: " + NEGATIVE) is None


def test_a_negative_is_in_the_language_that_was_drawn_or_the_positive_s():
    assert reason(GERMAN) == reason(GERMAN, language="en") == "wrong language"
    assert reason(NEGATIVE, language="de") == "wrong language"
    assert reason(GERMAN, positive="Drei Bar.") is None  # too short to be sure of


def test_of_two_levels_that_are_nearly_the_same_the_first_stays():
    gates = NegativeChecks(QUERY, [POSITIVE], 2)
    assert gates.refusal(NEGATIVE) is None
    assert gates.refusal(NEGATIVE.replace("minutes", "hours")) == "nearly the same as another level"
    assert gates.refusal(NEGATIVE.replace("flap", "door").replace("turns", "moves").replace("fan", "bell")) is None


def test_what_is_refused_takes_no_place():
    gates = NegativeChecks(QUERY, [POSITIVE], 2)
    assert gates.refusal("Sure! " + NEGATIVE) == "boilerplate opening"
    assert gates.refusal(NEGATIVE) is None


def test_languages_are_certain_only_of_long_texts():
    assert certain_language(POSITIVE) == "en"
    assert certain_language(GERMAN) == "de"
    assert certain_language(GERMAN[:99]) is None
    assert certain_language("Chrysler AG 1234 " * 8) is None  # long enough, and no telling


some_words = st.lists(st.sampled_from(words(POSITIVE + NEGATIVE)), min_size=1, max_size=40).map(" ".join)
texts = st.one_of(st.text(max_size=200), some_words)


@given(texts, texts, texts)
def test_any_text_gets_a_verdict_and_none_that_is_an_answer_passes(query, positive, text):
    pair_refusal(query, positive, "en")
    if reason(text, query, positive) is None:
        assert normalised(text) not in (normalised(query), normalised(positive))
        own, other = telling_words(positive), telling_words(text)
        assert own != other
        gone, new = Counter(own) - Counter(other), Counter(other) - Counter(own)
        assert sorted(own) == sorted(other) or (gone + new).total() >= 2
        assert len(words(query)) < LEAKED_WORDS or normalised(query) not in normalised(text)
        assert len(positive) < 60 or 1 / LONGEST <= len(text) / len(positive) <= LONGEST
        assert any(map(str.isalnum, text)) or not any(map(str.isalnum, positive))


@given(st.lists(some_words, min_size=1, max_size=6))
def test_nothing_passes_twice(written):
    gates = NegativeChecks("Which one?", ["An answer of its own."], 2)
    passed = [text for text in written * 2 if gates.refusal(text) is None]
    assert len({normalised(text) for text in passed}) == len(passed)


@given(some_words, st.sampled_from(["{}", "{}!", "  {} ", "«{}»", "{}."]))
def test_case_and_punctuation_make_no_other_text(text, form):
    assume(content_words(text))
    same = form.format(text.upper())
    assert reason(same, positive=text) == "copy of the positive"
    assert rephrasing_refusal(text, same) == "copy of the text"
    assert pair_refusal(text, same, "en") == "positive is the query"
