"""The ledger and the budget of a run for workers on other machines: they stay where the run folder is, in an actor.

A worker asks the actor before each attempt, and hands it each reply before it uses it. So a machine that dies takes
nothing with it that was paid for, and the caps hold over all of them.
"""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

from finegrade.config import LLMConfig
from finegrade.errors import InputError
from finegrade.llm.accounts import Budget, LocalLedger
from finegrade.llm.ledger import Ledger, Reply
from finegrade.llm.request import ChatRequest

_GATHERED = 0.005  # seconds for which calls are gathered: a message takes the actor longer than what it says
_Call = tuple[Any, ...]
"""See `LedgerActor.call`."""


class LedgerActor:
    """The ledger and the budget of a run for all workers; a Ray actor on the machine of the run folder.

    Whoever works on a part has a turn. When a part is taken up again, who had it before is gone: what was under way
    for that turn may have been paid for, and is lost.
    """

    def __init__(self, path: Path, purpose: str, config: LLMConfig) -> None:
        self._path, self._purpose, self._config = path, purpose, config
        self._turns: dict[int, str] = {}  # part -> whose turn it is
        self._under_way: dict[str, int] = {}  # turn -> attempts

    async def open(self) -> None:
        """Opens the ledger: SQLite wants it in the thread that uses it, which is not the one that makes an actor."""
        self._ledger = Ledger(self._path, self._purpose)
        self._budget = Budget(self._config, self._ledger)
        self._local = LocalLedger(self._ledger, self._budget)

    async def close(self) -> None:
        """Returns when all is on the disk."""
        self._local.close()
        self._ledger.close()

    async def take_up(self, turn: str, part: int) -> None:
        """Begins a turn, and ends the one that the part had before."""
        for _ in range(self._under_way.pop(self._turns.get(part, ""), 0)):
            await self._local.lose()
        self._turns[part], self._under_way[turn] = turn, 0

    async def do(self, turn: str, calls: list[_Call]) -> list[Any]:
        """Makes calls that wait for no other worker; gives what each returned or raised."""
        return await asyncio.gather(*(self.call(turn, *call) for call in calls), return_exceptions=True)

    async def call(self, turn: str, what: str, *values: Any) -> Any:
        """Calls a method of `LedgerAndBudget` for a turn.

        Args:
            turn: Whose turn it is.
            what: The method's name; or "begin at once", which gives False where it would have to wait for its share of
                the budget.
            values: Its arguments.
        """
        if what == "begin at once":
            if self._budget.refusal(values[1]):
                return False
            what = "begin"
        elif what in ("settle", "lose", "take_back"):
            if turn not in self._under_way:
                raise _no_turn()
            self._under_way[turn] -= 1
        result = await getattr(self._local, what)(*values)
        if what == "settle":  # where another worker asked the same at the same time, both go on with the same reply
            return await self._local.find(values[0])
        if what != "begin":
            return result
        if turn not in self._under_way:  # it ended while this waited for its share of the budget
            await self._local.take_back(*values)
            raise _no_turn()
        self._under_way[turn] += 1
        return True


def _no_turn() -> RuntimeError:
    return RuntimeError("another worker has taken up this part")


class LedgerProxy:
    """`LedgerAndBudget` on another machine."""

    def __init__(self, actor: Any) -> None:
        self._actor, self._turn = actor, ""
        self._gathered: list[tuple[_Call, asyncio.Future[Any]]] = []
        self._on_their_way: set[asyncio.Task[None]] = set()

    async def take_up(self, part: int) -> None:
        """Begins with a part."""
        self._turn = uuid4().hex
        with as_if_here():
            await self._actor.take_up.remote(self._turn, part)

    async def find(self, key: str) -> Reply | None:
        """See `LedgerAndBudget`."""
        found: Reply | None = await self._call("find", key)
        return found

    async def begin(self, key: str, request: ChatRequest) -> None:
        """See `LedgerAndBudget`."""
        if not await self._call("begin at once", key, request):
            with as_if_here():  # by itself: what it waits for may be among what was gathered with it
                await self._actor.call.remote(self._turn, "begin", key, request)

    async def settle(self, key: str, request: ChatRequest, reply: Reply) -> Reply:
        """See `LedgerAndBudget`."""
        kept: Reply = await self._call("settle", key, request, reply)
        return kept

    async def lose(self) -> None:
        """See `LedgerAndBudget`."""
        await self._call("lose")

    async def take_back(self, key: str, request: ChatRequest) -> None:
        """See `LedgerAndBudget`."""
        await self._call("take_back", key, request)

    async def _call(self, *call: Any) -> Any:
        answer = asyncio.get_running_loop().create_future()
        self._gathered.append((call, answer))
        if len(self._gathered) == 1:
            task = asyncio.create_task(self._hand_over())
            self._on_their_way.add(task)
            task.add_done_callback(self._on_their_way.discard)
        return await answer

    async def _hand_over(self) -> None:
        await asyncio.sleep(_GATHERED)
        gathered, self._gathered = self._gathered, []
        try:
            with as_if_here():
                results = await self._actor.do.remote(self._turn, [call for call, _ in gathered])
        except Exception as error:  # whatever it is, who waits must hear of it
            results = [error] * len(gathered)
        for (_, answer), one in zip(gathered, results, strict=True):
            if answer.done():  # who waited was stopped
                continue
            if isinstance(one, Exception):
                answer.set_exception(one)
            else:
                answer.set_result(one)


@contextmanager
def as_if_here() -> Iterator[None]:
    """For calls of the actor: raises its input errors as they were, and its end as another.

    Raises:
        InputError: The actor's; or it is not there.
    """
    from ray.exceptions import RayActorError, RayTaskError

    try:
        yield
    except RayTaskError as error:
        if isinstance(error.cause, InputError):
            raise error.cause from None
        raise
    except RayActorError as error:
        wanted, remedy = "it to be there until all is written", "Run the same command again; replies so far are kept."
        raise InputError("the Ray actor that keeps the ledger", got=error, wanted=wanted, remedy=remedy) from None
