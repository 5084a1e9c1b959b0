"""A part of a stream that does not fit into memory: the best items, or some at random."""

import heapq
import random
from collections.abc import Iterator
from itertools import count
from typing import Any, Generic, TypeVar

Thing = TypeVar("Thing")


class Best(Generic[Thing]):
    """At most ``number`` items with the highest keys; iterated over best first, of equal keys the earlier first."""

    def __init__(self, number: int) -> None:
        self._number, self._seen = number, count()
        self._heap: list[tuple[Any, int, Thing]] = []

    def offer(self, key: Any, thing: Thing) -> None:
        """Keeps an item if it is among the best. A key is a number or a tuple of them, without nan: it has no order."""
        entry = (key, -next(self._seen), thing)
        if len(self._heap) < self._number:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def __iter__(self) -> Iterator[Thing]:
        return (thing for *_, thing in sorted(self._heap, reverse=True, key=lambda entry: entry[:2]))


class Drawn(Generic[Thing]):
    """A uniform random sample of a stream in ``values``, at most ``number`` items (Vitter's algorithm R)."""

    def __init__(self, number: int, seed: object) -> None:
        self._number, self._dice = number, random.Random(str(seed))
        self._seen = 0
        self.values: list[Thing] = []

    def add(self, value: Thing) -> None:
        """Offers an item."""
        self._seen += 1
        if len(self.values) < self._number:
            self.values.append(value)
        elif (index := self._dice.randrange(self._seen)) < self._number:
            self.values[index] = value
