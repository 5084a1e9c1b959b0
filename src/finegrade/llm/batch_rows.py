"""The batches that a ledger knows of: what was handed in, under which name, and whether it is over."""

import json
import time
from dataclasses import dataclass

from finegrade.llm.dialect import Way
from finegrade.llm.ledger import Ledger
from finegrade.llm.request import ChatRequest

_OPEN = "open"


@dataclass(frozen=True)
class BatchRow:
    """A batch.

    Attributes:
        name: Ours, and in the batch's metadata at the server: there it is found again.
        keys: Of the requests in it, in no order.
        way: How they are said.
        id: The server's; None where it is not known whether the batch was made.
    """

    name: str
    keys: frozenset[str]
    way: Way
    id: str | None = None


def intend(ledger: Ledger, row: BatchRow) -> None:
    """Writes down a batch that is about to be made."""
    way = {"form": row.way.form, "unknown": sorted(row.way.unknown)}
    ledger.execute(
        "INSERT INTO batches (name, purpose, handed_in, way, keys, state) VALUES (?, ?, ?, ?, ?, ?)",
        (row.name, ledger.purpose, time.time(), json.dumps(way), json.dumps(sorted(row.keys)), _OPEN),
    )


def made(ledger: Ledger, name: str, id: str) -> None:
    """Writes down what the server calls a batch."""
    ledger.execute("UPDATE batches SET id = ? WHERE name = ?", (id, name))


def end(ledger: Ledger, name: str, state: str) -> None:
    """Writes down how a batch has ended; whatever came of its requests is written down with it."""
    ledger.execute("UPDATE batches SET state = ? WHERE name = ?", (state, name))


def open_batches(ledger: Ledger) -> list[BatchRow]:
    """Batches whose end is not written down, of all purposes, the oldest first."""
    rows = ledger.execute("SELECT name, keys, way, id FROM batches WHERE state = ? ORDER BY handed_in", (_OPEN,))
    found = []
    for name, keys, way, id in rows.fetchall():
        said = json.loads(way)
        found.append(BatchRow(name, frozenset(json.loads(keys)), Way(said["form"], frozenset(said["unknown"])), id))
    return found


def open_at(ledger: Ledger, server: str) -> list[BatchRow]:
    """Open batches that hold requests to a server, without a reply."""
    rows = open_batches(ledger)
    return [row for row in rows if any(one.server == server for one in unanswered(ledger, row).values())]


def unanswered(ledger: Ledger, row: BatchRow) -> dict[str, ChatRequest]:
    """The requests of a batch that have no reply: one may have been asked again in another way meanwhile."""
    found = {}
    for key in sorted(row.keys):
        one = ledger.execute("SELECT request FROM requests WHERE key = ? AND reply IS NULL", (key,)).fetchone()
        if one:
            found[key] = ChatRequest.model_validate_json(one[0])
    return found
