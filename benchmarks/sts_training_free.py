"""Poolings without any training: STS-B (Spearman) and retrieval, on decoders as they are and on a trained encoder.

    python benchmarks/sts_training_free.py            # STS-B test: every form on every backbone, with intervals
    python benchmarks/sts_training_free.py --search   # half of STS-B dev and retrieval on training packages

Forms are chosen with ``--search`` alone: on the even rows of STS-B dev, and on pairs of the Python docs of the demo's
training packages. STS-B test is for reporting what was chosen; what the report itself suggests is confirmed on others,
``--split train``.
"""

import argparse
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import Tensor

from finegrade.console import progress
from finegrade.data.python_docs import read_python_docs
from finegrade.data.splitting import merge
from finegrade.evaluation.metrics import retrieval_metrics, spearman_interval
from finegrade.evaluation.sts import load_stsb, spearman
from finegrade.models.backbone import read_both_ways
from finegrade.models.encoder import backbone_folder
from finegrade.models.portable.visibility import Visibility

TRAINING_PACKAGES = ("PIL", "matplotlib", "numpy", "pandas", "sklearn", "sympy")  # the demo tests on others
MAX_LENGTH = 80
BACKBONES = (
    ("smollm2-135m", True), ("smollm2-135m", False), ("gemma-3-270m", True), ("gemma-3-270m", False),
    ("all-minilm-l6-v2", False),
)  # fmt: skip


@dataclass(frozen=True)
class LastLayer:
    """What the forms see of a batch of texts.

    Attributes:
        probability: [texts, heads, tokens, tokens], float32.
        visible: [texts, 1, tokens, tokens], True where a query (row) may see a key (column).
        valid: [texts, tokens].
    """

    probability: Tensor
    visible: Tensor
    valid: Tensor

    @property
    def keys_seen(self) -> Tensor:
        """K_j, [texts, tokens]."""
        return self.visible[:, 0].sum(-1).float()

    @property
    def heard(self) -> Tensor:
        """|J(i)|, [texts, tokens]; 1 for padding."""
        return self.visible[:, 0].sum(1).clamp(min=1).float()

    @property
    def scaled(self) -> Tensor:
        """K_j a, [texts, heads, queries, keys]."""
        return self.keys_seen[:, None, :, None] * self.probability * self.visible


Form = Callable[[LastLayer], Tensor]


def mean(layer: LastLayer) -> Tensor:
    """Every token the same."""
    return torch.ones_like(layer.valid, dtype=torch.float32)


def weighted_mean(layer: LastLayer) -> Tensor:
    """By position, 1, 2, 3 ..."""
    return layer.valid.cumsum(1).float()


def last(layer: LastLayer) -> Tensor:
    """The last token alone."""
    return (layer.valid.cumsum(1) == layer.valid.sum(1, keepdim=True)).float()


def attention_sum(layer: LastLayer) -> Tensor:
    """Attention received, added up."""
    return (layer.probability * layer.visible).sum((1, 2))


def paper(layer: LastLayer) -> Tensor:
    """The paper's formula as METHOD reads it: K is the number of valid tokens, and nothing is divided."""
    tokens = layer.valid.sum(1)[:, None, None, None]
    return torch.log1p(tokens * layer.probability * layer.visible).sum((1, 2))


def received(layer: LastLayer) -> Tensor:
    """METHOD, section 3: the mean over the queries that may see the token."""
    return torch.log1p(layer.scaled).sum((1, 2)) / layer.heard


def without_log(layer: LastLayer) -> Tensor:
    """The same without the logarithm."""
    return layer.scaled.sum((1, 2)) / layer.heard


def shrunk(layer: LastLayer, prior: float, position: float, heads: str) -> Tensor:
    """As if ``prior`` more queries had attended evenly; times a power of how many tokens the state itself has seen."""
    logs = torch.log1p(layer.scaled)
    every, even = (logs.sum(1), logs.shape[1]) if heads == "sum" else (logs.amax(1), 1)
    weight = (every.sum(1) + prior * even * np.log(2)) / (layer.heard + prior)
    return weight * layer.keys_seen**position


