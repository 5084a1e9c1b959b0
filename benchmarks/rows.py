"""Many rows through parse, gates, store and export: rows a second, and the peak of the memory.

    python benchmarks/rows.py [--rows 100000 1000000] [--folder FOLDER]

A ledger is filled with replies as an LLM gives them (five texts of about eighty words each; one of a hundred is broken,
one repeats another), so that nothing is asked and nothing waits. Then the synthesize stage and ``export --data`` run as
users run them, in processes of their own, and each tells its seconds and its peak of resident memory. The floor of the
memory is what the imports take: the same with ten rows is printed first.
"""

import argparse
import asyncio
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WORDS, SEED = 80, 7


def configuration(rows: int) -> Any:
    """Tasks, one call a sample, a server that is never asked."""
    from finegrade.config.toml import parse_config

    data = {
        "source": {"kind": "tasks", "language": "any"},
        "llm": {"base_url": "http://127.0.0.1:9/v1", "model": "never asked", "concurrency": 64},
        "draws": {"text_words": {str(WORDS): 1}},
        "synthesis": {"llm_samples": rows, "shard_rows": 5_000},
    }
    return parse_config(data, "benchmark")


def fill(root: Path, rows: int) -> None:
    """Writes tasks, and a reply for every request that the stage is going to make."""
    from finegrade.llm.ledger import Ledger, Reply
    from finegrade.llm.request import ChatRequest
    from finegrade.records import KINDS, Task
    from finegrade.storage.run_folder import LEDGER, TASKS, RunFolder
    from finegrade.storage.tables import write_rows
    from finegrade.synthesis.requests import orders_for_tasks
    from finegrade.synthesis.writer import Writer

    config, run = configuration(rows), RunFolder(root)
    tasks = [
        Task(id=f"{i:04}", kind=KINDS[i % 5], description=f"Task {i}: find it.", instruction="Find it.",
             side="test" if i % 10 == 0 else "train")
        for i in range(500)
    ]  # fmt: skip
    write_rows(run.path(TASKS), tasks, Task)
    with run.stage("tasks", {}) as stage:
        stage.finish([run.path(TASKS)], {})
    dice, writer = random.Random(SEED), Writer(config.resolved.synthesis, config.llm, config.seed)
    english = " ".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
    vocabulary = re.findall(r"\b[a-z]+\b", english)
    before = {"text": ""}

    def text() -> str:
        return " ".join(dice.choices(vocabulary, k=WORDS)).capitalize() + "."

    def reply(request: ChatRequest) -> Reply:
        value = {name: text()[:150] + "." if "flaw" in name else text() for name in request.reply_schema["properties"]}
        if dice.random() < 0.01:
            value["positive"] = before["text"] or value["positive"]
        before["text"] = value["positive"]
        raw = json.dumps(value)
        raw = raw[:-1] if dice.random() < 0.01 else raw
        return Reply(text=raw, finish_reason="stop", prompt_tokens=700, completion_tokens=900, seconds=9.0, cost=0.001)

    with Ledger(run.path(LEDGER), "synthesize") as ledger:

        async def ask(request: ChatRequest) -> Reply:
            key, answer = request.key(), reply(request)
            ledger.asked(key, request.model_dump(mode="json"))
            ledger.replied(key, answer)
            return answer

        async def all_of_them() -> None:
            orders = iter(orders_for_tasks(tasks, config.resolved.synthesis, config.draws, config.seed))
            for _ in range(0, rows, 1_000):
                with ledger.transaction():
                    for _, order in zip(range(1_000), orders, strict=False):
                        await writer.write(ask, order)

        asyncio.run(all_of_them())


def do(what: str, root: Path, rows: int) -> None:
    """One piece of work in this process; prints its seconds and its peak of memory in bytes."""
    from finegrade.export.data import export_data
    from finegrade.stages.pipeline import STAGES, synthesize
    from finegrade.storage.run_folder import RunFolder

    assert STAGES
    began = time.monotonic()
    if what == "fill":
        fill(root, rows)
    elif what == "synthesize":
        synthesize(configuration(rows), RunFolder(root))
    else:
        export_data(root, None)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps({"seconds": time.monotonic() - began, "peak": peak}))


def measured(what: str, root: Path, rows: int) -> dict[str, float]:
    """The same in a process of its own."""
    command = [sys.executable, __file__, "--do", what, "--root", str(root), "--rows", str(rows)]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(numbers: list[int], parent: Path | None) -> None:
    """Each number of rows in a run folder of its own."""
    if parent:
        parent.mkdir(parents=True, exist_ok=True)
    for rows in [10, *numbers]:
        with tempfile.TemporaryDirectory(dir=parent) as folder:
            root = Path(folder) / "run"
            measured("fill", root, rows)
            for what in ("synthesize", "export"):
                found = measured(what, root, rows)
                print(
                    f"{rows:>9,} rows  {what:10} {rows / found['seconds']:8,.0f} rows/s  "
                    f"peak {found['peak'] / 1e6:6,.0f} MB",
                    flush=True,
                )


def main() -> None:
    """Reads the options and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rows", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--folder", type=Path, help="Where the run folders go while they are needed (gigabytes).")
    parser.add_argument("--do", choices=("fill", "synthesize", "export"), help=argparse.SUPPRESS)
    parser.add_argument("--root", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.do:
        do(options.do, options.root, options.rows[0])
    else:
        table(options.rows, options.folder)


if __name__ == "__main__":
    main()
