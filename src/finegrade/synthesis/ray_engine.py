"""Has the LLM write drafts on the machines of a Ray cluster: the same parts as the plain engine's, by the same ledger.

Ray Data deals out the missing parts, one a block, to a pool of workers, and brings back what each wrote as soon as it
is done; this process finishes the part. So no machine but this one has to see the run folder. Where a worker dies Ray
starts another and gives it the part; what the ledger holds (`ray_ledger`) is not asked again.
"""

import asyncio
import logging
import os
import pickle
import socket
from collections.abc import Iterable, Iterator
from contextlib import aclosing, contextmanager
from importlib.util import find_spec
from itertools import groupby
from typing import Any

from finegrade.config import LLMConfig
from finegrade.console import progress
from finegrade.errors import InputError
from finegrade.llm.client import LLMClient
from finegrade.llm.ledger import Ledger
from finegrade.llm.session import Ask, ahead_of, in_order, server_client, take_up
from finegrade.machine import VERSION
from finegrade.synthesis.drafts import Drafts
from finegrade.synthesis.ray_ledger import LedgerActor, LedgerProxy, as_if_here
from finegrade.synthesis.requests import Order
from finegrade.synthesis.writer import Writer, Written

_CALLS_AT_ONCE = 1_000  # of the actor, beside those that wait for the budget
_PATIENCE = 10.0  # seconds


def need_ray() -> None:
    """Before hours of other work.

    Raises:
        InputError: Ray is not installed.
    """
    if find_spec("ray") is None:
        remedy = 'Install it: pip install "finegrade[ray]". Or leave --engine ray out.'
        raise InputError("--engine ray", got="no ray", wanted="ray to be installed", remedy=remedy)


def write_drafts(orders: Iterable[Order], drafts: Drafts, writer: Writer, llm: LLMConfig, ledger: Ledger) -> None:
    """Writes the parts that are not there yet; as `drafts.write_drafts`, on the cluster.

    Raises:
        InputError: There is no cluster, a worker lacks something, or the LLM cannot be had.
    """
    missing = frozenset(drafts.missing())
    if not missing:
        return
    need_ray()
    take_up(llm, ledger)
    done, refused = drafts.number - sum(map(drafts.size, missing)), 0
    parts = _dealt_out(orders, missing, drafts.rows_a_part)
    with (
        _cluster(),
        _ledger_actor(llm, ledger) as actor,
        progress("the LLM writes samples", drafts.number, done) as meter,
    ):
        for part, written in _written(parts, writer, llm, actor):
            drafts.write(part, written)
            refused += sum(len(one.set_aside) for one in written)
            meter.note(f"{refused:,} set aside")
            meter.advance(len(written))


def _dealt_out(orders: Iterable[Order], parts: frozenset[int], rows_a_part: int) -> list[dict[str, Any]]:
    grouped = groupby(enumerate(orders), key=lambda placed: placed[0] // rows_a_part)
    return [
        {"part": part, "orders": pickle.dumps([order for _, order in placed])}
        for part, placed in grouped
        if part in parts
    ]


@contextmanager
def _cluster() -> Iterator[None]:
    """Joins the cluster that this machine is a part of: $RAY_ADDRESS, or the one that was started here."""
    import ray

    if ray.is_initialized():
        yield
        return
    os.environ.setdefault("RAY_BACKEND_LOG_LEVEL", "fatal")  # what a user can mend is told by this process
    try:
        _need_somebody_at(os.environ.get("RAY_ADDRESS", ""))
        ray.init(address="auto", logging_level="ERROR", log_to_driver=False)
    except (OSError, RuntimeError, ValueError) as error:
        remedy = "Start one with `ray start --head`; or set RAY_ADDRESS to host:port of one that this machine is in."
        raise InputError("--engine ray", got=error, wanted="a Ray cluster to join", remedy=remedy) from None
    try:
        yield
    finally:
        ray.shutdown()


def _need_somebody_at(address: str) -> None:
    """Ray itself would try for minutes."""
    host, colon, port = address.rpartition(":")
    if address.startswith("ray://"):
        raise ValueError("RAY_ADDRESS for a client outside of the cluster")
    if colon and port.isdecimal():
        socket.create_connection((host.strip("[]"), int(port)), timeout=_PATIENCE).close()


@contextmanager
def _ledger_actor(llm: LLMConfig, ledger: Ledger) -> Iterator[Any]:
    """The actor of ledger and budget: on this machine, where the ledger is."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    at_once = _CALLS_AT_ONCE + 2 * llm.concurrency
    kind = ray.remote(num_cpus=0, max_concurrency=at_once, scheduling_strategy=here)(LedgerActor)
    actor = kind.remote(ledger.path.absolute(), ledger.purpose, llm)
    try:
        with as_if_here():
            ray.get(actor.open.remote())
        yield actor
        with as_if_here():
            ray.get(actor.close.remote())
    finally:
        ray.kill(actor)


def _written(
    parts: list[dict[str, Any]], writer: Writer, llm: LLMConfig, actor: Any
) -> Iterator[tuple[int, list[Written]]]:
    """Parts with what was written of them, as they are done."""
    import ray

    cores = int(ray.cluster_resources().get("CPU", 0))
    workers = max(1, min(cores, len(parts), llm.concurrency))
    given = (writer, llm.model_copy(update={"concurrency": llm.concurrency // workers}), actor, VERSION)
    ray.data.DataContext.get_current().enable_progress_bars = False  # this process has its own
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    pool = ray.data.ActorPoolStrategy(size=workers)
    done = ray.data.from_items(parts, override_num_blocks=len(parts))
    done = done.map(PartWriter, fn_constructor_args=given, compute=pool, num_cpus=1)
    # none fetched ahead: Ray Data would hold a part back until the next is done
    for table in done.iter_batches(batch_size=None, prefetch_batches=0, batch_format="pyarrow"):
        for row in table.to_pylist():
            came = pickle.loads(row["came"])
            if isinstance(came, InputError):
                raise came
            yield row["part"], came


class PartWriter:
    """A worker: writes one part after another, with what it has learnt of the server kept between them.

    The server's key is read here, from the environment of this process: it travels through no task and no store.

    Args:
        writer: Writes samples.
        llm: The server, with the worker's share of ``concurrency``.
        actor: The handle of the actor of ledger and budget.
        version: Of finegrade, where the run folder is.
    """

    def __init__(self, writer: Writer, llm: LLMConfig, actor: Any, version: str) -> None:
        self._writer, self._llm, self._version = writer, llm, version
        self._ledger, self._runner = LedgerProxy(actor), asyncio.Runner()
        self._client: LLMClient | None = None

    def __call__(self, row: dict[str, Any]) -> dict[str, Any]:
        """What came of a part: what was written, or the error that ends the run."""
        came: list[Written] | InputError
        try:
            came = self._runner.run(self._write(row["part"], pickle.loads(row["orders"])))
        except InputError as error:
            came = error
        return {"part": row["part"], "came": pickle.dumps(came)}

    async def _write(self, part: int, orders: list[Order]) -> list[Written]:
        if self._version != VERSION:
            remedy = "Install the same finegrade on every machine of the cluster."
            raise InputError("a Ray worker", got=f"finegrade {VERSION}", wanted=self._version, remedy=remedy)
        client = self._client = self._client or server_client(self._llm, self._ledger)

        async def talk(ask: Ask, order: Order) -> Written:
            return await self._writer.write(ask, order)

        await self._ledger.take_up(part)
        async with aclosing(in_order(orders, talk, client.complete, ahead_of(self._llm))) as results:
            written = [one async for _, one in results]
        client.check_some_were_answered()
        return written
