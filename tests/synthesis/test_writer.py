"""One sample in each mode: what is asked, what is taken, and why the rest is set aside."""

import asyncio

import pytest

from finegrade.config.toml import parse_config
from finegrade.records import MAX_SET_ASIDE, Seed, Task
from finegrade.synthesis.levels import flaws
from finegrade.synthesis.requests import Order, draw, sources_of
from finegrade.synthesis.writer import Writer
from helpers.corpus import GERMAN, NEGATIVE, POSITIVE, QUERY
from helpers.scripted_llm import ScriptedLLM, asked, reply, wanted

TEXTS = {
    4: POSITIVE.replace("three", "nine").replace("two", "eight").replace("later", "earlier"),
    3: "The drain cock of the boiler opens by hand. It is shut again once the water runs clear, which takes a minute.",
    2: "Boilers under steam pressure were first built for mines. Their owners paid a relief to the poor of the parish.",
    1: NEGATIVE,
}
FLAWS = {level: f"what is wrong with {level}" for level in TEXTS}
PAIR = {"query": QUERY, "positive": POSITIVE}
TASK = Task(
    id="t", kind="short-long", description="Given a question, find the page.", instruction="Find it", side="train"
)
SEED = Seed(id="s", query=QUERY, positives=(POSITIVE, "Three bar."), group="g")
SIBLING = "At which pressure does the drain cock of the tank close?"


def negatives(levels=(4, 3, 2, 1), **instead):
    """What the reply of a good LLM holds of negatives."""
    told = {}
    for level in levels:
        told |= {f"flaw_{level}": FLAWS[level], f"level_{level}": instead.get(f"level_{level}", TEXTS[level])}
    return told


def config(source="tasks", llm="m", **synthesis):
    sources = {"kind": source} if source == "tasks" else {"kind": source, "path": "x"}
    data = {"source": sources, "llm": {"base_url": "http://127.0.0.1:1/v1", "model": llm}, "synthesis": synthesis}
    return parse_config(data, "test").resolved


def order(of, settings, sibling="", turn=0):
    task, seed = (of, None) if isinstance(of, Task) else (None, of)
    return Order(
        "id",
        draw(settings.draws, 0, "x"),
        sources_of("id", settings.synthesis, settings.seed),
        task,
        seed,
        sibling,
        turn,
    )


def write(of, answer, sibling="", turn=0, **synthesis):
    """What comes of one sample, and the LLM that was asked."""
    settings = config("tasks" if isinstance(of, Task) else "pairs", **synthesis)
    llm = ScriptedLLM(answer if callable(answer) else lambda request: answer)
    written = asyncio.run(
        Writer(settings.synthesis, settings.llm, settings.seed).write(llm.complete, order(of, settings, sibling, turn))
    )
    return written, llm


def by_level(draft):
    return {negative.level: negative.text for negative in draft.negatives}


def reasons(written):
    return [(row.level, row.reason) for row in written.set_aside]


# one call


def test_one_call_writes_a_whole_sample_of_a_task():
    written, llm = write(TASK, PAIR | negatives(), mode="one-call")
    (request,) = llm.requests
    assert wanted(request) == ["query", "positive", *negatives()]
    for told in (TASK.description, *(f"level {level} ({flaw.name})" for level, flaw in flaws(4).items())):
        assert told in asked(request)
    draft = written.draft
    assert (draft.query, draft.positive, draft.group, draft.side) == (QUERY, POSITIVE, "t", "train")
    assert (draft.kind, draft.instruction, draft.seed) == ("short-long", "Find it", "")
    assert [n.level for n in draft.negatives] == [4, 3, 2, 1]
    assert {n.level: (n.text, n.flaw, n.source, n.sibling) for n in draft.negatives} == {
        level: (text, FLAWS[level], "llm", None) for level, text in TEXTS.items()
    }
    assert written.set_aside == []


def test_one_call_writes_the_negatives_of_a_pair():
    written, llm = write(SEED, negatives(), mode="one-call")
    (request,) = llm.requests
    assert wanted(request) == list(negatives())
    assert QUERY in asked(request)
    assert POSITIVE in asked(request)
    assert by_level(written.draft) == TEXTS
    assert (written.draft.seed, written.draft.group, written.draft.kind) == ("s", "g", "")


