"""What anchor pooling costs beside mean pooling: whole-model encoding, training steps, memory.

    python benchmarks/pooling.py --train 128 [--repeats 20] [--lengths 128 512 2048] [--models smollm2 minilm]

Models have random weights in the shapes of SmolLM2-135M and all-MiniLM-L6-v2 (positions extended). All variants run
interleaved in one process; what is printed is the median of paired ratios, with the quarters around it. Higher is
better, and 1.00 is the speed of mean pooling. "passes" is the extra time over mean pooling in units of one pass of
QK^T, exp and log1p over one layer, measured in the same run.
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
from tokenizers import Tokenizer
from tokenizers.models import WordLevel
from tokenizers.pre_tokenizers import Whitespace
from torch import Tensor
from transformers import BertConfig, BertModel, LlamaConfig, LlamaModel, PreTrainedTokenizerFast

from finegrade.models.portable.anchor_pooling import AnchorPooling
from finegrade.models.portable.anchor_transformer import AnchorTransformer

TOKENS = 4096  # encoded at once, whatever the length of a text is
VARIANTS = ("mean", "anchor")
SHAPES = {
    "smollm2": LlamaConfig(
        vocab_size=2048, hidden_size=576, intermediate_size=1536, num_hidden_layers=30, num_attention_heads=9,
        num_key_value_heads=3, max_position_embeddings=8192,
    ),
    "minilm": BertConfig(
        vocab_size=2048, hidden_size=384, intermediate_size=1536, num_hidden_layers=6, num_attention_heads=12,
        max_position_embeddings=8192,
    ),
}  # fmt: skip


def write_backbone(shape: str, folder: Path) -> Path:
    """A model with random weights, and a tokenizer, as sentence-transformers loads them."""
    torch.manual_seed(0)
    config = SHAPES[shape]
    model = LlamaModel(config) if isinstance(config, LlamaConfig) else BertModel(config)
    model.save_pretrained(folder)
    words = {word: number for number, word in enumerate(["[PAD]", "[UNK]", *(f"w{i}" for i in range(2000))])}
    tokenizer = Tokenizer(WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = Whitespace()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="[PAD]", unk_token="[UNK]", model_max_length=8192
    ).save_pretrained(folder)
    return folder


def build(folder: Path, variant: str) -> SentenceTransformer:
    """The backbone with mean or anchor pooling."""
    if variant == "mean":
        transformer = Transformer(str(folder))
        pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
    else:
        transformer = AnchorTransformer(str(folder))
        pooling = AnchorPooling(transformer.get_embedding_dimension())
    return SentenceTransformer(modules=[transformer, pooling], device="cpu")


def batch(length: int, tokens: int = TOKENS) -> dict[str, Tensor]:
    """Texts of this length: the last quarter of them shorter, so that there is padding."""
    texts = max(1, tokens // length)
    ids = torch.randint(2, 2000, (texts, length), generator=torch.Generator().manual_seed(1))
    mask = torch.ones_like(ids)
    mask[-max(1, texts // 4) :, length - length // 8 :] = 0
    return {"input_ids": ids, "attention_mask": mask}


def encode(model: SentenceTransformer, features: dict[str, Tensor]) -> None:
    """One forward pass, nothing kept."""
    with torch.inference_mode():
        model(dict(features))


def with_all_attentions(model: SentenceTransformer, features: dict[str, Tensor]) -> None:
    """The usual way to see attention: eager, every layer's matrix."""
    with torch.inference_mode():
        model[0].model(**features, output_attentions=True)


def step(model: SentenceTransformer, features: dict[str, Tensor]) -> None:
    """Forward and backward in bf16 autocast, as training on a CPU does it."""
    with torch.autocast("cpu", torch.bfloat16):
        vectors = model(dict(features))["sentence_embedding"]
    vectors.float().square().sum().backward()
    model.zero_grad(set_to_none=True)


