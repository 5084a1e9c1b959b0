"""Whether a linear model can tell who wrote a text: it can where there is something to see, and else tosses a coin."""

import random

import pytest

from finegrade.records import Negative, Sample
from finegrade.synthesis.style_probe import FEWEST, TEXTS, probe
from helpers.corpus import WORDS

CORPUS, PAIR = "llm or corpus negative", "llm negative or positive"


def texts(seed, *habit):
    """A source of sentences without end; all have the writer's habit."""
    dice = random.Random(seed)
    while True:
        yield " ".join([*habit, *dice.choices(WORDS, k=14)])


def samples(number, llm, corpus, positive, of_each=1):
    for i in range(number):
        negatives = [Negative(text=next(llm), level=4, source="llm") for _ in range(of_each)]
        negatives += [Negative(text=next(corpus), level=1, source="mined") for _ in range(of_each)]
        yield Sample(id=str(i), query="q", positive=next(positive), negatives=tuple(negatives), group="g")


@pytest.mark.parametrize("source", ["llm", "corpus", "positive"])
@pytest.mark.slow
def test_a_habit_gives_its_writer_away(source):
    writers = {name: texts(name) for name in ("llm", "corpus", "positive")}
    writers[source] = texts(source, "It", "is", "important", "to", "note", "that")
    found = probe(samples(60, **writers), 0)
    assert (found[CORPUS] > 0.9) == (source in ("llm", "corpus"))
    assert (found[PAIR] > 0.9) == (source in ("llm", "positive"))


@pytest.mark.slow
def test_texts_of_one_kind_cannot_be_told_apart():
    means = [probe(samples(120, texts(i), texts(i + 10), texts(i + 20)), 0) for i in range(3)]
    for name in (CORPUS, PAIR):
        assert sum(found[name] for found in means) / 3 == pytest.approx(0.5, abs=0.08)


@pytest.mark.slow
def test_what_texts_of_a_sample_share_gives_nobody_away():
    """Negatives of a sample are about its subject: by that alone the writer must not be known."""

    def about(i, source):
        return Negative(text=f"subject{i} {' '.join(random.Random(f'{i} {source}').choices(WORDS, k=8))}", level=1,
                        source=source)  # fmt: skip

    mixed = [
        Sample(id=str(i), query="q", positive="p", group="g",
               negatives=tuple(about(i, "llm" if i % 2 else "mined") for _ in range(4)))
        for i in range(40)
    ]  # fmt: skip
    assert probe(mixed, 0)[CORPUS] < 0.7


@pytest.mark.parametrize("number", [0, 1, 4, FEWEST - 1])
def test_too_few_texts_are_no_number(number):
    assert probe(samples(number, texts(1, "x"), texts(2), texts(3)), 0) == {CORPUS: None, PAIR: None}


@pytest.mark.slow
def test_without_texts_of_the_corpus_only_the_other_number_is_there():
    alone = [
        sample.model_copy(update={"negatives": sample.negatives[:1]})
        for sample in samples(60, texts(1, "It", "is", "important", "to", "note", "that"), texts(2), texts(3))
    ]
    found = probe(alone, 0)
    assert found[CORPUS] is None
    assert found[PAIR] > 0.9


def test_many_texts_of_few_samples_are_no_number():
    assert probe(samples(4, texts(1, "x"), texts(2), texts(3), of_each=20), 0)[CORPUS] is None


@pytest.mark.slow
def test_the_same_samples_and_seed_give_the_same_number():
    first, again, other = (probe(samples(40, texts(1), texts(2), texts(3)), seed) for seed in (0, 0, 1))
    assert first == again != other


@pytest.mark.parametrize("text", ["a b c", "C", "漢字 かな", "² ³"])
def test_texts_of_no_longer_words_do_no_harm(text):
    def same():
        for i in range(FEWEST):
            yield text + " " * i  # a text of the corpus counts once

    assert probe(samples(FEWEST, same(), same(), same()), 0) == {CORPUS: 0.5, PAIR: 0.5}


@pytest.mark.slow
def test_no_more_is_read_than_is_looked_at():
    read = []

    def endless():
        for sample in samples(10**9, texts(1), texts(2), texts(3), of_each=8):
            read.append(sample)
            yield sample

    probe(endless(), 0)
    assert len(read) <= 200


def test_no_more_texts_are_held_than_are_looked_at(monkeypatch):
    """Also where one kind is missing, and all samples are gone through."""
    held = []
    monkeypatch.setattr(
        "finegrade.synthesis.style_probe._separability", lambda ours, others, seed: held.extend((ours, others))
    )
    many = (
        Sample(id=str(i), query="q", positive="p", group="g",
               negatives=tuple(Negative(text="n", level=level, source="llm") for level in (1, 2, 3)))
        for i in range(TEXTS * 2)
    )  # fmt: skip
    probe(many, 0)
    assert max(map(len, held)) == TEXTS
