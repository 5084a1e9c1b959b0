"""What asking costs: finegrade's engine beside a bare loop over the same client library, against a fake server.

    python benchmarks/synthesis.py [--requests 5000] [--concurrency 64] [--latency 0.5] [--repeats 3] [--others]

The server is a process of its own that answers every request after the latency. Each contestant is a process of its
own, too; rounds are interleaved. Printed are requests a second as a share of the ideal (concurrency / latency), over
the whole job and, in brackets, from the first request to the last reply (some take seconds to start and to end); and
the processor time per request of the client and its children over that of the bare loop. All are medians over the
rounds. A round counts only where the server's log has each request asked once and answered once.

A second table has the ceiling: finegrade and the bare loop with --ceiling requests at once. --others adds distilabel
and bespokelabs-curator to the first one, each in an environment of its own that is made under --environments, used as
benchmarks/synthesis_others.py says; what cannot be installed or run is told with the reason.
"""

import argparse
import asyncio
import json
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, cast

from synthesis_job import MAX_TOKENS, RESPONSE_FORMAT, SCHEMA, SEED, TEMPERATURE, messages
from synthesis_others import REQUIREMENTS, environment, last_line, with_curator, with_distilabel

ROOT = Path(__file__).resolve().parents[1]
Round = dict[str, float]


def with_finegrade(base_url: str, numbers: range, concurrency: int) -> None:
    """Through ask_each: ledger, budget, limiter, replies of a form."""
    from pydantic import create_model

    from finegrade.config import LLMConfig
    from finegrade.llm.ledger import Ledger
    from finegrade.llm.request import ChatRequest, Message
    from finegrade.llm.session import ask_each
    from finegrade.llm.structured import ask_for

    form = create_model("Form", passage=(str, ...))

    def request(number: int) -> ChatRequest:
        said = tuple(Message(**message) for message in messages(number))
        return ChatRequest(
            model="m", messages=said, max_tokens=MAX_TOKENS, temperature=TEMPERATURE, seed=SEED, reply_schema=SCHEMA
        )

    async def go() -> int:
        config = LLMConfig(base_url=base_url, concurrency=concurrency, price_in=1.0, price_out=2.0, max_cost=1e6)
        with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite", "benchmark") as ledger:
            asking = ask_each(
                numbers, lambda ask, n: ask_for(ask, request(n), form), config, ledger, Path(folder) / "llm.log"
            )
            return sum([answer.value is not None async for _, answer in asking])

    assert asyncio.run(go()) == len(numbers)


def bare(base_url: str, numbers: range, concurrency: int) -> None:
    """The openai client, a semaphore and asyncio.gather; nothing is kept."""
    import openai

    places = asyncio.Semaphore(concurrency)

    async def one(client: openai.AsyncOpenAI, number: int) -> bool:
        chat: Any = messages(number)
        async with places:
            answer = await client.chat.completions.create(
                model="m", messages=chat, max_tokens=MAX_TOKENS, temperature=TEMPERATURE, seed=SEED,
                response_format=cast(Any, RESPONSE_FORMAT),
            )  # fmt: skip
        return "passage" in json.loads(answer.choices[0].message.content or "{}")

    async def go() -> bool:
        async with openai.AsyncOpenAI(base_url=base_url, api_key="none") as client:
            return all(await asyncio.gather(*(one(client, number) for number in numbers)))

    assert asyncio.run(go())


OURS = ("finegrade", "bare loop")
CONTESTANTS = {"finegrade": with_finegrade, "bare loop": bare, "distilabel": with_distilabel, "curator": with_curator}


def contest(name: str, base_url: str, requests: int, concurrency: int) -> None:
    """Does the job in this process; prints its seconds and processor seconds, without those of starting up."""
    warming = range(requests, requests + concurrency)  # others than the job's: nobody's cache may know those
    CONTESTANTS[name](base_url, warming, concurrency)
    began, cpu = time.monotonic(), used()
    CONTESTANTS[name](base_url, range(requests), concurrency)
    print("\n" + json.dumps({"seconds": time.monotonic() - began, "cpu": used() - cpu}))