@pytest.mark.parametrize("levels", range(2, 9))
def test_as_many_levels_are_asked_for_as_there_are(levels):
    _, llm = write(TASK, PAIR, mode="one-call", levels=levels)
    assert wanted(llm.requests[0])[2:] == [
        key for level in range(levels, 0, -1) for key in (f"flaw_{level}", f"level_{level}")
    ]


def test_only_the_levels_that_are_the_llm_s_are_asked_for():
    mined = {"3": {"mined": 1}, "1": {"random": 1}}
    written, llm = write(TASK, PAIR | negatives((4, 2)), mode="one-call", sources=mined)
    assert wanted(llm.requests[0]) == ["query", "positive", "flaw_4", "level_4", "flaw_2", "level_2"]
    assert "other subject" not in asked(llm.requests[0])
    assert list(by_level(written.draft)) == [4, 2]


def test_for_what_is_tested_with_only_a_pair_is_asked_for():
    for mode in ("one-call", "stepwise"):
        written, llm = write(TASK.model_copy(update={"side": "test"}), PAIR, mode=mode)
        assert [wanted(request) for request in llm.requests] == [["query", "positive"]]
        assert (written.draft.side, written.draft.negatives) == ("test", ())


def test_where_the_corpus_gives_all_levels_nothing_is_asked():
    written, llm = write(SEED, "", mode="one-call", sources={str(level): {"mined": 1} for level in range(1, 5)})
    assert llm.requests == []
    assert written.draft.positive == POSITIVE


def test_turns_of_a_task_are_different_requests_also_where_the_draws_are_equal():
    asked_twice = [write(TASK, PAIR | negatives(), mode="one-call", turn=turn)[1].requests[0] for turn in (0, 1, 1)]
    assert len({request.key() for request in asked_twice}) == 2


# levels that are refused


def test_a_level_that_is_refused_is_set_aside_with_its_reason_and_the_others_stay():
    told = PAIR | negatives(level_4=POSITIVE + ".", level_2="Sure! " + TEXTS[2])
    written, llm = write(TASK, told, mode="one-call")
    assert len(llm.requests) == 1
    assert reasons(written) == [(4, "copy of the positive"), (2, "boilerplate opening")]
    assert [row.text for row in written.set_aside] == [told["level_4"], told["level_2"]]
    assert {(row.order, row.query) for row in written.set_aside} == {("id", QUERY)}
    assert list(by_level(written.draft)) == [3, 1]


def test_of_two_levels_that_are_nearly_the_same_the_harder_one_stays():
    written, _ = write(TASK, PAIR | negatives(level_1=TEXTS[3].replace("minute", "while")), mode="one-call")
    assert reasons(written) == [(1, "nearly the same as another level")]
    assert list(by_level(written.draft)) == [4, 3, 2]


def test_a_pair_that_is_refused_is_no_sample():
    told = PAIR | negatives() | {"query": "Sure! Here: " + QUERY}
    for mode in ("one-call", "stepwise"):
        written, llm = write(TASK, told, mode=mode)
        assert written.draft is None
        assert reasons(written) == [(None, "boilerplate opening")]
        assert len(llm.requests) == 1


def test_a_text_in_another_language_than_the_drawn_one_is_set_aside():
    written, _ = write(TASK, PAIR | negatives(level_3=GERMAN), mode="one-call")
    assert reasons(written) == [(3, "wrong language")]
    written, _ = write(TASK, PAIR | negatives() | {"positive": GERMAN}, mode="one-call")
    assert reasons(written) == [(None, "wrong language")]


# stepwise


def one_by_one(request):
    if "positive" in wanted(request):
        return PAIR
    level = next(level for level in TEXTS if f"level {level} (" in asked(request))
    return {"flaw": FLAWS[level], "text": TEXTS[level]}


def test_stepwise_asks_for_a_pair_and_then_for_each_level():
    written, llm = write(TASK, one_by_one, mode="stepwise")
    assert [wanted(request) for request in llm.requests] == [["query", "positive"]] + [["flaw", "text"]] * 4
    assert all(POSITIVE in asked(request) for request in llm.requests[1:])
    assert ["other subject" in asked(request) for request in llm.requests] == [False] * 4 + [True]
    assert by_level(written.draft) == TEXTS
    assert {n.level: n.flaw for n in written.draft.negatives} == FLAWS
    assert by_level(write(SEED, one_by_one, mode="stepwise")[0].draft) == TEXTS


