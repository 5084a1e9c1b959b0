"""Every request and raw reply, in SQLite, durable before it is used.

A request is identified by the hash of model, messages and parameters, so a second run asks nothing twice, and a
changed parser reads the replies again without asking.
"""

import asyncio
import json
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from types import TracebackType
from typing import Any, Self

from pydantic import field_validator

from finegrade.errors import InputError, is_disk_full, no_space
from finegrade.records import Record
from finegrade.text import encodable

_SCHEMA = """
CREATE TABLE IF NOT EXISTS requests (
    key TEXT PRIMARY KEY,
    purpose TEXT NOT NULL,
    request TEXT NOT NULL,
    asked REAL NOT NULL,
    attempts INTEGER NOT NULL,
    reply TEXT,
    finish_reason TEXT,
    prompt_tokens INTEGER,
    completion_tokens INTEGER,
    seconds REAL,
    cost REAL,
    alternatives TEXT
) WITHOUT ROWID
"""
_CAME_LATER = {"cost": "REAL", "alternatives": "TEXT"}
_BATCHES = """
CREATE TABLE IF NOT EXISTS batches (
    name TEXT PRIMARY KEY,
    purpose TEXT NOT NULL,
    handed_in REAL NOT NULL,
    way TEXT NOT NULL,
    keys TEXT NOT NULL,
    id TEXT,
    state TEXT NOT NULL
) WITHOUT ROWID
"""
_COLUMNS = "reply, finish_reason, prompt_tokens, completion_tokens, seconds, cost, alternatives"


class Reply(Record):
    """What the LLM answered.

    Args:
        text: The raw text.
        finish_reason: "stop" where it finished by itself, "length" where it was cut.
        prompt_tokens: Tokens read, as the server counts them.
        completion_tokens: Tokens written.
        seconds: From request to reply.
        cost: By the prices of that time; None where none were named.
        alternatives: Of each of the first tokens, the likeliest with their probabilities; empty where the request did
            not ask for them, or the server does not tell.
    """

    text: str
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    seconds: float
    cost: float | None = None
    alternatives: tuple[dict[str, float], ...] = ()

    @field_validator("text", "finish_reason")
    @classmethod
    def _as_utf8_can_hold_it(cls, value: str) -> str:
        return encodable(value)