def used() -> float:
    """Processor seconds of this process so far, and of its children that have ended."""
    spent = [resource.getrusage(whose) for whose in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in spent)


def round_of(name: str, concurrency: int, options: argparse.Namespace, python: str | Path) -> Round | str:
    """One contestant, once, against a server of its own; or why there is no result."""
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "asked.jsonl"
        settings = json.dumps({"latency": options.latency, "log": str(log), "times": True})
        with subprocess.Popen(
            [sys.executable, "-m", "helpers.fake_openai", settings],
            cwd=ROOT / "tests",
            stdout=subprocess.PIPE,
            text=True,
        ) as server:
            assert server.stdout
            base_url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
            command = [python, __file__, "--contest", name, "--base-url", base_url]
            command += ["--requests", str(options.requests), "--concurrency", str(concurrency)]
            try:
                done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
            finally:
                server.kill()
        if done.returncode:
            return last_line(done.stderr)
        found: Round = json.loads(last_line(done.stdout))
        spoken = spoken_between(log, options.requests)
        return "not each request was asked and answered once" if spoken is None else found | {"between": spoken}


def spoken_between(log: Path, requests: int) -> float | None:
    """Seconds from the first request of the job to its last reply; None where one was not asked and answered once."""
    sys.path.append(str(ROOT / "tests"))
    from helpers.fake_openai import request_hash

    job = {request_hash({"messages": messages(number), "seed": SEED}) for number in range(requests)}
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    of_job = [(name, what, when) for name, what, when in lines if name in job]
    once = Counter((name, what) for name, what, _ in of_job)
    if once != {(name, what): 1 for name in job for what in ("asked", "replied")}:
        return None
    times = [when for _, _, when in of_job]
    return float(max(times) - min(times))


def table(pythons: dict[str, str | Path], concurrency: int, options: argparse.Namespace) -> None:
    """Interleaved rounds of all contestants, and their medians."""
    found: dict[str, list[Round | str]] = {name: [] for name in pythons}
    for number in range(options.repeats):
        for name in pythons if number % 2 else reversed(pythons):
            found[name].append(round_of(name, concurrency, options, pythons[name]))
    ideal = concurrency / options.latency
    print(f"{options.requests} requests, {concurrency} at once, {options.latency} s each: ideal {ideal:.0f}/s")
    for name, rounds in found.items():
        print(f"  {name:12} {line(rounds, found['bare loop'], options.requests, ideal)}")


def line(rounds: list[Round | str], bare_rounds: list[Round | str], requests: int, ideal: float) -> str:
    """A contestant's medians, or why it has none."""
    pairs = [(one, other) for one, other in zip(rounds, bare_rounds, strict=True) if not isinstance(one, str)]
    if len(pairs) < len(rounds):
        return "no result: " + next(one for one in rounds if isinstance(one, str))
    rate, between = (statistics.median(requests / one[key] for one, _ in pairs) for key in ("seconds", "between"))
    cpu = statistics.median(one["cpu"] / requests for one, _ in pairs)
    over = statistics.median(one["cpu"] / other["cpu"] for one, other in pairs if not isinstance(other, str))
    return (
        f"{rate:7.1f}/s = {rate / ideal:.3f} ({between / ideal:.3f}) of the ideal; {cpu * 1e3:5.2f} ms of processor "
        f"time a request, {over:.2f} of the bare loop's"
    )


def main() -> None:
    """Reads the options and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--ceiling", type=int, default=256)
    parser.add_argument("--latency", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--others", action="store_true")
    parser.add_argument("--environments", type=Path, default=ROOT / "benchmarks" / ".environments")
    parser.add_argument("--contest", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--base-url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contest:
        return contest(options.contest, options.base_url, options.requests, options.concurrency)
    pythons: dict[str, str | Path] = dict.fromkeys(OURS, sys.executable)
    for name in REQUIREMENTS if options.others else ():
        python = environment(name, options.environments)
        if isinstance(python, Path):
            pythons[name] = python
        else:
            print(f"{name} cannot be installed: {python}")
    table(pythons, options.concurrency, options)
    table(dict.fromkeys(OURS, sys.executable), options.ceiling, options)


if __name__ == "__main__":
    main()