def test_a_step_that_fails_costs_its_level_only():
    def answer(request):
        return reply("", "content_filter") if "level 3 (" in asked(request) else one_by_one(request)

    written, _ = write(SEED, answer, mode="stepwise")
    assert reasons(written) == [(3, "held back by the server's filter")]
    assert list(by_level(written.draft)) == [4, 2, 1]


# sibling

NEAR_MISS = POSITIVE.replace("relief valve on the boiler opens", "drain cock of the tank closes")


def test_sibling_rewrites_the_positive_for_the_sibling_query():
    written, llm = write(SEED, {"passage": NEAR_MISS}, SIBLING, mode="sibling")
    (request,) = llm.requests
    assert asked(request) == f"query A: {QUERY}\npassage: {POSITIVE}\nquery B: {SIBLING}"
    (negative,) = written.draft.negatives
    assert (negative.text, negative.level, negative.sibling, negative.flaw) == (NEAR_MISS, 4, SIBLING, None)


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        ({"passage": POSITIVE}, "copy of the positive"),
        ({"passage": "Three bar!"}, "copy of the positive"),  # any of them
        ({"passage": NEAR_MISS[:-1]}, "ends in the middle of a sentence"),
        # what all negatives must pass
        ({"passage": "Sure! " + NEAR_MISS}, "boilerplate opening"),
        ({"passage": NEAR_MISS + " This does not answer the query."}, "speaks of the task"),
        ({"passage": GERMAN}, "wrong language"),
        ({"passage": f"{NEAR_MISS} " * 4}, "much shorter or longer than the positive"),
        ({"passage": f"{NEAR_MISS} {QUERY}"}, "holds the query verbatim"),
        # what a rewritten one must beside
        ({"passage": NEGATIVE}, "brings in nothing of the sibling query"),
        (reply({"passage": NEAR_MISS}, "length"), "cut at the token limit"),
        ("Sure!", "not the JSON that was asked for"),
    ],
)
def test_what_is_no_near_miss_is_set_aside_and_not_asked_for_again(told, reason):
    written, llm = write(SEED, told, SIBLING, mode="sibling")
    assert reasons(written) == [(4, reason)]
    assert len(llm.requests) == 1
    assert written.draft.negatives == ()


def test_siblings_of_more_levels_take_the_hardest():
    written, _ = write(SEED, {"passage": NEAR_MISS}, SIBLING, mode="sibling", levels=7)
    assert list(by_level(written.draft)) == [7]


# style guard

REPHRASED = (
    "At three bar the boiler's relief valve lets go. Under two bar it shuts, and ten seconds on the pump sets in."
)


def guarded(text):
    def answer(request):
        if wanted(request) == ["text"]:
            return text if not isinstance(text, str) else {"text": text}
        return {"passage": NEAR_MISS} if wanted(request) == ["passage"] else negatives()

    return answer


def test_the_style_guard_says_the_positive_in_the_llm_s_words_and_negatives_are_written_for_these():
    written, llm = write(SEED, guarded(REPHRASED), mode="one-call", style_guard=True)
    assert [wanted(request) for request in llm.requests] == [["text"], list(negatives())]
    assert REPHRASED in asked(llm.requests[1])
    assert POSITIVE not in asked(llm.requests[1])
    assert written.draft.positive == REPHRASED
    assert by_level(written.draft) == TEXTS


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (POSITIVE, "copy of the text"),
        (REPHRASED + " It is 9 years old.", "other numbers than the text"),
        ("It opens.", "much shorter or longer than the text"),
        ("Sure! " + REPHRASED, "boilerplate opening"),
        (GERMAN, "wrong language"),
        (reply("no"), "not the JSON that was asked for"),
        (reply("", "failed"), "the server failed again and again"),
    ],
)
def test_a_positive_that_cannot_be_said_again_stays_as_it_is_and_that_is_counted(text, reason):
    written, _ = write(SEED, guarded(text), mode="one-call", style_guard=True)
    assert reasons(written) == [(None, f"style guard: {reason}")]
    assert written.draft.positive == POSITIVE
    assert by_level(written.draft) == TEXTS


def test_the_style_guard_guards_near_misses_too():
    """The rewrite is of the text that was shown; a copy of the user's own text is none either."""
    written, llm = write(SEED, guarded(REPHRASED), SIBLING, mode="sibling", style_guard=True)
    assert f"passage: {REPHRASED}" in asked(llm.requests[1])
    assert written.draft.positive == REPHRASED
    assert not written.set_aside
    assert list(by_level(written.draft)) == [3]  # it is a rewrite of the user's own text, which is not the positive now
    copies = lambda request: {"text": REPHRASED} if wanted(request) == ["text"] else {"passage": POSITIVE}  # noqa: E731
    written, _ = write(SEED, copies, SIBLING, mode="sibling", style_guard=True)
    assert reasons(written) == [(4, "copy of the positive")]