def one_pass(shape: str, features: dict[str, Tensor]) -> Callable[[], None]:
    """QK^T, exp and log1p over one layer, a text at a time."""
    config = SHAPES[shape]
    heads, size = config.num_attention_heads, config.hidden_size // config.num_attention_heads
    texts, length = features["input_ids"].shape
    query, key = torch.randn(2, texts, heads, length, size)

    def run() -> None:
        with torch.inference_mode():
            for text in range(texts):
                torch.matmul(query[text], key[text].transpose(-1, -2)).exp_().log1p_()

    return run


def seconds(work: Callable[[], None]) -> float:
    """Of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def interleaved(works: dict[str, Callable[[], None]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each work, all of them one after the other in every round; the first round is not counted."""
    names = list(works)
    found: dict[str, list[float]] = {name: [] for name in names}
    for number in range(repeats + 1):
        for name in names if number % 2 else reversed(names):
            spent = seconds(works[name])
            if number:
                found[name].append(spent)
    return found


def summary_of(ratios: Sequence[float]) -> str:
    """Median and quarters."""
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.3f} [{low:.3f}, {high:.3f}]"


def table(shape: str, lengths: Sequence[int], repeats: int, train: Sequence[int]) -> None:
    """Prints a line for each length."""
    with tempfile.TemporaryDirectory() as work:
        folder = write_backbone(shape, Path(work))
        models = {variant: build(folder, variant) for variant in VARIANTS}
        eager = SentenceTransformer(
            modules=[Transformer(str(folder), model_kwargs={"attn_implementation": "eager"})], device="cpu"
        )
        for length in lengths:
            features = batch(length)
            works = {name: partial(encode, model, features) for name, model in models.items()}
            works["pass"] = one_pass(shape, features)
            found = interleaved(works, repeats)
            speed = [mean / anchor for mean, anchor in zip(found["mean"], found["anchor"], strict=True)]
            passes = [(a - m) / p for m, a, p in zip(found["mean"], found["anchor"], found["pass"], strict=True)]
            line = f"{shape:8} {length:5}  encoding {summary_of(speed)}  passes {summary_of(passes)}"
            everything = {"anchor": works["anchor"], "all": partial(with_all_attentions, eager, features)}
            slow = interleaved(everything, max(3, repeats // 4))
            times = statistics.median(slow["all"]) / statistics.median(slow["anchor"])
            line += f"  against all attentions {times:.1f}x"
            if length in train:
                trained = interleaved({name: partial(step, model, features) for name, model in models.items()}, repeats)
                speed = [mean / anchor for mean, anchor in zip(trained["mean"], trained["anchor"], strict=True)]
                line += f"  training {summary_of(speed)}"
            print(line, flush=True)


def peak(shape: str, variant: str, length: int) -> float:
    """Megabytes that a process of its own holds at most while it encodes one batch (Linux)."""
    command = [sys.executable, __file__, "--models", shape, "--lengths", str(length), "--peak", variant]
    return float(subprocess.run(command, capture_output=True, text=True, check=True).stdout) / 1024


def main() -> None:
    """Reads the options and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--lengths", type=int, nargs="+", default=[128, 512, 2048])
    parser.add_argument("--models", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--train", type=int, nargs="+", default=[], help="lengths whose training steps are timed too")
    parser.add_argument("--peak", choices=VARIANTS, help="only encode once and print the process's peak in kB")
    options = parser.parse_args()
    if options.peak:
        with tempfile.TemporaryDirectory() as work:
            model = build(write_backbone(options.models[0], Path(work)), options.peak)
        features = batch(options.lengths[0])
        Path("/proc/self/clear_refs").write_text("5")  # the peak so far was that of building the model
        encode(model, features)
        print(next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "VmHWM" in line))
        return
    for shape in options.models:
        table(shape, options.lengths, options.repeats, options.train)
        for length in options.lengths:
            mean, anchor = (peak(shape, variant, length) for variant in VARIANTS)
            print(
                f"{shape:8} {length:5}  peak {mean:,.0f} MB mean, {anchor:,.0f} MB anchor: {anchor / mean:.3f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
