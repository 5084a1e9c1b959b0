"""What asking costs: finegrade's engine beside a bare loop over the same client library, against a fake server.

    python benchmarks/synthesis.py [--requests 5000] [--concurrency 64] [--latency 0.5] [--repeats 3] [--others]

The server is a process of its own that answers every request after the latency. Each contestant is a process of its
own, too; rounds are interleaved. Printed are requests a second as a share of the ideal (concurrency / latency), and the
client's processor time per request over that of the bare loop: medians over the rounds. --others adds distilabel and
bespokelabs-curator, each in an environment of its own that is made for it; what cannot be installed is said.
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
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SYSTEM = "You write test data for a search engine. " * 40  # about what a prompt with two examples takes
SCHEMA = {
    "type": "object",
    "properties": {"passage": {"type": "string", "maxLength": 600}},
    "required": ["passage"],
    "additionalProperties": False,
}


def messages(number: int) -> list[dict[str, str]]:
    """The chat of one request."""
    question = f"query: what does function {number} return?\npassage: " + f"It returns value {number}. " * 12
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


async def with_finegrade(base_url: str, requests: int, concurrency: int) -> None:
    """Through ask_each: ledger, budget, limiter, replies of a form."""
    from pydantic import create_model

    from finegrade.config import LLMConfig
    from finegrade.llm.asking import ask_each
    from finegrade.llm.ledger import Ledger
    from finegrade.llm.request import ChatRequest, Message
    from finegrade.llm.structured import ask_for

    form = create_model("Form", passage=(str, ...))

    def request(number: int) -> ChatRequest:
        said = tuple(Message(**message) for message in messages(number))
        return ChatRequest(model="m", messages=said, max_tokens=300, temperature=0.7, seed=0, reply_schema=SCHEMA)

    config = LLMConfig(base_url=base_url, concurrency=concurrency, price_in=1.0, price_out=2.0, max_cost=1e6)
    read = 0
    with tempfile.TemporaryDirectory() as folder, Ledger(Path(folder) / "ledger.sqlite", "benchmark") as ledger:
        asking = ask_each(
            range(requests), lambda ask, n: ask_for(ask, request(n), form), config, ledger, Path(folder) / "llm.log"
        )
        async for _, answer in asking:
            read += answer.value is not None
    assert read == requests


async def bare(base_url: str, requests: int, concurrency: int) -> None:
    """The openai client, a semaphore and asyncio.gather; nothing is kept."""
    import openai

    places = asyncio.Semaphore(concurrency)

    async def one(client: openai.AsyncOpenAI, number: int) -> bool:
        async with places:
            answer = await client.chat.completions.create(
                model="m", messages=messages(number), max_tokens=300, temperature=0.7, seed=0,
                response_format={"type": "json_schema",
                                 "json_schema": {"name": "reply", "strict": True, "schema": SCHEMA}},
            )  # fmt: skip
        return "passage" in json.loads(answer.choices[0].message.content)

    async with openai.AsyncOpenAI(base_url=base_url, api_key="none") as client:
        assert all(await asyncio.gather(*(one(client, number) for number in range(requests))))


CONTESTANTS = {"finegrade": with_finegrade, "bare loop": bare}


def contest(name: str, base_url: str, requests: int, concurrency: int) -> None:
    """Does the job in this process; prints its seconds and processor seconds, without those of starting up."""
    asyncio.run(CONTESTANTS[name](base_url, min(requests, concurrency), concurrency))  # imports, first connections
    began, cpu = time.monotonic(), used()
    asyncio.run(CONTESTANTS[name](base_url, requests, concurrency))
    print(json.dumps({"seconds": time.monotonic() - began, "cpu": used() - cpu}))


def used() -> float:
    """Processor seconds of this process so far."""
    spent = resource.getrusage(resource.RUSAGE_SELF)
    return spent.ru_utime + spent.ru_stime


def round_of(name: str, options: argparse.Namespace, python: str = sys.executable) -> dict[str, float]:
    """One contestant, once, against a server of its own."""
    settings = json.dumps({"latency": options.latency})
    with subprocess.Popen(
        [sys.executable, ROOT / "tests" / "fake_openai.py", settings], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout
        base_url = f"http://127.0.0.1:{int(server.stdout.readline())}/v1"
        command = [python, __file__, "--contest", name, "--base-url", base_url]
        command += ["--requests", str(options.requests), "--concurrency", str(options.concurrency)]
        try:
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
        finally:
            server.kill()
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(options: argparse.Namespace) -> None:
    """Interleaved rounds of all contestants, and their medians."""
    ideal = options.concurrency / options.latency
    found: dict[str, list[dict[str, float]]] = {name: [] for name in CONTESTANTS}
    for number in range(options.repeats):
        for name in CONTESTANTS if number % 2 else reversed(CONTESTANTS):
            found[name].append(round_of(name, options))
    print(f"{options.requests} requests, {options.concurrency} at once, {options.latency} s each: ideal {ideal:.0f}/s")
    for name, rounds in found.items():
        rate = statistics.median(options.requests / one["seconds"] for one in rounds)
        cpu = statistics.median(one["cpu"] / options.requests for one in rounds)
        over = statistics.median(
            one["cpu"] / other["cpu"] for one, other in zip(rounds, found["bare loop"], strict=True)
        )
        print(
            f"  {name:12} {rate:7.1f}/s = {rate / ideal:.3f} of the ideal; {cpu * 1e3:.2f} ms of processor time a "
            f"request, {over:.2f} of the bare loop's"
        )


def main() -> None:
    """Reads the options and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=5000)
    parser.add_argument("--concurrency", type=int, default=64)
    parser.add_argument("--latency", type=float, default=0.5)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--contest", choices=CONTESTANTS, help=argparse.SUPPRESS)
    parser.add_argument("--base-url", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contest:
        contest(options.contest, options.base_url, options.requests, options.concurrency)
    else:
        table(options)


if __name__ == "__main__":
    main()