@pytest.mark.parametrize("guard", [False, True])
@pytest.mark.parametrize("mode", ["one-call", "stepwise"])
def test_what_answers_the_query_too_is_no_negative_in_any_mode(mode, guard):
    """Neither another positive of the seed, nor the user's own text where the LLM said it again."""
    other = "Once the boiler is at three bar the relief valve opens by itself, and under two bar it is shut once more."
    seed = SEED.model_copy(update={"positives": (POSITIVE, other)})
    copies = {4: other, 3: POSITIVE + " So it is.", 2: TEXTS[2], 1: TEXTS[1]}

    def answer(request):
        if wanted(request) == ["text"]:
            return {"text": REPHRASED}
        if mode == "one-call":
            return negatives(**{f"level_{level}": text for level, text in copies.items()})
        level = next(level for level, flaw in flaws(4).items() if flaw.description in asked(request))
        return {"flaw": "f", "text": copies[level]}

    written, _ = write(seed, answer, mode=mode, style_guard=guard)
    assert written.draft.positive == (REPHRASED if guard else POSITIVE)
    assert reasons(written) == [(4, "copy of the positive"), (3, "keeps the whole positive")]


# replies that cannot be read


def in_turn(*replies):
    left = iter(replies)
    return lambda request: next(left)


def test_json_that_cannot_be_read_is_asked_for_once_more_with_the_error():
    without = {key: value for key, value in (PAIR | negatives()).items() if key != "level_3"}
    written, llm = write(TASK, in_turn(without, PAIR | negatives()), mode="one-call")
    first, second = llm.requests
    assert second.messages[: len(first.messages)] == first.messages
    assert second.messages[-2].role == "assistant"
    assert "level_3: Field required" in asked(second)
    assert by_level(written.draft) == TEXTS
    assert written.set_aside == []


@pytest.mark.parametrize("broken", ["no JSON", "", "[]", "null", '"query"', '{"query": 3}', "{" * 30])
def test_json_that_can_never_be_read_is_set_aside_with_the_raw_reply(broken):
    written, llm = write(TASK, broken, mode="one-call")
    assert len(llm.requests) == 2
    assert written.draft is None
    assert [(row.level, row.reason, row.text) for row in written.set_aside] == [
        (None, "not the JSON that was asked for", broken)
    ]


def test_json_that_is_only_broken_is_mended():
    whole = reply(PAIR | negatives()).text
    written, llm = write(TASK, f"```json\n{whole[:-1]},}}\n```", mode="one-call")
    assert by_level(written.draft) == TEXTS
    assert len(llm.requests) == 1


def test_of_a_reply_of_millions_the_beginning_is_set_aside():
    written, _ = write(TASK, "x" * 3_000_000, mode="one-call")
    assert [len(row.text) for row in written.set_aside] == [MAX_SET_ASIDE]


def test_a_reply_that_was_cut_ends_with_its_last_whole_sentence_or_is_set_aside():
    whole = reply(PAIR | negatives()).text
    inside = whole.index("degrees, and the fan")
    written, llm = write(TASK, reply(whole[:inside], "length"), mode="one-call")
    assert by_level(written.draft) == TEXTS | {1: NEGATIVE[: NEGATIVE.index(" It shuts")]}
    assert len(llm.requests) == 1  # the next one would be cut, too
    for cut in (whole.index("level_1"), whole.index("The bypass") + 5, 10, 0):
        written, llm = write(TASK, reply(whole[:cut], "length"), mode="one-call")
        assert (written.draft, reasons(written)) == (None, [(None, "cut at the token limit")])
        assert len(llm.requests) == 1


@pytest.mark.parametrize(
    ("finish_reason", "told"),
    [
        ("refused", "request refused by the server"),
        ("failed", "the server failed again and again"),
        ("content_filter", "held back by the server's filter"),
        ("tool_calls", "calls a tool"),
    ],
)
def test_what_was_not_finished_is_set_aside(finish_reason, told):
    written, llm = write(SEED, reply(negatives(), finish_reason), mode="one-call")
    assert reasons(written) == [(None, told)]
    assert by_level(written.draft) == {}
    assert len(llm.requests) == 1
