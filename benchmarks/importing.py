"""Import, chunk and split of many documents: documents a second, and memory as their number grows.

    python benchmarks/importing.py [documents ...]

Writes Markdown files of about 250 words under a temporary folder; each number of them is read in a process of its own.
By default 10,000, 30,000 and 100,000. all-MiniLM-L6-v2's tokenizer counts the tokens.
"""

import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

WORDS = 4_000
SECTIONS, SENTENCES = 3, 6


def write(folder: Path, first: int, last: int) -> None:
    """Writes documents ``first`` to ``last``; words are drawn as in language, few often and many seldom."""
    generator = random.Random(first)
    syllables = [a + b for a in "bcdfglmnprstvw" for b in ("a", "e", "i", "o", "u", "an", "er", "is")]
    words = ["".join(generator.choices(syllables, k=1 + number % 3)) for number in range(WORDS)]
    weights = [1 / (rank + 5) for rank in range(WORDS)]
    for number in range(first, last):
        part = folder / f"{number // 1000:03}"
        part.mkdir(exist_ok=True)
        drawn = iter(generator.choices(words, weights, k=SECTIONS * SENTENCES * 15))
        parts = [f"# Document {number}"]
        for section in range(SECTIONS):
            sentences = (" ".join(next(drawn) for _ in range(14)).capitalize() + "." for _ in range(SENTENCES))
            parts += [f"## Part {section} {next(drawn)}", " ".join(sentences)]
        (part / f"{number:06}.md").write_text("\n\n".join(parts), encoding="utf-8")


def read(folder: Path) -> None:
    """One process: imports the folder and prints what it took."""
    from finegrade.config.toml import parse_config
    from finegrade.stages.documents import import_documents
    from finegrade.storage.run_folder import RunFolder

    source = {"kind": "documents", "path": str(folder), "language": "any"}
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as run:
        import_documents(parse_config({"source": source}, "benchmark"), RunFolder(Path(run)))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(time.monotonic() - began, peak)


def main() -> None:
    """Prints the table."""
    numbers = [int(number) for number in sys.argv[1:]] or [10_000, 30_000, 100_000]
    with tempfile.TemporaryDirectory() as temporary:
        folder, there = Path(temporary) / "docs", 0
        folder.mkdir()
        print(f"{'documents':>10}{'seconds':>10}{'documents/s':>14}{'peak MB':>10}")
        for number in sorted(numbers):
            write(folder, there, number)
            there = number
            command = [sys.executable, __file__, "--read", str(folder)]
            done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, check=True)
            seconds, peak = map(float, done.stdout.split())
            print(f"{number:>10,}{seconds:>10.1f}{number / seconds:>14,.0f}{peak:>10,.0f}", flush=True)
        shutil.rmtree(folder)


if __name__ == "__main__":
    if sys.argv[1:2] == ["--read"]:
        read(Path(sys.argv[2]))
    else:
        main()
