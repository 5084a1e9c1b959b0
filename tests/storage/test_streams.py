"""Of a long stream the best stays, or some at random, in memory that does not grow with it."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from finegrade.storage.streams import Best, Drawn


@given(st.lists(st.integers(0, 5)), st.integers(1, 6))
def test_the_best_are_kept_and_listed_best_first_and_of_equal_ones_the_earlier(keys, number):
    best = Best(number)
    for place, key in enumerate(keys):
        best.offer(key, {"place": place})  # things that have no order
    expected = sorted(range(len(keys)), key=lambda place: (-keys[place], place))[:number]
    assert [thing["place"] for thing in best] == expected


def test_few_numbers_are_all_kept():
    drawn = Drawn(5, 0)
    for value in (3.0, 1.0, 2.0):
        drawn.add(value)
    assert list(drawn.values) == [3.0, 1.0, 2.0]


def test_of_many_numbers_each_is_as_likely_to_stay():
    counts = Counter()
    for seed in range(2_000):
        drawn = Drawn(5, seed)
        for value in range(20):
            drawn.add(value)
        assert len(set(drawn.values)) == 5
        counts.update(drawn.values)
    assert set(counts) == set(range(20))
    assert all(abs(count - 500) < 100 for count in counts.values())  # five standard deviations


def test_the_same_seed_draws_the_same():
    first, second, other = (Drawn(5, seed) for seed in (1, 1, 2))
    for value in range(100):
        for drawn in (first, second, other):
            drawn.add(value)
    assert first.values == second.values != other.values
