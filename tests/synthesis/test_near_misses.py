"""Which positives are rewritten, and for which sibling query."""

from finegrade.synthesis.requests import find_siblings
from finegrade.text import content_words, jaccard
from helpers.corpus import made_seeds


def test_siblings_are_real_queries_nearby_and_there_is_something_to_change():
    seeds = made_seeds()
    found = find_siblings(seeds, 600, 0)
    assert found
    by_query = {seed.query: seed for seed in seeds}
    changes = []
    for seed, sibling in found:
        own, other = content_words(seed.query), content_words(sibling)
        assert by_query[sibling].group == seed.group
        assert 0.25 <= jaccard(own, other) <= 0.8
        assert len(own ^ other) >= 2
        changes.append(len((own & content_words(seed.positives[0])) - other))
    assert changes == sorted(changes, reverse=True)
    assert min(changes) >= 1
    assert len({seed.id for seed, _ in found}) == len(found)
    assert found == find_siblings(seeds, 600, 0) != find_siblings(seeds, 600, 1)


def test_without_groups_siblings_may_be_of_any():
    seeds = [seed.model_copy(update={"group": seed.id}) for seed in made_seeds()[:6]]
    pairs = [seed.model_copy(update={"group": str(int(seed.id) // 2)}) for seed in made_seeds()[:6]]
    groups = {seed.query: seed.group for seed in pairs}
    assert {groups[sibling] == seed.group for seed, sibling in find_siblings(pairs, 600, 0)} == {True}
    assert {groups[sibling] == seed.group for seed, sibling in find_siblings(pairs, 600, 0, False)} == {True, False}
    assert find_siblings(seeds, 600, 0)  # alone in their groups, they look among each other


def test_long_positives_are_not_rewritten():
    seeds = made_seeds()
    longest = max(len(seed.positives[0]) for seed in seeds)
    short = [seed for seed in seeds if len(seed.positives[0]) < longest]
    assert {seed.id for seed, _ in find_siblings(seeds, longest - 1, 0)} <= {seed.id for seed in short}
    assert find_siblings(seeds, 10, 0) == []


def test_texts_that_nobody_asks_for_have_no_siblings():
    assert find_siblings([seed.model_copy(update={"query": ""}) for seed in made_seeds()], 600, 0) == []
