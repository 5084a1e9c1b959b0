"""The ledger and the budget of a run for workers on other machines: they stay where the run folder is, with a keeper.

A worker asks the keeper before each attempt, and hands it each reply before it uses it. So a machine that dies takes
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
from finegrade.llm.accounts import Budget, OwnAccounts
from finegrade.llm.ledger import Ledger, Reply
from finegrade.llm.request import ChatRequest

_GATHERED = 0.005  # seconds for which calls are gathered: a message takes the keeper longer than what it says
_Call = tuple[Any, ...]
"""Name of a method, and its arguments."""


class Keeper:
    """Keeps a run's accounts for all workers; a Ray actor on the machine of the run folder.

    Whoever works on a part has a turn. When a part is taken up again, who had it before is gone: what was under way
    for that turn may have been paid for, and is lost.

    Args:
        path: Of the ledger.
        purpose: Whose requests these are: the stage's name.
        config: Caps and prices.
    """

    def __init__(self, path: Path, purpose: str, config: LLMConfig) -> None:
        self._path, self._purpose, self._config = path, purpose, config
        self._turns: dict[int, str] = {}  # part -> whose turn it is
        self._under_way: dict[str, int] = {}  # turn -> attempts

    async def open(self) -> None:
        """Opens the ledger: SQLite wants it in the thread that uses it, which is not the one that makes an actor."""
        self._ledger = Ledger(self._path, self._purpose)
        self._budget = Budget(self._config, self._ledger)
        self._accounts = OwnAccounts(self._ledger, self._budget)

    async def close(self) -> None:
        """Returns when all is on the disk."""
        self._accounts.close()
        self._ledger.close()

    async def do(self, calls: list[_Call]) -> list[Any]:
        """Makes calls of the methods below that wait for no other worker; gives what each returned or raised."""
        made = (getattr(self, what)(*values) for what, *values in calls)
        return await asyncio.gather(*made, return_exceptions=True)

    async def take_up(self, turn: str, part: int) -> None:
        """Begins a turn, and ends the one that the part had before."""
        for _ in range(self._under_way.pop(self._turns.get(part, ""), 0)):
            await self._accounts.lose()
        self._turns[part], self._under_way[turn] = turn, 0

    async def find(self, turn: str, key: str) -> Reply | None:
        """See `Accounts`."""
        return await self._accounts.find(key)

    async def begin_at_once(self, turn: str, key: str, request: ChatRequest) -> bool:
        """See `Accounts`; False where it would have to wait for its share of the budget."""
        if self._budget.refusal(request):
            return False
        await self.begin(turn, key, request)
        return True

    async def begin(self, turn: str, key: str, request: ChatRequest) -> None:
        """See `Accounts`."""
        await self._accounts.begin(key, request)
        if turn not in self._under_way:  # it ended while this waited for its share of the budget
            await self._accounts.take_back(key, request)
            raise _no_turn()
        self._under_way[turn] += 1

    async def settle(self, turn: str, key: str, request: ChatRequest, reply: Reply) -> Reply | None:
        """See `Accounts`; where another worker asked the same at the same time, both go on with the same reply."""
        self._ended(turn)
        await self._accounts.settle(key, request, reply)
        return await self._accounts.find(key)

    async def lose(self, turn: str) -> None:
        """See `Accounts`."""
        self._ended(turn)
        await self._accounts.lose()

    async def take_back(self, turn: str, key: str, request: ChatRequest) -> None:
        """See `Accounts`."""
        self._ended(turn)
        await self._accounts.take_back(key, request)

    def _ended(self, turn: str) -> None:
        if turn not in self._under_way:
            raise _no_turn()
        self._under_way[turn] -= 1


def _no_turn() -> RuntimeError:
    return RuntimeError("another worker has taken up this part")


class KeptAccounts:
    """`Accounts` that a keeper keeps.

    Args:
        keeper: The handle of its actor.
    """

    def __init__(self, keeper: Any) -> None:
        self._keeper, self._turn = keeper, ""
        self._gathered: list[tuple[_Call, asyncio.Future[Any]]] = []
        self._on_their_way: set[asyncio.Task[None]] = set()

    async def take_up(self, part: int) -> None:
        """Begins with a part."""
        self._turn = uuid4().hex
        await self._tell("take_up", part)

    async def find(self, key: str) -> Reply | None:
        """See `Accounts`."""
        found: Reply | None = await self._tell("find", key)
        return found

    async def begin(self, key: str, request: ChatRequest) -> None:
        """See `Accounts`."""
        if not await self._tell("begin_at_once", key, request):
            with as_if_here():  # by itself: what it waits for may be among what was gathered with it
                await self._keeper.begin.remote(self._turn, key, request)

    async def settle(self, key: str, request: ChatRequest, reply: Reply) -> Reply:
        """See `Accounts`."""
        kept: Reply = await self._tell("settle", key, request, reply)
        return kept

    async def lose(self) -> None:
        """See `Accounts`."""
        await self._tell("lose")

    async def take_back(self, key: str, request: ChatRequest) -> None:
        """See `Accounts`."""
        await self._tell("take_back", key, request)

    async def _tell(self, what: str, *values: Any) -> Any:
        answer = asyncio.get_running_loop().create_future()
        self._gathered.append(((what, self._turn, *values), answer))
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
                came = await self._keeper.do.remote([call for call, _ in gathered])
        except Exception as error:  # whatever it is, who waits must hear of it
            came = [error] * len(gathered)
        for (_, answer), one in zip(gathered, came, strict=True):
            if answer.done():  # who waited was stopped
                continue
            if isinstance(one, Exception):
                answer.set_exception(one)
            else:
                answer.set_result(one)


@contextmanager
def as_if_here() -> Iterator[None]:
    """For calls of the keeper: raises its input errors as they were, and its end as another.

    Raises:
        InputError: The keeper's; or it is not there.
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
