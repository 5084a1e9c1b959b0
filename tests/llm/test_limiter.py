"""As many requests under way as the server bears."""

import asyncio
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.llm.client import Limiter


async def under_way_at_most(limiter: Limiter, work: int, seconds: float = 0.001) -> int:
    """Sends so many through; gives how many were in at once."""
    inside, most = 0, 0

    async def one() -> None:
        nonlocal inside, most
        async with limiter.place():
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(seconds)
            inside -= 1

    await asyncio.gather(*(one() for _ in range(work)))
    return most


@pytest.mark.parametrize("most", [1, 3, 8])
def test_never_more_than_there_are_places(most):
    assert asyncio.run(under_way_at_most(Limiter(most), 30)) == most


def test_half_of_the_places_go_and_come_back_one_by_one():
    async def go():
        limiter = Limiter(8)
        limiter.overloaded(time.monotonic(), 0.0)
        assert limiter.limit == 4
        await under_way_at_most(limiter, 8)  # those that were free when the cut came go with the next that leave
        assert await under_way_at_most(limiter, 30) == 4
        for _ in range(4):
            limiter.answered()
        assert limiter.limit == 5
        assert await under_way_at_most(limiter, 30) == 5

    asyncio.run(go())


def test_what_was_sent_before_a_cut_cuts_no_further():
    async def go():
        limiter = Limiter(64)
        entered = time.monotonic()
        for _ in range(64):
            limiter.overloaded(entered, 0.0)
        assert limiter.limit == 32

    asyncio.run(go())


def test_nothing_is_sent_while_the_server_asks_for_a_pause():
    async def go():
        limiter = Limiter(4)
        limiter.overloaded(time.monotonic(), 0.2)
        began = time.monotonic()
        async with limiter.place():
            assert time.monotonic() - began >= 0.19

    asyncio.run(go())


@settings(max_examples=100, deadline=None)
@given(most=st.integers(1, 20), signals=st.lists(st.sampled_from(["answered", "overloaded", "through"]), max_size=80))
def test_there_is_always_a_place_and_never_more_than_allowed(most, signals):
    async def go():
        limiter = Limiter(most)
        for signal in signals:
            if signal == "answered":
                limiter.answered()
            elif signal == "overloaded":
                limiter.overloaded(time.monotonic(), 0.0)
            else:
                assert 1 <= await under_way_at_most(limiter, 25, 0) <= most
            assert 1 <= limiter.limit <= most

    asyncio.run(go())


def test_a_place_is_free_again_when_who_waits_is_cancelled():
    async def go():
        limiter = Limiter(1)
        limiter.overloaded(time.monotonic(), 60.0)
        waiting = asyncio.ensure_future(under_way_at_most(limiter, 1))
        await asyncio.sleep(0.01)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        limiter._resume = 0.0
        assert await asyncio.wait_for(under_way_at_most(limiter, 3), 5) == 1

    asyncio.run(go())