def smoothed(layer: LastLayer) -> Tensor:
    """``received_attention``'s form of that name; no text here is a single token."""
    return shrunk(layer, prior=2, position=0, heads="sum") * (layer.keys_seen > 1)


def without_first(layer: LastLayer, form: Form) -> Tensor:
    """Any form, the first token left out."""
    return form(layer) * (layer.valid.cumsum(1) != 1)


FORMS: dict[str, Form] = {
    "mean": mean,
    "weighted mean": weighted_mean,
    "last": last,
    "attention sum": attention_sum,
    "paper": paper,
    "received": received,
    "received, not the first": partial(without_first, form=received),
    "without log": without_log,
    "max over heads": partial(shrunk, prior=0, position=0, heads="max"),
    "shrunk 2": partial(shrunk, prior=2, position=0, heads="sum"),
    "shrunk 2, not the first": partial(without_first, form=partial(shrunk, prior=2, position=0, heads="sum")),
    "smoothed": smoothed,
}
GRID: dict[str, Form] = {
    f"prior {prior:2} position {position} {heads}{' no first' if first else ''}": (
        partial(without_first, form=form) if first else form
    )
    for heads, first, prior, position in product(("sum", "max"), (False, True), (0, 2, 4, 8, 16, 32), (0, 0.5, 1))
    for form in [partial(shrunk, prior=prior, position=position, heads=heads)]
}


class Backbone:
    """A model in eager attention, read in one direction or both.

    Args:
        name: Catalogue name, folder or Hugging Face id.
        causal: Whether a token sees only what is before it.
        bf16: Computes in bfloat16 autocast, which is faster on many processors and good enough to choose by.
    """

    def __init__(self, name: str, causal: bool, bf16: bool) -> None:
        folder = str(backbone_folder(name))
        self._transformer = Transformer.load(folder, model_kwargs={"attn_implementation": "eager"}).eval()
        self._transformer.max_seq_length = MAX_LENGTH
        if not causal:
            read_both_ways(self._transformer.model)
        self._causal, self._bf16 = causal, bf16
        self.title = f"{name}, {'causal' if causal else 'bidirectional'}"

    def batches(self, texts: Sequence[str], size: int = 32) -> Iterator[tuple[list[int], Tensor, LastLayer]]:
        """The numbers of some texts, their token states, and their last layer; texts of like length together."""
        order = sorted(range(len(texts)), key=lambda number: len(texts[number]))
        with progress(f"encoding, {self.title}", len(texts)) as meter, torch.inference_mode():
            for start in range(0, len(order), size):
                numbers = order[start : start + size]
                inputs = dict(self._transformer.preprocess([texts[number] for number in numbers]))
                mask = inputs["attention_mask"]
                names = ("input_ids", "attention_mask", "token_type_ids")
                with torch.autocast("cpu", torch.bfloat16, enabled=self._bf16):
                    output = self._transformer.model(
                        **{name: inputs[name] for name in names if name in inputs}, output_attentions=True
                    )
                rule = Visibility(mask, len(numbers), mask.shape[1], self._causal, None, mask.device)
                visible = rule.rows(0, mask.shape[1])[:, None].expand(len(numbers), 1, -1, -1)
                layer = LastLayer(output.attentions[-1].float(), visible, mask.bool())
                yield numbers, output.last_hidden_state.float(), layer
                meter.advance(len(numbers))

    def vectors(self, texts: Sequence[str], forms: dict[str, Form]) -> dict[str, NDArray[np.float32]]:
        """Unit vectors of the texts by every form, [texts, dimension]."""
        found: dict[str, NDArray[np.float32]] = {}
        for numbers, states, layer in self.batches(texts):
            for name, form in forms.items():
                weights = form(layer) * layer.valid
                pooled = torch.nn.functional.normalize(torch.einsum("bn,bnd->bd", weights, states), dim=-1).numpy()
                found.setdefault(name, np.zeros((len(texts), pooled.shape[1]), np.float32))[numbers] = pooled
        return found


def sts_similarities(
    backbone: Backbone, left: Sequence[str], right: Sequence[str], forms: dict[str, Form]
) -> dict[str, NDArray[np.float64]]:
    """Cosine of every pair by every form."""
    vectors = backbone.vectors([*left, *right], forms)
    return {
        name: np.einsum("nd,nd->n", both[: len(left)], both[len(left) :]).astype(np.float64)
        for name, both in vectors.items()
    }


