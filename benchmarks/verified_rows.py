"""Memory and time of `verify` over many negatives, with a scorer that costs nothing, and what kill -9 leaves.

    python benchmarks/verified_rows.py [--negatives 100000 1000000] [--kills 2]

Each size in a process of its own, which tells its peak memory after a tenth of the parts and in the end. Then the
process is killed so often at random instants and started again; what it wrote in the end is compared with what an
undisturbed one writes. All that verification may decide occurs; below the table is how often.
"""

import argparse
import hashlib
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from finegrade.config.toml import parse_config
from finegrade.records import Negative, Sample
from finegrade.storage.run_folder import LEFT_OUT, SAMPLES, VERDICTS, VERIFIED, RunFolder
from finegrade.storage.tables import part_paths, write_parts

LEVELS = 4
WORDS = [f"word{i}" for i in range(5_000)]
LENGTH = 60


class Fake:
    """Scores out of a hash: positives high, few of them low; random texts low; negatives from one to the other."""

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
        """Yields a score for each pair."""
        for query, text in pairs:
            dice = int.from_bytes(hashlib.blake2b(f"{query} {text}".encode(), digest_size=4).digest()) / 2**32
            number, kind, *_ = text.split()
            if query.split()[-1] != number or kind == "weak":
                yield dice
            else:
                yield 10 + 3 * dice if kind == "answer" else 3 + 9 * dice


def samples(number: int) -> Iterator[Sample]:
    """Samples with a negative a level, mined, written or rewritten; in some a text comes twice."""
    dice = random.Random(0)
    for i in range(number):
        kind = "weak" if dice.random() < 0.02 else "answer"
        texts = [f"{i} {kind} {words(dice)}", *(f"{i} negative {words(dice)}" for _ in range(LEVELS))]
        if dice.random() < 0.04:
            texts[-1] = dice.choice(texts[:-1])
        source = dice.choice(("mined", "llm"))
        negatives = [
            Negative(text=text, level=level, source=source, sibling=f"sibling of {i}" if dice.random() < 0.2 else None)
            for level, text in enumerate(texts)
            if level
        ]
        query = f"what is asked of {i}"
        yield Sample(id=str(i), query=query, positive=texts[0], negatives=tuple(negatives), group=str(i))


def words(dice: random.Random) -> str:
    """A text."""
    return " ".join(dice.choices(WORDS, k=LENGTH))


def peak() -> int:
    """The most memory that this process has had, in MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def verify(folder: Path) -> None:
    """The child: verifies, and prints its peak memory after each part, and what was decided."""
    from finegrade.stages import verify as verification
    from finegrade.stages.pipeline import call_stage
    from finegrade.verification import ensemble

    peaks = []

    class Measured(verification.VerifiedParts):
        def write(self, *arguments: Any) -> None:
            super().write(*arguments)
            peaks.append(peak())

    ensemble.load_scorer = lambda name, length: Fake()
    verification.VerifiedParts = Measured
    rules = {"committee": [], "second_opinion_written": [], "scorer": "fake", "min_gap": 0.02}
    config = parse_config({"source": {"kind": "python-docs"}, "verification": rules}, "benchmark")
    run = RunFolder(folder)
    began = time.monotonic()
    call_stage("verify", config, run)
    found = run.record("verify")["details"]
    decided = {name: found[name] for name in ("decisions", "reasons", "left_out")}
    tenth = peaks[len(peaks) // 10]
    print(json.dumps({"seconds": time.monotonic() - began, "tenth": tenth, "end": peak(), "decided": decided}))


def make(folder: Path, negatives: int) -> None:
    """A run folder whose synthesize stage is done."""
    run = RunFolder(folder)
    with run.stage("synthesize", {}) as stage:
        stage.finish(write_parts(run.path(SAMPLES), samples(negatives // LEVELS), Sample, 10_000), {})


def run_child(folder: Path, kill_after: float | None = None) -> dict[str, Any] | None:
    """What a child told; None where it was killed."""
    process = subprocess.Popen(
        [sys.executable, __file__, "--child", str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        told, _ = process.communicate(timeout=kill_after)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        return None
    found: dict[str, Any] = json.loads(told)
    return found


def digest(folder: Path) -> str:
    """Of all that verification wrote."""
    found = hashlib.sha256()
    for name in (VERIFIED, VERDICTS, LEFT_OUT):
        for path in part_paths(folder / name):
            found.update(path.read_bytes())
    return found.hexdigest()


def main() -> None:
    """Prints a line a size."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--negatives", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--kills", type=int, default=2)
    parser.add_argument("--child", type=Path)
    arguments = parser.parse_args()
    if arguments.child:
        verify(arguments.child)
        return
    print("| negatives | seconds | negatives/s | peak MB after a tenth | in the end | kills | the same in the end |")
    print("|---|---|---|---|---|---|---|")
    decided = []
    for number in arguments.negatives:
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            make(folder / "whole", number)
            told = run_child(folder / "whole")
            assert told
            same = "–"
            if arguments.kills:
                make(folder / "killed", number)
                dice = random.Random(0)
                for _ in range(arguments.kills):
                    run_child(folder / "killed", dice.uniform(0.5, told["seconds"] / 2))
                run_child(folder / "killed")
                same = "yes" if digest(folder / "killed") == digest(folder / "whole") else "NO"
            rate = number / told["seconds"]
            cells = f"{number:,} | {told['seconds']:.0f} | {rate:,.0f} | {told['tenth']} | {told['end']}"
            print(f"| {cells} | {arguments.kills} | {same} |", flush=True)
            decided.append(f"{number:,} negatives: {told['decided']}")
    print("", *decided, sep="\n")


if __name__ == "__main__":
    main()
