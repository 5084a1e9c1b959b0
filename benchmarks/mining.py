"""Negatives out of many documents: the exact search by vectors, and the miner on it; seconds and the memory's peak.

    python benchmarks/mining.py [--documents 100000 1000000] [--queries 1000] [--miners dense bm25 both]
        [--model bge-small-en] [--folder FOLDER]

Without --miners and --model it is the search alone.

The search: random vectors of 384 dimensions, so that no model is waited for, written to the disk and read back, the 200
most similar for each query. The floor of the seconds is the operations (2 x documents x 384 a query) at the
speed of one large product of matrices, taken in the same process; "share" is how much of that speed is left. The miner:
texts of eighty words, BM25 as it is, the bi-encoder's vectors random again; "seeds" is the peak when only the seeds are
there, and the hours are those of mining for every seed at the speed of the queries that were tried, without embedding
them. With --model also how many such texts and queries that bi-encoder embeds a second, and the hours for all. Each
line is a process of its own; the floor of the memory is what the imports take: the same with ten documents is printed
first.
"""

import argparse
import json
import random
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

ROOT = Path(__file__).resolve().parents[1]
WORDS, QUERY_WORDS, DIMENSION, DEPTH, SEED = 80, 6, 384, 200, 7


class RandomVectors:
    """An embedder that reads nothing.

    Args:
        seed: Of another seed the vectors are others.
    """

    def __init__(self, seed: int) -> None:
        self._dice = np.random.default_rng(seed)

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors: [texts, 384]."""
        rows = self._dice.standard_normal((len(texts), DIMENSION), dtype=np.float32)
        rows /= np.linalg.norm(rows, axis=1, keepdims=True)
        return rows

    embed_queries = embed_documents


def peak() -> float:
    """Bytes that this process held at most so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024.0