def training_pairs(count: int) -> tuple[list[str], list[str]]:
    """Queries of the training packages' docs, each with the text that answers it."""
    drawn = random.Random(0).sample(merge(list(read_python_docs(TRAINING_PACKAGES))), count)
    return [seed.query for seed in drawn], [seed.positives[0] for seed in drawn]


def retrieval_scores(
    backbone: Backbone, queries: Sequence[str], texts: Sequence[str], forms: dict[str, Form]
) -> dict[str, NDArray[np.float64]]:
    """nDCG@10 of every query by every form."""
    vectors = backbone.vectors([*queries, *texts], forms)
    relevant = [frozenset([number]) for number in range(len(queries))]
    found = {}
    for name, both in vectors.items():
        ranking = np.argsort(-(both[: len(queries)] @ both[len(queries) :].T), axis=1, kind="stable")[:, :10]
        found[name] = retrieval_metrics(ranking.tolist(), relevant)["nDCG@10"]
    return found


def search(backbones: Sequence[tuple[str, bool]], pairs: int, bf16: bool) -> None:
    """Every form and the grid, on what may be chosen on."""
    forms = FORMS | GRID
    left, right, gold = load_stsb("sts-b", "dev")
    left, right, gold = left[::2], right[::2], gold[::2]
    queries, texts = training_pairs(pairs)
    for name, causal in backbones:
        backbone = Backbone(name, causal, bf16)
        similarities = sts_similarities(backbone, left, right, forms)
        retrieval = retrieval_scores(backbone, queries, texts, forms)
        best = max(("mean", "weighted mean"), key=lambda form: spearman(similarities[form], gold))
        print(f"\n{backbone.title}: STS-B dev (even rows), over the {best}; nDCG@10 of {pairs} training pairs")
        for form in forms:
            over = spearman_interval([similarities[form], similarities[best]], gold, 200, 0.95, 0)
            line = f"{spearman(similarities[form], gold):.3f}  {over.value:+.3f} [{over.low:+.3f}, {over.high:+.3f}]"
            print(f"  {form:40} {line}  {retrieval[form].mean():.3f}", flush=True)


def report(backbones: Sequence[tuple[str, bool]], split: str, resamples: int, bf16: bool) -> None:
    """STS-B with intervals, and the difference from the better of mean and weighted mean; of train, one row in four."""
    left, right, gold = load_stsb("sts-b", split)
    if split == "train":
        left, right, gold = left[::4], right[::4], gold[::4]
    for name, causal in backbones:
        backbone = Backbone(name, causal, bf16)
        similarities = sts_similarities(backbone, left, right, FORMS)
        best = max(("mean", "weighted mean"), key=lambda form: spearman(similarities[form], gold))
        print(f"\n{backbone.title}: STS-B {split}; difference from the {best}")
        for form, found in similarities.items():
            own = spearman_interval([found], gold, resamples, 0.95, 0)
            line = f"  {form:26} {own.value:.3f} [{own.low:.3f}, {own.high:.3f}]"
            if form != best:
                over = spearman_interval([found, similarities[best]], gold, resamples, 0.95, 0)
                line += f"   {over.value:+.3f} [{over.low:+.3f}, {over.high:+.3f}]"
            print(line, flush=True)


def main() -> None:
    """Reads the options and prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--search", action="store_true", help="choose, on development data")
    parser.add_argument("--backbones", nargs="+", default=None, help="only those whose name begins so")
    parser.add_argument("--split", choices=("test", "train"), default="test", help="of STS-B, for the report")
    parser.add_argument("--pairs", type=int, default=600, help="training pairs for retrieval")
    parser.add_argument("--bf16", action="store_true", help="compute in bfloat16")
    parser.add_argument("--resamples", type=int, default=1_000)
    options = parser.parse_args()
    chosen = [b for b in BACKBONES if not options.backbones or b[0].startswith(tuple(options.backbones))]
    if options.search:
        search(chosen, options.pairs, options.bf16)
    else:
        report(chosen, options.split, options.resamples, options.bf16)


if __name__ == "__main__":
    main()
