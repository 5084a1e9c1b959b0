"""Memory and time of `verify` over many negatives, with a scorer that costs nothing, and what kill -9 leaves.

    python benchmarks/verified_rows.py [--negatives 100000 1000000] [--kills 0]

Each size in a process of its own. With --kills, the process is killed so often at random instants and started again;
what it wrote in the end is compared with what an undisturbed one writes.
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

from finegrade.config_file import parse_config
from finegrade.records import Negative, Sample
from finegrade.row_files import part_paths, write_parts
from finegrade.store import LEFT_OUT, SAMPLES, VERDICTS, VERIFIED, RunFolder

LEVELS = 4
WORDS = [f"word{i}" for i in range(5_000)]
LENGTH = 60


class Fake:
    """Scores out of a hash: positives high, random texts low, negatives between, some of them false."""

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
        """Yields a score for each pair."""
        for query, text in pairs:
            dice = int.from_bytes(hashlib.blake2b(f"{query} {text}".encode(), digest_size=4).digest()) / 2**32
            own = query.split()[-1] == text.split()[0]
            yield (10.0 if "answer" in text else 6.0) + 3 * dice if own else dice


def samples(number: int) -> Iterator[Sample]:
    """Samples with a negative a level."""
    dice = random.Random(0)
    for i in range(number):
        texts = [" ".join(dice.choices(WORDS, k=LENGTH)) for _ in range(LEVELS + 1)]
        negatives = [
            Negative(text=f"{i} {text}", level=level, source="mined") for level, text in enumerate(texts) if level
        ]
        query, positive = f"what is asked of {i}", f"{i} answer {texts[0]}"
        yield Sample(id=str(i), query=query, positive=positive, negatives=tuple(negatives), group=str(i))


def verify(folder: Path) -> None:
    """The child: verifies, and prints its peak memory."""
    from finegrade import panel
    from finegrade.verification import verify

    panel.load_scorer = lambda name, length: Fake()
    rules = {"committee": [], "second_opinion": [], "scorer": "fake"}
    config = parse_config({"source": {"kind": "python-docs"}, "verification": rules}, "benchmark")
    began = time.monotonic()
    verify(config, RunFolder(folder))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(json.dumps({"seconds": time.monotonic() - began, "peak": peak}))


def make(folder: Path, negatives: int) -> None:
    """A run folder whose synthesize stage is done."""
    run = RunFolder(folder)
    with run.stage("synthesize", {}) as stage:
        stage.finish(write_parts(run.path(SAMPLES), samples(negatives // LEVELS), Sample, 10_000), {})


def run_child(folder: Path, kill_after: float | None = None) -> dict[str, float] | None:
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
    found: dict[str, float] = json.loads(told)
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
    parser.add_argument("--kills", type=int, default=0)
    parser.add_argument("--child", type=Path)
    arguments = parser.parse_args()
    if arguments.child:
        verify(arguments.child)
        return
    print("| negatives | seconds | negatives/s | peak MB | kills | the same in the end |\n|---|---|---|---|---|---|")
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
            cells = (
                f"{number:,} | {told['seconds']:.0f} | {rate:,.0f} | {told['peak']:.0f} | {arguments.kills} | {same}"
            )
            print(f"| {cells} |", flush=True)


if __name__ == "__main__":
    main()
