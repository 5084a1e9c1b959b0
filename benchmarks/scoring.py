"""Cross-encoder throughput: batches on two threads against one pair at a time on each of two.

    python benchmarks/scoring.py [pairs]

Prints pairs per second (medians of interleaved repeats), ratios to the first variant, and how far the logits move.
"""

import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from tokenizers import Encoding, Tokenizer

from finegrade.cross_encoders import OnnxCrossEncoder
from finegrade.fetching import fetch
from finegrade.onnx_model import OnnxModel
from finegrade.sources.python_docs import read_python_docs

REPEATS, MAX_LENGTH, THREADS = 5, 192, 2
FOLDER = fetch("reranker-en")


def batched(size: int) -> Callable[[list[tuple[str, str]]], NDArray[np.float64]]:
    """Length-sorted batches through one session with all threads."""
    tokenizer = Tokenizer.from_file(str(FOLDER / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.enable_truncation(MAX_LENGTH)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = THREADS
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

    def score(pairs: list[tuple[str, str]]) -> NDArray[np.float64]:
        encodings = tokenizer.encode_batch(pairs)
        order = np.argsort([len(e.ids) for e in encodings])
        found = np.empty(len(pairs))
        for start in range(0, len(pairs), size):
            part = order[start : start + size]
            found[part] = logits([encodings[i] for i in part])
        return found

    return score


def main() -> None:
    """Times every variant on the same pairs, interleaved."""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 200
    docs = list(read_python_docs(["numpy"]))
    pairs = [(docs[i].query, docs[(i * 7) % len(docs)].positive) for i in range(count)]
    ours = OnnxCrossEncoder(OnnxModel(FOLDER, MAX_LENGTH, THREADS))
    variants: dict[str, Callable[[list[tuple[str, str]]], NDArray[np.float64]]] = {
        "one pair, one session": batched(1),
        **{f"batches of {size}": batched(size) for size in (8, 32)},
        "one pair a thread (used)": lambda p: np.array(list(ours.scores(p))),
    }
    rates: dict[str, list[float]] = {name: [] for name in variants}
    logits = {}
    for _ in range(REPEATS):
        for name, score in variants.items():
            began = time.perf_counter()
            logits[name] = score(pairs)
            rates[name].append(count / (time.perf_counter() - began))
    base = next(iter(variants))
    print(f"{'variant':28} {'pairs/s':>8} {'ratio':>6} {'largest change of a logit':>26}")
    for name in variants:
        ratio = statistics.median(a / b for a, b in zip(rates[name], rates[base], strict=True))
        moved = np.abs(logits[name] - logits[base]).max()
        print(f"{name:28} {statistics.median(rates[name]):8.1f} {ratio:6.2f} {moved:26.3f}")


if __name__ == "__main__":
    main()
