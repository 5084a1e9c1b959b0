"""Drafts become samples: what repeats goes, what the LLM did not write the corpus gives, for pairs at least."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.config.toml import parse_config
from finegrade.records import Negative, Seed, SetAside
from finegrade.synthesis.requests import sources_of
from finegrade.synthesis.samples import Counts, Repeats, samples_of_seeds, samples_of_tasks
from finegrade.synthesis.writer import Draft
from finegrade.text import content_hash, normalised
from finegrade.training.variants import hardest_mined

THINGS = ["valve", "pump", "boiler", "flap", "heater", "probe", "fan", "hose", "gauge", "drain", "cock", "tank"]
LEVELS = (4, 3, 2, 1)


def passage(number, *more):
    """A text with few words in common with that of another number."""
    own = content_hash("passage", str(number))
    return " ".join([THINGS[number % 12], "part", *(own[i : i + 4] for i in range(0, 16, 2)), *more])


def negative(level, text):
    return Negative(text=text, level=level, source="llm", flaw="so")


def draft(number, levels=LEVELS, side="train", kind="short-long", **changes):
    texts = tuple(negative(level, passage(1_000 * level + number)) for level in levels)
    made = Draft(
        id=content_hash(str(number)), seed="", query=f"{passage(50_000 + number)}?", positive=passage(number),
        negatives=texts, group=f"task{number % 3}", side=side, kind=kind, instruction="Find it",
    )  # fmt: skip
    return made.model_copy(update=changes)


def made_seeds(number=40, positives=1):
    return [
        Seed(
            id=str(i), query=f"What is {passage(90_000 + i)}?", group=f"group{i % 4}",
            positives=tuple(passage(100 * i + k) for k in range(positives)),
        )
        for i in range(number)
    ]  # fmt: skip


def of_seed(seed, levels=LEVELS):
    query, positive = seed.query, seed.positives[0]
    return draft(0, kind="").model_copy(
        update={
            "id": content_hash(query, positive), "seed": seed.id, "query": query, "positive": positive,
            "group": seed.group, "instruction": "",
            "negatives": tuple(negative(level, passage(70_000 + 10 * int(seed.id) + level)) for level in levels),
        }
    )  # fmt: skip


def config(kind="tasks", **synthesis):
    source = {"kind": kind} if kind == "tasks" else {"kind": kind, "path": "x"}
    llm = {"base_url": "http://127.0.0.1:1/v1", "model": "m"}
    return parse_config({"source": source, "llm": llm, "synthesis": synthesis}, "test").resolved


# what repeats


def without(drafts, folder, side="train"):
    """The drafts that are left, and what was set aside."""
    late: list[SetAside] = []
    repeats = Repeats(lambda: iter(drafts), folder)
    return list(repeats.without(side, late.append)), late


def test_what_repeats_nothing_stays_as_it_is(tmp_path):
    drafts = [draft(i) for i in range(30)]
    assert without(drafts, tmp_path) == (drafts, [])


@pytest.mark.parametrize("field", ["query", "positive"])
def test_of_two_samples_with_nearly_the_same_query_or_positive_the_first_stays(tmp_path, field):
    first, other = draft(0), draft(1)
    second = draft(2, **{field: getattr(first, field).upper() + "!"})
    left, late = without([first, other, second], tmp_path)
    assert left == [first, other]
    assert [(row.order, row.level, row.reason, row.text) for row in late] == [
        (second.id, None, f"nearly the {field} of another sample", second.query)
    ]


def test_of_a_negative_that_repeats_only_its_level_goes(tmp_path):
    first = draft(0)
    second = draft(1, negatives=(negative(4, first.negatives[2].text + "."), *draft(1).negatives[1:]))
    left, late = without([first, second], tmp_path)
    assert left == [first, second.model_copy(update={"negatives": second.negatives[1:]})]
    assert [(row.order, row.level, row.reason) for row in late] == [
        (second.id, 4, "nearly the negative of another sample")
    ]


def test_the_test_side_wins_wherever_it_stands(tmp_path):
    train, test = draft(0), draft(1, levels=(), side="test", query=draft(0).query)
    for drafts in ([train, test], [test, train]):
        assert without(drafts, tmp_path, "test") == ([test], [])
        left, late = without(drafts, tmp_path, "train")
        assert left == []
        assert [row.order for row in late] == [train.id]


def test_a_label_is_right_for_many_queries(tmp_path):
    """It repeats where the query does, too; a long text repeats by itself."""
    label, other = "Billing department", "Repairs"
    drafts = [
        draft(i, kind="long-short", positive=label, negatives=(negative(4, other), negative(1, "Sales")))
        for i in range(9)
    ]
    assert without(drafts, tmp_path) == (drafts, [])
    long = passage(7, *THINGS[:8])
    left, _ = without([one.model_copy(update={"positive": long}) for one in drafts], tmp_path)
    assert len(left) == 1


@pytest.mark.parametrize("of", ["query", "positive"])
@pytest.mark.parametrize("as_", ["query", "positive", "negative"])
def test_nothing_of_what_tests_is_in_what_trains(tmp_path, of, as_):
    """Also where it has another role there, as in a pair of equal sentences that is turned around."""
    test = draft(1, levels=(), side="test", kind="sts")
    text = getattr(test, of).upper()
    change = {"negatives": (negative(4, text), *draft(0).negatives[1:])} if as_ == "negative" else {as_: text}
    train = draft(0, kind="sts", **change)
    left, late = without([train, test], tmp_path)
    assert [row.level for row in late] == [4 if as_ == "negative" else None]
    assert left == ([train.model_copy(update={"negatives": train.negatives[1:]})] if as_ == "negative" else [])
    assert without([train, test], tmp_path, "test") == ([test], [])


def test_a_held_out_label_is_no_text_of_what_trains(tmp_path):
    label = "how to reset a bike derailleur"
    test = draft(1, levels=(), side="test", query=label)
    as_positive, as_negative = draft(0, positive=label), draft(2, negatives=(negative(4, label.title()),))
    left, late = without([as_positive, as_negative, test], tmp_path)
    assert left == [as_negative.model_copy(update={"negatives": ()})]
    assert [(row.order, row.level) for row in late] == [(as_positive.id, None), (as_negative.id, 4)]
    answer = test.model_copy(update={"query": draft(1).query, "positive": label})
    assert without([as_positive, answer], tmp_path) == ([as_positive], [])  # a label may answer another query, too


def test_query_and_positive_of_one_sample_may_be_nearly_the_same(tmp_path):
    for side in ("train", "test"):
        one = draft(1, levels=(), side=side, kind="sts", positive=draft(1).query.replace("?", " now"))
        assert without([one], tmp_path, side) == ([one], [])


def test_what_goes_as_a_whole_leaves_room_for_others(tmp_path):
    first, gone, last = draft(0), draft(1, query=draft(0).query), draft(2, negatives=draft(1).negatives)
    left, late = without([first, gone, last], tmp_path)
    assert left == [first, last]
    assert [row.order for row in late] == [gone.id]


def test_what_repeats_in_the_user_s_own_data_stays(tmp_path):
    seeds = made_seeds(2)
    twins = [of_seed(seeds[0]), of_seed(seeds[1]).model_copy(update={"query": seeds[0].query})]
    assert without(twins, tmp_path) == (twins, [])
    twins[1] = twins[1].model_copy(update={"negatives": twins[0].negatives})  # these the LLM wrote
    left, late = without(twins, tmp_path)
    assert [len(one.negatives) for one in left] == [4, 0]
    assert len(late) == 4


numbers = st.lists(st.tuples(st.integers(0, 6), st.sampled_from(["train", "test"])), max_size=14)


@settings(max_examples=30, deadline=None)
@given(numbers)
def test_each_query_is_left_once_and_nothing_is_lost_without_a_word(tmp_path_factory, given_numbers):
    drafts = [draft(n, side=side, id=str(i)) for i, (n, side) in enumerate(given_numbers)]
    folder = tmp_path_factory.mktemp("repeats")
    (test, late_test), (train, late_train) = without(drafts, folder, "test"), without(drafts, folder, "train")
    left = [normalised(one.query) for one in (*test, *train)]
    assert sorted(left) == sorted({normalised(one.query) for one in drafts})
    tested = {n for n, side in given_numbers if side == "test"}
    assert {one.query for one in test} == {draft(n).query for n in tested}
    kept = {one.id for one in (*test, *train)}
    assert {row.order for row in (*late_test, *late_train)} == {one.id for one in drafts} - kept
    assert list(folder.iterdir()) == []  # the signatures are gone


def test_negatives_from_the_corpus_are_of_the_sample_s_language():
    drafts = [draft(i, levels=(), language=("en", "de")[i % 2]) for i in range(40)]
    settings = config("tasks", sources={str(level): {"mined": 1, "random": 1} for level in range(1, 5)})
    made = list(samples_of_tasks(drafts, settings.synthesis, 0, Counter()))
    language = {one.positive: one.language for one in drafts}
    assert len(made) == 40
    assert sum(len(sample.negatives) for sample in made) > 80
    assert all(language[one.text] == language[sample.positive] for sample in made for one in sample.negatives)


# samples of seeds


def levels_of(sample):
    return {one.level: one.source for one in sample.negatives}


def of_seeds(drafts, seeds, **synthesis):
    passed_over = Counter()
    return list(samples_of_seeds(drafts, seeds, config("pairs", **synthesis).synthesis, 0, passed_over)), passed_over


def test_samples_that_the_llm_wrote_for_come_first_then_all_others():
    seeds = made_seeds()
    drafted = [seeds[7], seeds[3]]
    samples, _ = of_seeds([of_seed(seed) for seed in drafted], seeds)
    others = [seed for seed in seeds if seed not in drafted]
    assert [sample.query for sample in samples] == [seed.query for seed in (*drafted, *others)]
    assert all(levels_of(sample) == dict.fromkeys((1, 2, 3, 4), "llm") for sample in samples[:2])
    assert {source for sample in samples[2:] for source in levels_of(sample).values()} == {"mined", "random"}
    assert [sample.id for sample in samples] == [content_hash(s.query, s.positive) for s in samples]


def test_levels_that_were_refused_are_filled_from_the_corpus():
    seeds = made_seeds(300)
    (sample, *_), _ = of_seeds([of_seed(seeds[0], levels=(3,))], seeds)
    assert levels_of(sample) == {1: "random", 2: "mined", 3: "llm", 4: "mined"}
    assert [one.level for one in sample.negatives] == [1, 2, 3, 4]
    corpus = {text for seed in seeds for text in seed.positives}
    assert {one.text in corpus for one in sample.negatives if one.source != "llm"} == {True}


def test_the_hardest_that_the_corpus_gave_is_kept_beside_the_llm_s():
    seeds = made_seeds(300)
    displaced = []
    drafts = [of_seed(seeds[0]), of_seed(seeds[1], levels=(3,))]
    samples = list(samples_of_seeds(drafts, seeds, config("pairs").synthesis, 0, Counter(), displaced=displaced.append))
    corpus = {text for seed in seeds for text in seed.positives}
    (row,) = displaced  # the second sample has its own, as have those without an LLM's text
    assert row.sample == samples[0].id
    assert row.text in corpus - {seeds[0].positives[0]} - {one.text for one in samples[0].negatives}
    assert all(hardest_mined(sample) == sample.negatives[-1].text for sample in samples[1:])
    alone = samples_of_seeds(
        [of_seed(seeds[0])], seeds[:1], config("pairs").synthesis, 0, Counter(), displaced=displaced.append
    )
    assert len(list(alone)) == len(displaced) == 1


def test_every_positive_of_a_query_becomes_a_sample():
    seeds = made_seeds(positives=3)
    samples, _ = of_seeds([of_seed(seeds[5])], seeds)
    assert [sample.positive for sample in samples[:3]] == list(seeds[5].positives)
    assert [bool(levels_of(sample).get(4) == "llm") for sample in samples[:4]] == [True, False, False, False]
    assert Counter(sample.positive for sample in samples) == Counter(t for seed in seeds for t in seed.positives)
    assert len({sample.id for sample in samples}) == 120
    own = {seed.query: set(seed.positives) for seed in seeds}
    assert not [1 for sample in samples for one in sample.negatives if one.text in own[sample.query]]


def test_texts_that_nobody_asks_for_are_mined_and_no_samples():
    seeds = made_seeds(6)
    mute = [seed.model_copy(update={"query": ""}) for seed in seeds[1:]]
    (sample,), _ = of_seeds([], [seeds[0], *mute])
    assert {one.text for one in sample.negatives} <= {seed.positives[0] for seed in mute}
    assert sample.negatives


def test_a_positive_that_was_said_again_is_the_sample_s_positive():
    seeds = made_seeds()
    said = of_seed(seeds[0]).model_copy(update={"positive": "In quite other words."})
    samples, _ = of_seeds([said], seeds)
    assert samples[0].positive == "In quite other words."
    assert samples[0].id == content_hash(seeds[0].query, "In quite other words.")


@pytest.mark.parametrize("drafted", [0, 40])
def test_the_sources_that_are_configured_hold_with_and_without_the_llm(drafted):
    seeds = made_seeds(300)
    sources = {"4": {"random": 1}, "3": {"mined": 1}, "2": {"random": 1}, "1": {"mined": 1}}
    samples, _ = of_seeds([of_seed(seed, levels=()) for seed in seeds[:drafted]], seeds, sources=sources)
    assert {tuple(levels_of(sample).items()) for sample in samples} == {
        ((1, "mined"), (2, "random"), (3, "mined"), (4, "random"))
    }


def test_texts_that_were_no_negatives_are_counted():
    seeds = made_seeds(60)
    copies = [seed.model_copy(update={"positives": (seeds[0].positives[0] + f" {i}",)}) for i, seed in enumerate(seeds)]
    _, passed_over = of_seeds([], [seeds[0], *copies[1:]])
    assert passed_over["mined: near-copy of the positive"] > 0


# samples of tasks


def of_tasks(drafts, **synthesis):
    passed_over = Counter()
    return list(samples_of_tasks(drafts, config(**synthesis).synthesis, 0, passed_over))


def test_samples_of_tasks_keep_kind_and_instruction_and_what_was_refused_stays_empty():
    drafts = [draft(i, levels=(4, 2)) for i in range(30)]
    displaced = []
    samples = list(samples_of_tasks(drafts, config().synthesis, 0, Counter(), displaced=displaced.append))
    assert [(s.kind, s.instruction, s.group) for s in samples] == [(d.kind, "Find it", d.group) for d in drafts]
    assert [s.id for s in samples] == [content_hash(d.query, d.positive) for d in drafts]
    assert {tuple(levels_of(sample).items()) for sample in samples} == {((2, "llm"), (4, "llm"))}
    assert [row.sample for row in displaced] == [s.id for s in samples]


def test_levels_of_tasks_that_are_the_corpus_s_are_mined_from_the_samples_beside():
    drafts = [draft(i, levels=(4, 3)) for i in range(60)]
    samples = of_tasks(drafts, sources={"2": {"mined": 1}, "1": {"random": 1}})
    positives = {one.positive for one in drafts}
    groups = {one.positive: one.group for one in drafts}
    for sample in samples:
        assert levels_of(sample).items() >= {(4, "llm"), (3, "llm"), (1, "random")}
        assert {n.text for n in sample.negatives if n.source != "llm"} <= positives - {sample.positive}
        assert {groups[n.text] for n in sample.negatives if n.source == "random"}.isdisjoint({sample.group})


def test_a_text_of_the_corpus_that_the_llm_wrote_too_is_not_taken_twice():
    """The level stays empty: two levels of a sample are two texts."""
    drafts, mixed = [draft(i, levels=(4,)) for i in range(60)], {"sources": {"1": {"random": 1}, "2": {"mined": 1}}}
    mined = next(one.text for one in of_tasks(drafts, **mixed)[0].negatives if one.level == 2)
    same = draft(0, negatives=(negative(4, mined.upper() + "!"),))
    assert levels_of(of_tasks([same, *drafts[1:]], **mixed)[0]) == {1: "random", 4: "llm"}


def test_mixed_sources_take_what_was_drawn_for_each_sample():
    settings_ = {"sources": {"1": {"llm": 1, "random": 1}}}
    ids = [content_hash(str(i)) for i in range(40)]
    drawn = [sources_of(one, config(**settings_).synthesis, 0)[1] for one in ids]
    drafts = [draft(i, levels=LEVELS if drawn[i] == "llm" else LEVELS[:3]) for i in range(40)]
    assert [levels_of(sample)[1] for sample in of_tasks(drafts, **settings_)] == drawn
    assert set(drawn) == {"llm", "random"}


def test_many_samples_are_mined_in_parts_and_none_is_lost(monkeypatch):
    monkeypatch.setattr("finegrade.synthesis.samples.MINED_TOGETHER", 7)
    drafts = [draft(i, levels=()) for i in range(30)]
    samples = of_tasks(drafts, sources={str(level): {"random": 1} for level in LEVELS})
    assert [sample.query for sample in samples] == [one.query for one in drafts]
    parts = [{one.positive for one in drafts[i : i + 7]} for i in range(0, 30, 7)]
    for i, sample in enumerate(samples):
        assert {one.text for one in sample.negatives} <= parts[i // 7]


def test_counts_count_what_goes_by():
    counts = Counts(4)
    samples = of_tasks([draft(i, levels=LEVELS[:i]) for i in range(5)])
    assert list(counts.passing(samples)) == samples
    assert (counts.samples, counts.written) == (5, 4)
    assert counts.kinds == {"short-long": 5}
    assert counts.negatives == {"level 4 llm": 4, "level 3 llm": 3, "level 2 llm": 2, "level 1 llm": 1}
    assert counts.empty_levels == {4: 1, 3: 2, 2: 3, 1: 4}
    rows = [SetAside(order="1", query="q", level=None, reason="so", text="t")] * 3
    assert list(counts.set_aside(rows)) == rows
    assert counts.reasons == {"llm: so": 3}
