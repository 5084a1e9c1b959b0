"""Anchor-token-aware pooling: the mean of the token states, weighted by the attention that each token receives."""

import shutil
from pathlib import Path
from typing import Any

import torch
from sentence_transformers.base.modules.module import Module
from torch import Tensor

FILES = ("visibility.py", "blockwise.py", "received_attention.py", "anchor_transformer.py", "anchor_pooling.py")
"""What a model folder carries."""


class AnchorPooling(Module):
    """v = sum_i w_i h_i / sum_i w_i, with w_i from ``received_attention`` (Pan et al., ACL 2025, section 3).

    Args:
        embedding_dimension: Of the token states and of the pooled vector.
        include_prompt: Whether the tokens of a prompt get weight; they attend in any case.
    """

    config_keys = ["embedding_dimension", "include_prompt"]

    def __init__(self, embedding_dimension: int, include_prompt: bool = True) -> None:
        super().__init__()
        self.embedding_dimension = embedding_dimension
        self.include_prompt = include_prompt

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Adds ``sentence_embedding`` [batch, embedding_dimension]; a row that is all padding gives 0."""
        states: Tensor = features["token_embeddings"]
        weights: Tensor = features["received_attention"]
        mask: Tensor = features["attention_mask"]
        weights = weights * (mask if self.include_prompt else _without_prompt(mask, features.get("prompt_length")))
        total = weights.sum(1, keepdim=True)
        weights = weights / torch.where(total > 0, total, 1)
        pooled = torch.einsum("bn,bnd->bd", weights, states.float())
        features["sentence_embedding"] = pooled.to(states.dtype)
        return features

    def get_embedding_dimension(self) -> int:
        """Of the pooled vector."""
        return self.embedding_dimension

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Writes the configuration (there are no weights), and this code into the model folder's root.

        sentence-transformers resolves a module's class from the root alone, but would copy it beside the configuration.
        """
        self.save_config(output_path)
        for name in FILES:
            target = Path(output_path).parent / name
            if not target.exists():
                shutil.copyfile(Path(__file__).parent / name, target)


def _without_prompt(mask: Tensor, prompt_length: Tensor | int | None) -> Tensor:
    """The mask without the first ``prompt_length`` valid tokens, wherever the padding is."""
    if prompt_length is None:
        return mask
    length = int(prompt_length.flatten()[0]) if isinstance(prompt_length, Tensor) else int(prompt_length)
    return mask * (mask.cumsum(1) > length)
