"""What stays of a stream that may be longer than the memory: the best of it, or some of it at random."""

import heapq
import random
from collections.abc import Iterator
from itertools import count
from typing import Any, Generic, TypeVar

Thing = TypeVar("Thing")


class Best(Generic[Thing]):
    """The things with the highest keys; iterated over best first, of equal keys the earlier first.

    Args:
        number: At most so many.
    """

    def __init__(self, number: int) -> None:
        self._number, self._seen = number, count()
        self._heap: list[tuple[Any, int, Thing]] = []

    def offer(self, key: Any, thing: Thing) -> None:
        """Keeps a thing, if it is among the best.

        Args:
            key: A number, or a tuple of them; none of them nan, which has no place in an order.
            thing: What it is the key of.
        """
        entry = (key, -next(self._seen), thing)
        if len(self._heap) < self._number:
            heapq.heappush(self._heap, entry)
        else:
            heapq.heappushpop(self._heap, entry)

    def __iter__(self) -> Iterator[Thing]:
        return (thing for *_, thing in sorted(self._heap, reverse=True, key=lambda entry: entry[:2]))


class Drawn(Generic[Thing]):
    """Things of a stream, all as likely to be among those that stay (Vitter's algorithm R).

    Args:
        number: At most so many stay.
        seed: Of the draws.

    Attributes:
        values: Those that stay.
    """

    def __init__(self, number: int, seed: object) -> None:
        self._number, self._dice = number, random.Random(str(seed))
        self._seen = 0
        self.values: list[Thing] = []

    def add(self, value: Thing) -> None:
        """Keeps a thing, or not."""
        self._seen += 1
        if len(self.values) < self._number:
            self.values.append(value)
        elif (place := self._dice.randrange(self._seen)) < self._number:
            self.values[place] = value