class Ledger:
    """The SQLite file of one run folder; a context manager.

    Args:
        path: Of the database; made when it is not there.
        purpose: Whose requests these are: the stage's name.
        own_thread: Whether only the thread that opens it uses it.
    """

    def __init__(self, path: Path, purpose: str, own_thread: bool = True) -> None:
        self.path, self.purpose = path, purpose
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            self._db = sqlite3.connect(path, isolation_level=None, timeout=30, check_same_thread=own_thread)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.execute(_SCHEMA)
            self._db.execute(_BATCHES)
            there = {column for _, column, *_ in self._db.execute("PRAGMA table_info(requests)")}
            for column, kind in _CAME_LATER.items():
                if column not in there:  # it has replies that were paid for
                    self._db.execute(f"ALTER TABLE requests ADD COLUMN {column} {kind}")
            self._db.execute(f"SELECT attempts, {_COLUMNS} FROM requests LIMIT 0")  # one of another version shows here
        except sqlite3.DatabaseError as error:
            if is_disk_full(error):
                raise no_space(path, "space for the ledger") from None
            remedy = "Move the file away (its replies are lost to finegrade) or restore it."
            raise InputError(str(path), got=error, wanted="a finegrade ledger", remedy=remedy) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes the file."""
        self._db.close()

    def execute(self, statement: str, values: tuple[Any, ...] = ()) -> sqlite3.Cursor:
        """Runs one statement.

        Raises:
            InputError: The disk is full, or cannot be written to.
        """
        try:
            return self._db.execute(statement, values)
        except sqlite3.DatabaseError as error:
            if is_disk_full(error):
                raise no_space(self.path, "space for the ledger") from None
            remedy = "Mend the disk or its permissions; what the ledger holds is kept."
            raise InputError(str(self.path), got=error, wanted="a ledger to write to", remedy=remedy) from None

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Keeps everything that is written in the block, or nothing of it; on the disk when the block ends."""
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:  # a full disk may have ended it
                self._db.execute("ROLLBACK")
            raise

    def find(self, key: str) -> Reply | None:
        """The reply to a request that was asked before, or None.

        Raises:
            InputError: It cannot be read: the file is damaged.
        """
        found = self.execute(f"SELECT {_COLUMNS} FROM requests WHERE key = ? AND reply IS NOT NULL", (key,))
        names = ("text", "finish_reason", "prompt_tokens", "completion_tokens", "seconds", "cost")
        try:
            row = found.fetchone()
            if not row:
                return None
            *told, alternatives = row
            return Reply(**dict(zip(names, told, strict=True)), alternatives=json.loads(alternatives or "[]"))
        except (sqlite3.DatabaseError, ValueError, TypeError):  # of which ValidationError is one
            remedy = "Restore the file, or move it away: its replies are then asked, and paid, again."
            raise InputError(str(self.path), got="a damaged reply", wanted="a whole ledger", remedy=remedy) from None

    def asked(self, key: str, request: dict[str, Any]) -> None:
        """Writes down a request before it is sent."""
        self.execute(
            "INSERT INTO requests (key, purpose, request, asked, attempts) VALUES (?, ?, ?, ?, 1)"
            " ON CONFLICT (key) DO UPDATE SET asked = excluded.asked, attempts = attempts + 1",
            (key, self.purpose, json.dumps(request), time.time()),
        )

    def replied(self, key: str, reply: Reply) -> None:
        """Writes down the raw reply; when this returns it is on the disk. Of two, the first stays."""
        self.execute(
            f"UPDATE requests SET ({_COLUMNS}) = (?, ?, ?, ?, ?, ?, ?) WHERE key = ? AND reply IS NULL",
            (
                reply.text,
                reply.finish_reason,
                reply.prompt_tokens,
                reply.completion_tokens,
                reply.seconds,
                reply.cost,
                json.dumps(reply.alternatives) if reply.alternatives else None,
                key,
            ),
        )

    def withdraw(self, key: str) -> None:
        """Takes back an attempt that was not answered and costs nothing."""
        self.execute("UPDATE requests SET attempts = attempts - 1 WHERE key = ?", (key,))
        self.execute("DELETE FROM requests WHERE key = ? AND attempts = 0", (key,))

    def lost(self) -> list[tuple[dict[str, Any], int]]:
        """Requests, of all purposes, with the number of attempts whose reply was lost: kills, timeouts."""
        rows = self.execute(
            "SELECT request, attempts - (reply IS NOT NULL) AS lost FROM requests WHERE lost > 0"
        ).fetchall()
        return [(json.loads(request), number) for request, number in rows]

    def unpriced(self) -> tuple[int, int]:
        """Tokens read and written, of all purposes, that were answered when no prices were named."""
        read, written = self.execute(
            "SELECT COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0) FROM requests"
            " WHERE reply IS NOT NULL AND cost IS NULL"
        ).fetchone()
        return read, written

    def totals(self, every_purpose: bool = False) -> dict[str, float]:
        """Requests, replies, tokens, seconds and cost over the ledger's whole life, for this purpose or for all."""
        row = self.execute(
            "SELECT COUNT(*), COUNT(reply), COALESCE(SUM(prompt_tokens), 0), COALESCE(SUM(completion_tokens), 0),"
            " COALESCE(SUM(seconds), 0), COALESCE(SUM(cost), 0) FROM requests WHERE ? OR purpose = ?",
            (every_purpose, self.purpose),
        ).fetchone()
        names = ("requests", "replies", "prompt_tokens", "completion_tokens", "seconds", "cost")
        return dict(zip(names, row, strict=True))


Write = Callable[[Ledger], None]
_Waiting = tuple[Write, asyncio.Future[None]]


class Commits:
    """The one writer of a ledger while requests are under way.

    Raises:
        InputError: The ledger cannot be opened.
    """

    def __init__(self, path: Path, purpose: str) -> None:
        self._queue: SimpleQueue[_Waiting | None] = SimpleQueue()
        ledger = Ledger(path, purpose, own_thread=False)  # here, so that who cannot open it hears of it
        self._thread = Thread(target=self._work, args=(ledger,), name="ledger", daemon=True)
        self._thread.start()

    async def write(self, write: Write) -> None:
        """Returns when it is on the disk.

        Raises:
            InputError: The disk is full, or cannot be written to.
        """
        done = asyncio.get_running_loop().create_future()
        self._queue.put((write, done))
        await asyncio.shield(done)  # who waits may be cancelled; what it handed in is written all the same

    def close(self) -> None:
        """Writes what has come in, and ends the thread."""
        self._queue.put(None)
        self._thread.join()

    def _work(self, ledger: Ledger) -> None:
        with ledger:
            going_on = True
            while going_on:
                came_in = [self._queue.get(), *self._rest()]
                waiting = [one for one in came_in if one is not None]
                going_on = len(waiting) == len(came_in)
                if waiting:
                    _commit(ledger, waiting)

    def _rest(self) -> list[_Waiting | None]:
        found = []
        try:
            while True:
                found.append(self._queue.get_nowait())
        except Empty:
            return found


def _commit(ledger: Ledger, waiting: list[_Waiting]) -> None:
    failure: Exception | None = None
    try:
        with ledger.transaction():
            for write, _ in waiting:
                write(ledger)
    except Exception as error:  # whatever it is, who waits must hear of it
        failure = error
    loop = waiting[0][1].get_loop()
    if not loop.is_closed():
        loop.call_soon_threadsafe(_tell, [done for _, done in waiting], failure)


def _tell(waiting: list[asyncio.Future[None]], failure: Exception | None) -> None:
    for done in waiting:
        if done.done():
            continue
        if failure is None:
            done.set_result(None)
        else:
            done.set_exception(failure)
