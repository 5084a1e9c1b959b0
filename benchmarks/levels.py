"""Are levels that an LLM wrote in order, as a scorer sees it that took no part, before and after verification?

    python benchmarks/levels.py [--verifier reranker-en ...] [--witness bge-small-en]

benchmarks/data/graded.jsonl: samples with four negatives each, written by an LLM (not one that finegrade brings) in one
call a batch, with finegrade's own definitions of the levels. They are verified by the verifier; then the witness scores
what is left. An order violation is a pair of one sample's negatives of which the one of the higher level scores lower.
Beside it the same samples, from which as many negatives were taken at random (the mean of 200 draws). Intervals: 95 %,
bootstrap over the samples.
"""

import argparse
import json
import random
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from finegrade.calibration import calibrate, draw
from finegrade.committee import Committee, Member
from finegrade.config import VerificationConfig
from finegrade.records import Negative, Sample
from finegrade.scoring import load_scorer
from finegrade.text import content_hash
from finegrade.verification_findings import Violations
from finegrade.verifier import Verifier

FILE = Path(__file__).parent / "data" / "graded.jsonl"
LEVELS, MAX_LENGTH, DRAWS, RESAMPLES = 4, 192, 200, 2_000
Levels = dict[str, int]
"""Text of a negative -> its level."""


def read_samples(path: Path = FILE) -> list[Sample]:
    """All samples of the file."""
    samples = []
    for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        negatives = [Negative(text=row[f"level_{n}"], level=n, source="llm") for n in range(1, LEVELS + 1)]
        query, positive = row["query"], row["positive"]
        name = content_hash(query, positive)
        samples.append(Sample(id=name, query=query, positive=positive, negatives=tuple(negatives), group=name))
    return samples


def verified(samples: Sequence[Sample], names: Sequence[str], rules: VerificationConfig) -> list[Levels]:
    """What is left of each sample; nothing of one that is left out."""
    drawn = draw(samples, 0)
    scorers = {name: load_scorer(name, MAX_LENGTH) for name in names}
    members = [Member(name, scorer, calibrate(scorer, drawn, 0, name)) for name, scorer in scorers.items()]
    judged = Verifier(rules, LEVELS, Committee(members)).judge(samples)
    left = {sample.id: {n.text: n.level for n in sample.negatives} for sample in judged.samples}
    return [left.get(sample.id, {}) for sample in samples]


def at_random(samples: Sequence[Sample], number: int, dice: random.Random) -> list[Levels]:
    """As many negatives left, drawn from all, at the levels they were written for."""
    places = [(i, n) for i, sample in enumerate(samples) for n in sample.negatives]
    left: list[Levels] = [{} for _ in samples]
    for i, negative in dice.sample(places, number):
        left[i][negative.text] = negative.level
    return left


def violations(samples: Sequence[Sample], left: Sequence[Levels], scores: dict[tuple[str, str], float]) -> np.ndarray:
    """Of each sample: wrong pairs, pairs. [samples, 2]"""
    found = []
    for sample, levels in zip(samples, left, strict=True):
        counted = Violations()
        counted.add([(level, scores[sample.query, text]) for text, level in levels.items()])
        found.append((counted.wrong, counted.pairs))
    return np.array(found, dtype=float)


def share(counts: np.ndarray) -> np.ndarray:
    """Wrong pairs of all: [..., samples, 2] -> [...]"""
    wrong, pairs = np.moveaxis(counts.sum(axis=-2), -1, 0)
    return wrong / pairs


def told(values: np.ndarray, resampled: np.ndarray) -> str:
    """A value with its interval."""
    low, high = np.quantile(resampled, [0.025, 0.975])
    return f"{float(values):.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    """Prints a row for each margin and gap."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--verifier", nargs="+", default=["reranker-en"])
    parser.add_argument("--witness", default="bge-small-en")
    arguments = parser.parse_args()
    samples = read_samples()
    pairs = [(sample.query, n.text) for sample in samples for n in sample.negatives]
    scores = dict(zip(pairs, load_scorer(arguments.witness, MAX_LENGTH).scores(pairs), strict=True))
    written = violations(samples, [{n.text: n.level for n in sample.negatives} for sample in samples], scores)
    rows = np.random.default_rng(0).integers(0, len(samples), (RESAMPLES, len(samples)))
    print(f"{len(samples)} samples, {len(pairs)} negatives; verified by {' and '.join(arguments.verifier)}")
    print(f"violations as written, seen by {arguments.witness}: {told(share(written), share(written[rows]))}\n")
    print(
        "| min_gap | negatives left | violations, verified | at random | verified : at random |\n|---|---|---|---|---|"
    )
    for gap in (0.0, 0.1):
        rules = VerificationConfig(min_gap=gap, weakest_positive=-100)
        left = verified(samples, arguments.verifier, rules)
        own, number = violations(samples, left, scores), sum(map(len, left))
        dice = random.Random(0)
        other = sum(violations(samples, at_random(samples, number, dice), scores) for _ in range(DRAWS)) / DRAWS
        ratio = told(share(own) / share(other), share(own[rows]) / share(other[rows]))
        cells = (
            f"{gap:g}",
            f"{number}",
            told(share(own), share(own[rows])),
            told(share(other), share(other[rows])),
            ratio,
        )
        print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
