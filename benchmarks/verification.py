"""How well scorers tell a false negative (the positive in other words) from a near miss (looks right, is not).

    python benchmarks/verification.py [--scorers reranker-en bge-small-en all-minilm-l6-v2]

The texts are in benchmarks/data/verification.txt, 110 of each class, read and labelled one by one; the head of the file
says how they were made. Every scorer is put on one scale (finegrade.calibration), and a negative counts as false if its
score is not `margin` below the positive's. The margin is chosen on every second block: the smallest that catches 85 %
of the false negatives there. What it does is reported on the other blocks, with bootstrap intervals over the blocks.
"""

import argparse
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finegrade.calibration import calibrate
from finegrade.records import Sample
from finegrade.scoring import Scorer, load_scorer

FILE = Path(__file__).parent / "data" / "verification.txt"
WANTED, MAX_LENGTH, RESAMPLES = 0.85, 192, 2_000
KINDS = {"=s": "synonyms", "=p": "said anew", "x1": "one word turned", "x2": "another aspect"}


@dataclass(frozen=True)
class Block:
    """A query with its positive, and a negative of each class."""

    query: str
    positive: str
    false: str
    false_kind: str
    near_miss: str
    near_miss_kind: str


def read_blocks(path: Path = FILE) -> list[Block]:
    """All blocks of the file."""
    parts = [part.splitlines() for part in path.read_text(encoding="utf-8").split("\n\n") if part.startswith("q: ")]
    found = []
    for part in parts:
        (_, query), (_, positive), (false_kind, false), (near_miss_kind, near_miss) = (
            line.split(": ", 1) for line in part
        )
        found.append(Block(query, positive, false, false_kind, near_miss, near_miss_kind))
    return found


def distances(blocks: list[Block], scorer: Scorer) -> NDArray[np.float64]:
    """How far the negatives are below their positive, on the common scale: [blocks, (false, near miss)]."""
    samples = [Sample(id=str(i), query=b.query, positive=b.positive, negatives=(), group=str(i))
               for i, b in enumerate(blocks)]  # fmt: skip
    scale = calibrate(samples, scorer, 0)
    texts = [(b.query, text) for b in blocks for text in (b.positive, b.false, b.near_miss)]
    scores = np.array([scale.of(score) for score in scorer.scores(texts)]).reshape(-1, 3)
    return scores[:, :1] - scores[:, 1:]


def margin_for(distance: NDArray[np.float64]) -> float:
    """The smallest margin that catches so many of these false negatives as are wanted."""
    return float(np.quantile(distance, WANTED, method="higher")) + 1e-9


def share(caught: NDArray[np.bool_], draws: NDArray[np.int64]) -> str:
    """A share with its 95 % interval over the blocks."""
    low, high = np.quantile(caught[draws].mean(axis=1), [0.025, 0.975])
    return f"{caught.mean():.2f} [{low:.2f}, {high:.2f}]"


def main() -> None:
    """Chooses, reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scorers", nargs="+", default=["reranker-en", "bge-small-en", "all-minilm-l6-v2"])
    blocks = read_blocks()
    chosen_on, reported = np.arange(0, len(blocks), 2), np.arange(1, len(blocks), 2)
    draws = np.random.default_rng(0).integers(0, len(reported), (RESAMPLES, len(reported)))
    print(f"{len(blocks)} blocks; margins chosen on {len(chosen_on)}, reported on {len(reported)}\n")
    print(
        "| scorer | order of the two | margin | false negatives caught | near misses kept | "
        + " | ".join(KINDS.values())
        + " |"
    )
    print("|---" * (5 + len(KINDS)) + "|")
    for name in parser.parse_args().scorers:
        distance = distances(blocks, load_scorer(name, MAX_LENGTH))
        margin = margin_for(distance[chosen_on, 0])
        false, near_miss = (distance[reported, i] < margin for i in (0, 1))
        order = (distance[reported, 0][:, None] < distance[reported, 1][None]).mean()
        kinds = [np.array([(b.false_kind, b.near_miss_kind)[i] for b in blocks])[reported] for i in (0, 1)]
        dropped = [
            f"{(false if kind[0] == '=' else near_miss)[kinds[kind[0] == 'x'] == kind].mean():.2f}" for kind in KINDS
        ]
        cells = (name, f"{order:.2f}", f"{margin:.2f}", share(false, draws), share(~near_miss, draws), *dropped)
        print("| " + " | ".join(cells) + " |")
    print("\nThe last columns: what share of that kind is dropped.")


if __name__ == "__main__":
    main()
