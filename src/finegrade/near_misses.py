"""Near misses: positives that an LLM rewrites so that they answer a sibling query instead."""

import random
from collections.abc import Sequence

from finegrade.records import Seed
from finegrade.siblings import Siblings, to_change


def find_siblings(
    seeds: Sequence[Seed], max_chars: int, seed: int, within_groups: bool = True
) -> list[tuple[Seed, str]]:
    """Seeds worth rewriting, each with the real query that the text shall answer, in the order to ask for them.

    The positive must hold words that belong to the query and not to the sibling: else there is
    nothing in it to change, and a small model copies. Those that hold most come first.

    Args:
        seeds: All train seeds; siblings are found among them.
        max_chars: Of a positive that is rewritten.
        seed: Of the order among equals.
        within_groups: Whether a sibling must be of the same group.
    """
    seeds = [seed for seed in seeds if seed.query]
    siblings = Siblings(seeds, within_groups)
    order = random.Random(seed).sample(list(seeds), len(seeds))
    found = []
    for one in order:
        positive = one.positives[0]
        sibling = siblings.nearest(one) if len(positive) <= max_chars else None
        if sibling is not None:
            words = to_change(one.query, positive, sibling)
            if words:
                found.append((len(words), one, sibling))
    found.sort(key=lambda entry: -entry[0])
    return [(one, sibling) for _, one, sibling in found]