def seconds(work: Callable[[], Any]) -> float:
    """Of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def best_speed() -> float:
    """Operations a second of one large product of matrices, here and now."""
    left, right = np.ones((1_024, DIMENSION), np.float32), np.ones((DIMENSION, 8_192), np.float32)
    return 2 * left.size * right.shape[1] / min(seconds(lambda: left @ right) for _ in range(5))


def search(documents: int, queries: int, folder: Path) -> dict[str, float]:
    """Writes an index and searches it."""
    from finegrade.retrieval.dense import DenseIndex

    began = time.perf_counter()
    index = DenseIndex(map(str, range(documents)), RandomVectors(SEED), folder, "random", documents)
    found = {"write": time.perf_counter() - began, "peak after writing": peak()}
    asked = RandomVectors(SEED + 1).embed_queries([""] * queries)
    found["search"] = seconds(lambda: index.top_k(asked, DEPTH))
    found["peak"] = peak()
    found["floor"] = 2 * documents * DIMENSION * queries / best_speed()
    return found


def made_texts() -> Iterator[str]:
    """Words of the documentation, as often as they are there, without end."""
    english = " ".join(path.read_text(encoding="utf-8") for path in sorted((ROOT / "docs").glob("*.md")))
    vocabulary, dice = re.findall(r"\b[a-z]+\b", english), random.Random(SEED)
    while True:
        yield " ".join(dice.choices(vocabulary, k=WORDS))


def mine(kind: str, documents: int, queries: int, folder: Path) -> dict[str, float]:
    """Makes a miner of so many seeds, and mines for some of them."""
    from finegrade.records import Seed
    from finegrade.retrieval.bm25 import BM25
    from finegrade.retrieval.dense import DenseIndex
    from finegrade.retrieval.mining import Fused, Miner, Ranking, Wanted

    def index(texts: Sequence[str]) -> Ranking:
        if kind == "bm25":
            return BM25(texts)
        dense = DenseIndex(texts, RandomVectors(SEED), folder, "random", len(texts))
        return Fused(BM25(texts), dense) if kind == "both" else dense

    texts = enumerate(islice(made_texts(), documents))
    seeds = [
        Seed(id=str(i), query=" ".join(text.split()[:QUERY_WORDS]), positives=(text,), group=str(i % 50))
        for i, text in texts
    ]
    found = {"seeds": peak()}
    began = time.perf_counter()
    miner = Miner(seeds, SEED, index=index)
    found |= {"index": time.perf_counter() - began, "peak of the index": peak()}
    found["mine"] = seconds(lambda: list(miner.negatives_of(map(Wanted, seeds[:queries]))))
    return found | {"peak": peak()}


def embed(model: str) -> dict[str, float]:
    """How many texts a bi-encoder embeds a second."""
    from finegrade.models.scorers import load_bi_encoder
    from finegrade.retrieval.mining import MAX_LENGTH

    encoder = load_bi_encoder(model, MAX_LENGTH)
    texts = list(islice(made_texts(), 512))
    asked = [" ".join(text.split()[:QUERY_WORDS]) for text in texts]
    return {
        "texts": len(texts) / seconds(lambda: encoder.embed_documents(texts)),
        "queries": len(texts) / seconds(lambda: encoder.embed_queries(asked)),
        "peak": peak(),
    }


def measured(parent: Path | None, *arguments: object) -> dict[str, float]:
    """The same in a process of its own."""
    with tempfile.TemporaryDirectory(dir=parent) as folder:
        command = [sys.executable, __file__, "--folder", folder, "--do", *map(str, arguments)]
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def table(options: argparse.Namespace) -> None:
    """Prints a line for each measurement."""
    for documents in [10, *options.documents]:
        found = measured(options.folder, "search", documents, options.queries)
        print(
            f"{documents:>9,} documents  search: written in {found['write']:6.1f} s, {options.queries:,} queries "
            f"{found['search']:6.1f} s (floor {found['floor']:5.1f} s, share {found['floor'] / found['search']:.2f}); "
            f"peak {found['peak after writing'] / 1e6:5,.0f} MB writing, {found['peak'] / 1e6:5,.0f} MB in all",
            flush=True,
        )
        for kind in options.miners:
            asked = min(options.queries, documents)
            found = measured(options.folder, kind, documents, asked)
            print(
                f"{documents:>9,} documents  miner {kind:5}: index {found['index']:6.1f} s, "
                f"{asked / found['mine']:7,.0f} queries/s, {hours(documents, asked / found['mine'])} for all; "
                f"peak {found['seeds'] / 1e6:6,.0f} MB seeds, {found['peak of the index'] / 1e6:6,.0f} MB index, "
                f"{found['peak'] / 1e6:6,.0f} MB in all",
                flush=True,
            )
    if options.model:
        found = measured(options.folder, "embed", options.model)
        print(
            f"{options.model}: {found['texts']:,.0f} texts/s of {WORDS} words, {found['queries']:,.0f} queries/s of "
            f"{QUERY_WORDS}; peak {found['peak'] / 1e6:,.0f} MB"
        )
        for documents in options.documents:
            times = f"{hours(documents, found['texts'])}, as many queries {hours(documents, found['queries'])}"
            print(f"{documents:>9,} documents  embedded in {times}")


def hours(number: int, a_second: float) -> str:
    """How long so many take."""
    return f"{number / a_second / 3600:.1f} h"


def main() -> None:
    """Reads the options and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--documents", type=int, nargs="+", default=[100_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=1_000)
    parser.add_argument("--miners", nargs="*", choices=("bm25", "dense", "both"), default=[])
    parser.add_argument("--model", help="A bi-encoder whose speed is measured, too.")
    parser.add_argument("--folder", type=Path, help="Where the vectors go while they are needed (gigabytes).")
    parser.add_argument("--do", nargs="+", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if not options.do:
        table(options)
        return
    what, *rest = options.do
    if what == "embed":
        found = embed(rest[0])
    elif what == "search":
        found = search(int(rest[0]), int(rest[1]), options.folder)
    else:
        found = mine(what, int(rest[0]), int(rest[1]), options.folder)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
