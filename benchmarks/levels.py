"""Are levels that an LLM wrote in order, as a scorer sees it that took no part, before and after verification?

    python benchmarks/levels.py [--llm] [--folder FOLDER]

benchmarks/data/graded.jsonl: 220 samples with four negatives each, written by an LLM (not one that finegrade brings) in
four goes of 55, with finegrade's own definitions of the levels; nobody read them one by one. They are verified, then a
witness scores what is left. An order violation is a pair of one sample's negatives of which the one of the higher level
scores lower. Beside it the same samples, from which as many negatives were taken at random: from all, and of each level
as many as verification took there (means of 200 draws). Intervals: 95 %, bootstrap over the samples.

The rule for levels that contradict the scores was looked for by hand on all samples, with these witnesses: three of
four candidates did alike on both halves (docs/lab/verification.md). The rows "second half" are of every second sample.
With --llm the LLM says what is false, as it does by default; without, the scorers do.
"""

import argparse
import json
import random
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from finegrade.config import LLM_JUDGE, LLMConfig, VerificationConfig
from finegrade.models.scorers import load_scorer
from finegrade.records import Negative, Sample
from finegrade.text import content_hash
from finegrade.verification.calibration import draw
from finegrade.verification.ensemble import Ensembles
from finegrade.verification.findings import Violations
from finegrade.verification.llm_judge import LlmJudge
from finegrade.verification.score_cache import ScoreCache
from finegrade.verification.verifier import Verifier

FILE = Path(__file__).parent / "data" / "graded.jsonl"
LEVELS, MAX_LENGTH, DRAWS, RESAMPLES = 4, 192, 200, 2_000
ENSEMBLES = (
    (("reranker-en",), "bge-small-en"),
    (("reranker-en", "bge-small-en"), "all-minilm-l6-v2"),
)
"""Who verifies, and the witness; the second is the default."""
Levels = dict[str, int]
"""Text of a negative -> its level."""
Scores = dict[tuple[str, str], float]


def read_samples(path: Path = FILE) -> list[Sample]:
    """All samples of the file."""
    samples = []
    for row in map(json.loads, path.read_text(encoding="utf-8").splitlines()):
        negatives = [Negative(text=row[f"level_{n}"], level=n, source="llm") for n in range(1, LEVELS + 1)]
        query, positive = row["query"], row["positive"]
        name = content_hash(query, positive)
        samples.append(Sample(id=name, query=query, positive=positive, negatives=tuple(negatives), group=name))
    return samples


def verified(samples: Sequence[Sample], config: VerificationConfig, folder: Path) -> list[Levels]:
    """What is left of each sample; nothing of one that is left out."""
    with (
        ScoreCache(folder / "scores.sqlite") as cache,
        LlmJudge(LLMConfig(), folder / "ledger.sqlite", folder / "llm.log", 0) as judge,
    ):
        ensembles = Ensembles(config, draw(samples, 0), 0, {LLM_JUDGE: judge}, cache)
        found = Verifier(config, LEVELS, ensembles.first, ensembles.second).verify(samples)
    left = {sample.id: {n.text: n.level for n in sample.negatives} for sample in found.kept}
    return [left.get(sample.id, {}) for sample in samples]


def by_level(left: Iterable[Levels]) -> list[int]:
    """How many negatives are left, level by level."""
    counts = Counter(level for levels in left for level in levels.values())
    return [counts[level] for level in range(1, LEVELS + 1)]


def at_random(samples: Sequence[Sample], numbers: Sequence[int], dice: random.Random) -> list[Levels]:
    """What is left of the samples if it is drawn.

    Args:
        samples: As they were written.
        numbers: Of each level how many are left; or a single number, for all levels together.
        dice: For the draw.
    """
    places = [(i, n) for i, sample in enumerate(samples) for n in sample.negatives]
    groups = (
        [places]
        if len(numbers) == 1
        else [[(i, n) for i, n in places if n.level == level] for level in range(1, LEVELS + 1)]
    )
    left: list[Levels] = [{} for _ in samples]
    for group, number in zip(groups, numbers, strict=True):
        for i, negative in dice.sample(group, number):
            left[i][negative.text] = negative.level
    return left


def violations(samples: Sequence[Sample], left: Sequence[Levels], scores: Scores) -> np.ndarray:
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


def row(samples: Sequence[Sample], left: Sequence[Levels], witness: Scores) -> str:
    """Violations as written, verified and beside both controls."""
    rows = np.random.default_rng(0).integers(0, len(samples), (RESAMPLES, len(samples)))
    written = violations(samples, [{n.text: n.level for n in sample.negatives} for sample in samples], witness)
    own, numbers, dice = violations(samples, left, witness), by_level(left), random.Random(0)
    cells = [
        " / ".join(map(str, numbers)),
        told(share(written), share(written[rows])),
        told(share(own), share(own[rows])),
    ]
    for drawn in ([sum(numbers)], numbers):
        other = sum(violations(samples, at_random(samples, drawn, dice), witness) for _ in range(DRAWS)) / DRAWS
        cells.append(f"{share(other):.3f}")
        cells.append(told(share(own) / share(other), share(own[rows]) / share(other[rows])))
    return " | ".join(cells)


def main() -> None:
    """Prints a row for each ensemble and its witness."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llm", action="store_true")
    parser.add_argument("--folder", type=Path, help="keeps scores and grades, so that a second run is quick")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    samples = read_samples()
    pairs = [(sample.query, n.text) for sample in samples for n in sample.negatives]
    print(f"{len(samples)} samples, {len(pairs)} negatives\n")
    titles = "verified by", "witness", "samples", "left, level 1 to 4", "violations, written", "verified"
    controls = "at random", "verified : random", "at random by level", "verified : random by level"
    print(f"| {' | '.join((*titles, *controls))} |\n|{'---|' * (len(titles) + len(controls))}")
    for scorers, witness in ENSEMBLES:
        scores = dict(zip(pairs, load_scorer(witness, MAX_LENGTH).scores(pairs), strict=True))
        asked = {} if arguments.llm else {"second_opinion_written": ()}
        config = VerificationConfig.model_validate({"scorer": scorers[0], "committee": scorers[1:]} | asked)
        left = verified(samples, config, folder)
        names = " and ".join((*scorers, *config.second_opinion_written))
        print(f"| {names} | {witness} | all | {row(samples, left, scores)} |", flush=True)
        print(f"| {names} | {witness} | second half | {row(samples[1::2], left[1::2], scores)} |", flush=True)


if __name__ == "__main__":
    main()
