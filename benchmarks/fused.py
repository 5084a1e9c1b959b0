"""What the Triton kernels cost on a GPU, and whether they compute there what the definition says.

    python benchmarks/fused.py [--repeats 20] [--lengths 512 1024 2048 4096 8192] [--models smollm2 minilm]

Three tables. "parity": the largest deviations of the weights and of the gradients of query and key from the definition
in float64, as shares of the largest value. "alone": milliseconds of received attention of one layer, forward, and
forward with backward, and the share of the time that its matrix products (two of QK^T's size forward, five more
backward) and its reading would take at the peaks of this GPU, which a large product and a copy measure in the same run;
and how many times as long the blockwise backend takes. "encoding": whole models with random weights in bfloat16; the
speed of anchor pooling by each backend where mean pooling's is 1, the median of paired ratios with the quarters around
it, for batches with and without padding.
"""

import argparse
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from finegrade.models.portable.received_attention import Backend, received_attention
from pooling import SHAPES, batch, build, encode, interleaved, summary_of, write_backbone

TOKENS = 32768  # encoded at once, whatever the length of a text is
HEADS, KV_HEADS, HEAD_DIM = 16, 8, 64
FORWARD, BACKWARD = 2, 5  # products of the size of QK^T
BACKENDS: tuple[Backend, ...] = ("triton", "blockwise")
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


def draw(texts: int, length: int, dtype: torch.dtype, device: str) -> list[Tensor]:
    """Query and key of one layer."""
    torch.manual_seed(0)
    shapes = [(texts, heads, length, HEAD_DIM) for heads in (HEADS, KV_HEADS)]
    return [torch.randn(shape, dtype=dtype, device=device).requires_grad_() for shape in shapes]


def definition(query: Tensor, key: Tensor, causal: bool) -> Tensor:
    """Received attention without padding, in the precision of its input."""
    length = query.shape[2]
    seen = torch.ones(length, length, dtype=torch.bool, device=query.device)
    seen = seen.tril() if causal else seen
    logits = query @ key.repeat_interleave(query.shape[1] // key.shape[1], 1).mT * query.shape[-1] ** -0.5
    shares = torch.softmax(logits.masked_fill(~seen, -torch.inf), -1)
    return torch.log1p(seen.sum(-1, keepdim=True) * shares).sum((1, 2)) / seen.sum(0)


def parity(length: int, dtype: torch.dtype, causal: bool, device: str = "cuda") -> list[float]:
    """Deviations of the weights, of the gradient of query and of that of key."""
    inputs = draw(2, length, dtype, device)
    exact = [x.detach().double().requires_grad_() for x in inputs]
    direction = torch.linspace(-1, 1, 2 * length, device=device).view(2, length)
    results = []
    for function, tensors in ((partial(received_attention, backend="triton"), inputs), (definition, exact)):
        weights = function(*tensors, causal=causal)
        results.append([weights, *torch.autograd.grad((weights * direction).sum(), tensors)])
    return [((one - other).abs().max() / other.abs().max()).item() for one, other in zip(*results, strict=True)]


def milliseconds(work: Callable[[], object], repeats: int) -> float:
    """Median of one call, on the GPU's clock."""
    spent = []
    for number in range(repeats + 3):
        began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        began.record()
        work()
        ended.record()
        torch.cuda.synchronize()
        if number >= 3:
            spent.append(began.elapsed_time(ended))
    return statistics.median(spent)


def peaks(repeats: int) -> tuple[float, float]:
    """Multiplications and additions, and bytes, in a millisecond."""
    size = 8192
    left, right = torch.randn(2, size, size, device="cuda", dtype=torch.bfloat16)
    products = 2 * size**3 / milliseconds(lambda: left @ right, repeats)
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    return products, 2 * source.numel() / milliseconds(lambda: target.copy_(source), repeats)


def alone(length: int, causal: bool, repeats: int, products: float, copied: float) -> str:
    """One layer's received attention in bfloat16."""
    texts = max(1, TOKENS // length)
    query, key = draw(texts, length, torch.bfloat16, "cuda")

    def forward(backend: Backend) -> Tensor:
        return received_attention(query, key, causal=causal, backend=backend)

    def both(backend: Backend) -> None:
        torch.autograd.grad(forward(backend).sum(), (query, key))

    product = 2 * texts * HEADS * length**2 * HEAD_DIM / products / (2 if causal else 1)
    reading = (query.nbytes + key.nbytes) / copied
    line = f"{length:6} {'causal' if causal else 'both ways':9}"
    for name, work, passes in (("forward", forward, FORWARD), ("and backward", both, FORWARD + BACKWARD)):
        spent = milliseconds(partial(work, "triton"), repeats)
        line += f"  {name} {spent:8.3f} ms, {max(passes * product, FORWARD * reading) / spent:.2f} of its floor's speed"
        line += f", blockwise {milliseconds(partial(work, 'blockwise'), 3) / spent:4.1f} times"
    return line


def synchronised(work: Callable[[], None]) -> None:
    """Until the GPU has done it."""
    work()
    torch.cuda.synchronize()


def encoding(shape: str, lengths: Sequence[int], repeats: int) -> None:
    """Prints a line for each length."""
    with tempfile.TemporaryDirectory() as work:
        folder = write_backbone(shape, Path(work))
        models = {"mean": build(folder, "mean")}
        for backend in BACKENDS:
            models[backend] = build(folder, "anchor")
            models[backend][0].use_backend(backend)
        models = {name: model.to("cuda", torch.bfloat16) for name, model in models.items()}
    for length in lengths:
        line = f"{shape:8} {length:5}"
        for padded in (True, False):
            features = {name: x.cuda() for name, x in batch(length, TOKENS).items()}
            if not padded:
                features["attention_mask"].fill_(1)
            works = {n: partial(synchronised, partial(encode, model, features)) for n, model in models.items()}
            found = interleaved(works, repeats)
            for backend in BACKENDS:
                speed = [mean / anchor for mean, anchor in zip(found["mean"], found[backend], strict=True)]
                line += f"  {backend} {'padded' if padded else 'full'} {summary_of(speed)}"
        print(line, flush=True)


def main() -> None:
    """Reads the options and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--lengths", type=int, nargs="+", default=[512, 1024, 2048, 4096, 8192])
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    options = parser.parse_args()
    if not torch.cuda.is_available():
        print("there is no GPU here that torch can use; this benchmark is of nothing else", file=sys.stderr)
        raise SystemExit(2)
    print("parity: weights, gradient of query, gradient of key")
    for length in (2, 63, 513, 2048):
        for dtype in DTYPES:
            for causal in (False, True):
                found = " ".join(f"{x:.1e}" for x in parity(length, dtype, causal))
                print(f"{length:6} {dtype!s:15} {'causal' if causal else 'both ways':9}  {found}", flush=True)
    products, copied = peaks(options.repeats)
    print(f"alone: {torch.cuda.get_device_name()}, {products / 1e9:.0f} TFLOP/s, {copied / 1e9:.2f} TB/s")
    for length in options.lengths:
        for causal in (False, True):
            print(alone(length, causal, options.repeats, products, copied), flush=True)
    print("encoding: speed of anchor pooling, where that of mean pooling is 1")
    for shape in options.models:
        encoding(shape, options.lengths, options.repeats)


if __name__ == "__main__":
    main()
