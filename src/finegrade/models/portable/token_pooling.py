"""What pooling modules share: the weighted mean of token states, padded or flattened, with or without the prompt."""

import shutil
from pathlib import Path
from typing import Any, ClassVar

import torch
from sentence_transformers.base.modules.module import Module
from torch import Tensor


class TokenPooling(Module):
    """Pools token states into one vector, and is saved with its code.

    Args:
        embedding_dimension: Of the token states and of the pooled vector.
        include_prompt: Whether the tokens of a prompt are pooled; they attend in any case.
    """

    config_keys = ["embedding_dimension", "include_prompt"]
    files: ClassVar[tuple[str, ...]] = ("token_pooling.py",)
    """The code that a model folder carries."""

    def __init__(self, embedding_dimension: int, include_prompt: bool = True) -> None:
        super().__init__()
        self.embedding_dimension = embedding_dimension
        self.include_prompt = include_prompt

    def weighted_mean(self, states: Tensor, weights: Tensor, features: dict[str, Any]) -> tuple[Tensor, Tensor]:
        """The mean of a text's states, without padding.

        Args:
            states: [batch, tokens, dimension]; of flattened inputs [1, tokens of all texts, dimension].
            weights: [batch, tokens] (or [1, tokens of all texts]), not negative.
            features: With attention_mask, prompt_length, or the texts' borders where inputs are flattened.

        Returns:
            [batch, dimension], 0 for a row that is all padding; and the weights, which add up to 1 in each text.
        """
        prompt = None if self.include_prompt else _prompt_length(features.get("prompt_length"))
        if "cu_seq_lens_q" in features:
            pooled, weights = _of_flattened(states, weights, features["cu_seq_lens_q"], prompt)
        else:
            mask: Tensor = features.get("attention_mask", torch.ones_like(weights))
            weights = weights * (mask if prompt is None else mask * (mask.cumsum(1) > prompt))
            total = weights.sum(1, keepdim=True)
            weights = weights / torch.where(total > 0, total, 1)
            pooled = torch.einsum("bn,bnd->bd", weights, states.float())
        return pooled.to(states.dtype), weights

    def get_embedding_dimension(self) -> int:
        """Of the pooled vector."""
        return self.embedding_dimension

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Writes the configuration, and the code into the model folder's root.

        sentence-transformers resolves a module's class from the root alone, but would copy it beside the configuration.
        Where this code itself came with a model, each module has only its own files at hand, and the others are there.
        """
        self.save_config(output_path)
        for name in self.files:
            source, target = Path(__file__).parent / name, Path(output_path).parent / name
            if source.exists() or not target.exists():
                _copy(source, target)


def _copy(source: Path, target: Path) -> None:
    if not (target.exists() and target.samefile(source)):
        shutil.copyfile(source, target)


def _prompt_length(value: Tensor | int | None) -> int | None:
    if value is None:
        return None
    return int(value.flatten()[0]) if isinstance(value, Tensor) else int(value)


def _of_flattened(states: Tensor, weights: Tensor, ends: Tensor, prompt: int | None) -> tuple[Tensor, Tensor]:
    """[1, tokens, dimension] and [1, tokens] to [texts, dimension] and weights that add up to 1 for each text."""
    lengths = (ends[1:] - ends[:-1]).long()
    text = torch.repeat_interleave(torch.arange(len(lengths), device=ends.device), lengths)
    kept = weights[0]
    if prompt is not None:
        place = torch.arange(len(text), device=ends.device) - ends[:-1].long()[text]
        kept = kept * (place >= prompt)
    total = torch.zeros(len(lengths), device=kept.device).index_add(0, text, kept)
    kept = kept / torch.where(total > 0, total, 1)[text]
    pooled = torch.zeros(len(lengths), states.shape[-1], device=kept.device)
    return pooled.index_add(0, text, kept[:, None] * states[0].float()), kept[None]
