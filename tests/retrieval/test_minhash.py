"""Near duplicates: found where texts are nearly equal, never where they are not, the same each time."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.retrieval.minhash import RUN, NearDuplicates, signatures
from finegrade.text import normalised

WORDS = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in ("lmo", "nar", "sti", "vex")]


def text(dice: random.Random, number: int) -> str:
    return " ".join(dice.choices(WORDS, k=number))


def runs(one: str) -> set[str]:
    folded = normalised(one)
    return {folded[i : i + RUN] for i in range(max(1, len(folded) - RUN + 1))}


def similarity(one: str, other: str) -> float:
    return len(runs(one) & runs(other)) / len(runs(one) | runs(other))


def flags(tmp_path, *batches: list[str], **options: int) -> list[bool]:
    with NearDuplicates(tmp_path / "signatures", **options) as found:
        for batch in batches:
            found.add(batch)
        result = found.flags().tolist()
    assert not (tmp_path / "signatures").exists()
    return result


def test_the_share_of_equal_positions_estimates_the_similarity():
    dice = random.Random(0)
    wrong = []
    for _ in range(200):
        one = text(dice, 60).split()
        other = [word if dice.random() < 0.9 else dice.choice(WORDS) for word in one]
        a, b = " ".join(one), " ".join(other)
        left, right = signatures([a, b])
        wrong.append((left == right).mean() - similarity(a, b))
    assert abs(np.mean(wrong)) < 0.02
    assert np.std(wrong) < 0.12


def test_a_text_s_signature_does_not_depend_on_its_neighbours():
    texts = ["", "a", "abcd", "abcde", "ab cde", "日本語の文", "One two three.", "one, TWO (three)"]
    together = signatures(texts)
    for one, row in zip(texts, together, strict=True):
        assert (signatures([one])[0] == row).all()
    assert (together[-1] == together[-2]).all()
    assert len({row.tobytes() for row in together}) == len(texts) - 1


@settings(max_examples=50, deadline=None)
@given(texts=st.lists(st.text(max_size=30), min_size=1, max_size=8))
def test_any_texts_have_signatures(texts):
    assert signatures(texts).shape == (len(texts), 32)


def test_equal_and_nearly_equal_texts_are_found_once(tmp_path):
    dice = random.Random(1)
    first, second = text(dice, 50), text(dice, 50)
    near = first.replace(first.split()[20], "other", 1)
    assert similarity(first, near) > 0.85
    assert flags(tmp_path, [first, second], [near, first, second.upper() + "!"]) == [False, False, True, True, True]


@pytest.mark.parametrize("at_once", [1 << 22, 100, 7])
def test_of_many_texts_the_near_ones_are_found_and_no_others(tmp_path, at_once):
    dice = random.Random(2)
    originals = [text(dice, 40) for _ in range(300)]
    copies = [" ".join([*one.split()[:-1], dice.choice(WORDS)]) for one in originals[:100]]
    found = flags(tmp_path, originals, copies, at_once=at_once)
    assert not any(found[:300])
    assert sum(found[300:]) >= 98


def test_a_text_that_nobody_watches_counts_for_those_after_it(tmp_path):
    dice = random.Random(3)
    one, other = text(dice, 40), text(dice, 40)
    with NearDuplicates(tmp_path / "signatures") as found:
        found.add([one])
        found.add([other, one], watched=False)
        found.add([other])
        assert found.flags().tolist() == [False, True]


@pytest.mark.parametrize(("changed", "found_at_least"), [(0.02, 0.99), (0.04, 0.9)])
def test_how_many_near_duplicates_are_found(tmp_path, changed, found_at_least):
    """Also where many texts share a band: a text is compared with the first of it, and with the one before."""
    dice = random.Random(4)
    originals = [text(dice, 60).split() for _ in range(300)]
    copies = [[word if dice.random() > changed else dice.choice(WORDS) for word in one] for one in originals]
    near = [similarity(" ".join(a), " ".join(b)) >= 0.85 for a, b in zip(originals, copies, strict=True)]
    found = flags(tmp_path, map(" ".join, originals), map(" ".join, copies))[300:]
    assert sum(near) > 100
    assert sum(a and b for a, b in zip(near, found, strict=True)) >= found_at_least * sum(near)


@settings(max_examples=20, deadline=None)
@given(texts=st.lists(st.sampled_from([text(random.Random(i % 7), 12) + f" {i % 3}" for i in range(40)]), max_size=40))
def test_how_many_are_sorted_at_once_changes_nothing(tmp_path_factory, texts):
    folder = tmp_path_factory.mktemp("parts")
    whole = flags(folder, texts)
    assert flags(folder, texts, at_once=3) == whole


def test_no_texts(tmp_path):
    assert flags(tmp_path) == []
    assert flags(tmp_path, []) == []
