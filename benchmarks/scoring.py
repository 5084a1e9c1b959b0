"""How fast negatives are scored: one pair at a time, batches, one pair a thread (what finegrade does), and a cascade.

    python benchmarks/scoring.py [--samples 60] [--decide 300]

Samples are docstrings with negatives mined in bands of BM25 ranks. Prints pairs a second (medians of interleaved
repeats), ratios to the plain loop (one pair after the other, ONNX Runtime's own threads), and how far the logits move.
Then, of other samples, how many negatives get the same verdict from the cascade (BM25 for all, the cross-encoder where
that is in doubt; docs/verification.md has it as a configuration) as from the cross-encoder alone: whether they stay,
what becomes of them, and at which level. --samples 0 times nothing.
"""

import argparse
import random
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from finegrade.config import VerificationConfig
from finegrade.data.python_docs import read_python_docs
from finegrade.models.onnx import OnnxModel
from finegrade.models.resolve import fetch
from finegrade.models.scorers import OnnxCrossEncoder, Scorer
from finegrade.records import Sample, Seed, Verdict
from finegrade.retrieval.bm25 import LexicalScorer
from finegrade.retrieval.mining import Miner
from finegrade.text import content_hash
from finegrade.verification.calibration import calibrate, draw
from finegrade.verification.ensemble import CalibratedScorer
from finegrade.verification.verifier import Verifier

REPEATS, MAX_LENGTH, THREADS, LEVELS = 3, 192, 2, 4
DOUBT = 0.15
"""Chosen on half of other samples (docs/lab/verification.md)."""

FOLDER = fetch("reranker-en")
Pair = tuple[str, str]
Score = Callable[[Sequence[Pair]], NDArray[np.float64]]


def batched(size: int, threads: int = THREADS) -> Score:
    """Length-sorted batches through one session."""
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_LENGTH)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(str(FOLDER / "model.onnx"), options, providers=["CPUExecutionProvider"])

    def logits(batch: list[Encoding]) -> NDArray[np.float64]:
        longest = max(len(e.ids) for e in batch)
        names = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
        feed = {name: np.zeros((len(batch), longest), dtype=np.int64) for name in names}
        for row, encoding in enumerate(batch):
            for name, attribute in names.items():
                feed[name][row, : len(encoding.ids)] = getattr(encoding, attribute)
        found: NDArray[np.float64] = session.run(None, feed)[0].reshape(-1)
        return found

    def score(pairs: Sequence[Pair]) -> NDArray[np.float64]:
        encodings = tokenizer.encode_batch(list(pairs))
        order = np.argsort([len(e.ids) for e in encodings])
        found = np.empty(len(pairs))
        for start in range(0, len(pairs), size):
            part = order[start : start + size]
            found[part] = logits([encodings[i] for i in part])
        return found

    return score


def mined_samples(*numbers: int) -> list[list[Sample]]:
    """Docstrings, each with a negative a level: so many, and so many others."""
    docs = read_python_docs(["numpy", "scipy"])
    seeds = [
        Seed(id=content_hash(d.query, d.positive), query=d.query, positives=(d.positive,), group=d.group) for d in docs
    ]
    miner = Miner(seeds, 0, LEVELS)
    chosen = iter(random.Random(0).sample(seeds, sum(numbers)))
    return [
        [
            Sample(id=s.id, query=s.query, positive=s.positives[0], negatives=tuple(miner.negatives(s)), group=s.group)
            for s in islice(chosen, number)
        ]
        for number in numbers
    ]


def calibrated(name: str, scorer: Scorer, samples: Sequence[Sample]) -> CalibratedScorer:
    """A scorer on its scale, which is found once a run and is not timed here."""
    return CalibratedScorer(name, scorer, calibrate(scorer, draw(samples, 0), 0, name))


