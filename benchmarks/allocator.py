"""Training steps on a CPU with and without ``keep_freed_memory``.

    python benchmarks/allocator.py [steps]

Each variant runs in processes of its own, alternating. Prints seconds a step (medians, the first step of a process left
out), the ratio, and the seconds that the system spent on the process's behalf: page faults.
"""

import json
import resource
import statistics
import subprocess
import sys
import time

REPEATS, BATCH, WORDS = 3, 64, 90


def steps(keep: bool, count: int) -> None:
    """One process: trains all-MiniLM-L6-v2 on texts of about 120 tokens, and prints its times."""
    import torch
    from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

    from finegrade.machine import keep_freed_memory
    from finegrade.models.encoder import build_encoder
    from finegrade.training.trainer import computes_in_bf16

    if keep:
        keep_freed_memory()
    model = build_encoder("all-minilm-l6-v2", pooling="anchor", max_length=128)
    model.train()
    loss = MultipleNegativesRankingLoss(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-5)
    texts = [" ".join(f"word{(i * j) % 97}" for j in range(WORDS)) for i in range(BATCH)]
    seconds = []
    for _ in range(count):
        began = time.perf_counter()
        features = [model.preprocess(column) for column in (texts[::-1], texts, texts)]
        with torch.autocast("cpu", torch.bfloat16, enabled=computes_in_bf16()):
            value = loss(features, None)
        value.backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.perf_counter() - began)
    usage = resource.getrusage(resource.RUSAGE_SELF)
    print(json.dumps({"steps": seconds[1:], "system": usage.ru_stime, "memory": usage.ru_maxrss / 2**20}))


def main() -> None:
    """Runs both variants by turns and compares them."""
    count = sys.argv[1] if len(sys.argv) > 1 else "4"
    found: dict[str, list[dict[str, object]]] = {"default": [], "kept": []}
    for _ in range(REPEATS):
        for name, runs in found.items():
            command = [sys.executable, __file__, count, name]
            runs.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout.splitlines()[-1]))
    print(f"{'memory':10} {'s a step':>9} {'system s':>9} {'GiB':>6}")
    medians = {}
    for name, runs in found.items():
        medians[name] = statistics.median(value for run in runs for value in run["steps"])  # type: ignore[attr-defined]
        system = statistics.median(float(str(run["system"])) for run in runs)
        memory = statistics.median(float(str(run["memory"])) for run in runs)
        print(f"{name:10} {medians[name]:9.2f} {system:9.1f} {memory:6.1f}")
    print(f"ratio {medians['default'] / medians['kept']:.2f}")


if __name__ == "__main__":
    if len(sys.argv) > 2:
        steps(sys.argv[2] == "kept", int(sys.argv[1]))
    else:
        main()