def verdicts(
    samples: Sequence[Sample], first: CalibratedScorer, second: CalibratedScorer | None = None
) -> Sequence[Verdict]:
    """By one scorer, or by two, with the margins of the default; no positive is too weak, for both decide on all."""
    doubt = {"second_opinion": (second.name,), "doubt": DOUBT} if second else {}
    plain = {"scorer": first.name, "committee": (), "weakest_positive": -100}
    rules = VerificationConfig.model_validate(plain | doubt)
    others = [second] if second else None
    return Verifier(rules, LEVELS, [first], lambda written: others).verify(samples).verdicts


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=60)
    parser.add_argument("--decide", type=int, default=300)
    options = parser.parse_args()
    to_time, to_decide = mined_samples(options.samples, options.decide)
    if to_time:
        time_all(to_time)
    cheap, exact = both(to_decide)
    compare(verdicts(to_decide, exact), verdicts(to_decide, cheap, exact))


def both(samples: Sequence[Sample]) -> tuple[CalibratedScorer, CalibratedScorer]:
    """The cheap scorer and the expensive one."""
    texts = (text for s in samples for text in (s.positive, *(n.text for n in s.negatives)))
    encoder = OnnxCrossEncoder(OnnxModel(FOLDER, MAX_LENGTH, THREADS))
    return calibrated("bm25", LexicalScorer(texts), samples), calibrated("reranker-en", encoder, samples)


def time_all(samples: Sequence[Sample]) -> None:
    """Times every variant on the same samples, interleaved."""
    asked = ((s.query, text) for s in samples for text in (s.positive, *(n.text for n in s.negatives)))
    pairs = list(dict.fromkeys(asked))
    cheap, exact = both(samples)
    variants: dict[str, Callable[[], NDArray[np.float64] | Sequence[Verdict]]] = {
        "one pair after the other": partial(batched(1), pairs),
        "the same on one thread": partial(batched(1, threads=1), pairs),
        **{f"batches of {size}": partial(batched(size), pairs) for size in (8, 32)},
        "one pair a thread (used)": lambda: np.array(list(exact.scorer.scores(pairs))),
        "cascade: bm25, reranker-en": lambda: verdicts(samples, cheap, exact),
    }
    rates: dict[str, list[float]] = {name: [] for name in variants}
    results = {}
    for _ in range(REPEATS):
        for name, run in variants.items():
            began = time.perf_counter()
            results[name] = run()
            rates[name].append(len(pairs) / (time.perf_counter() - began))
    base = next(iter(variants))
    print(f"{len(samples)} samples, {len(pairs)} pairs\n")
    print(f"{'variant':28} {'pairs/s':>8} {'ratio':>6} {'largest change of a logit':>26}")
    for name, result in results.items():
        ratio = statistics.median(a / b for a, b in zip(rates[name], rates[base], strict=True))
        moved = f"{np.abs(result - results[base]).max():26.3f}" if isinstance(result, np.ndarray) else f"{'–':>26}"
        print(f"{name:28} {statistics.median(rates[name]):8.1f} {ratio:6.2f} {moved}", flush=True)


def compare(exact: Sequence[Verdict], cascade: Sequence[Verdict]) -> None:
    """Prints what the cascade decides otherwise than the cross-encoder alone."""
    pairs = list(zip(exact, cascade, strict=True))
    stays = [(a.level_after is None) == (b.level_after is None) for a, b in pairs]
    fate = [kind(a) == kind(b) for a, b in pairs]
    level = [a.level_after == b.level_after for a, b in pairs]
    gone = [b.level_after is None for a, b in pairs if a.level_after is None]
    asked = sum(len(b.results) > 1 for _, b in pairs) / len(pairs)
    print(f"\nof {len(pairs)} negatives the cascade asks the cross-encoder about {asked:.2f}")
    print(
        f"they stay or go as by the cross-encoder alone: {share(stays)}; promoted or dropped alike, too: {share(fate)};"
    )
    print(f"at the same level: {share(level)}")
    print(
        f"of {len(gone)} that go, {share(gone)} are caught; to let all stay agrees on {1 - len(gone) / len(pairs):.3f}"
    )


def kind(verdict: Verdict) -> str:
    """What becomes of a negative."""
    return "stays" if verdict.level_after is not None else verdict.decision


def share(hits: Sequence[bool]) -> str:
    """A share with its 95 % bootstrap interval."""
    drawn = np.random.default_rng(0).choice(np.array(hits), (2_000, len(hits))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{np.mean(hits):.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
