"""NV-Embed's latent-attention pooling, for comparison with anchor pooling."""

from typing import Any

import torch
from torch import Tensor, nn

from .token_pooling import TokenPooling

HEADS = 8
"""Of the attention to the latents, as NV-Embed has it."""


class LatentPooling(TokenPooling):
    """Each token state looks up an array of trained latents; the mean of what it finds is the vector.

    NV-Embed (Lee et al., arXiv:2405.17428, section 3.1): token states are the queries, the latents are keys and values,
    8 heads; then an MLP with GELU; then the mean over the tokens. As in its published model both steps add to what
    comes in, behind a layer norm. Ours: the last matrix of each step begins at 0, so that an untrained module is mean
    pooling.

    Args:
        embedding_dimension: Of the token states and of the pooled vector; a multiple of heads.
        latents: How many there are.
        heads: Of the attention to the latents.
        include_prompt: Whether the tokens of a prompt are pooled.
    """

    config_keys = ["embedding_dimension", "latents", "heads", "include_prompt"]
    files = ("token_pooling.py", "latent_pooling.py")

    def __init__(
        self, embedding_dimension: int, latents: int = 512, heads: int = HEADS, include_prompt: bool = True
    ) -> None:
        super().__init__(embedding_dimension, include_prompt)
        if embedding_dimension % heads:
            raise ValueError(f"{embedding_dimension} dimensions are no multiple of {heads} heads")
        self.latents, self.heads = latents, heads
        self.array = nn.Parameter(torch.randn(latents, embedding_dimension) * embedding_dimension**-0.5)
        self.state_norm = nn.LayerNorm(embedding_dimension)
        self.latent_norm = nn.LayerNorm(embedding_dimension)
        self.attention = nn.MultiheadAttention(embedding_dimension, heads, bias=False, batch_first=True)
        self.mlp = nn.Sequential(
            nn.LayerNorm(embedding_dimension),
            nn.Linear(embedding_dimension, 4 * embedding_dimension),
            nn.GELU(),
            nn.Linear(4 * embedding_dimension, embedding_dimension),
        )
        last: Any = self.mlp[-1]
        for matrix in (self.attention.out_proj.weight, last.weight, last.bias):
            nn.init.zeros_(matrix)

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Adds ``sentence_embedding`` [batch, embedding_dimension]; a row that is all padding gives 0."""
        states: Tensor = features["token_embeddings"]
        latents = self.latent_norm(self.array).expand(len(states), -1, -1)
        found = states + self.attention(self.state_norm(states), latents, latents, need_weights=False)[0]
        found = found + self.mlp(found)
        even = torch.ones(found.shape[:2], device=found.device)
        features["sentence_embedding"], _ = self.weighted_mean(found, even, features)
        return features

    def save(self, output_path: str, *args: Any, **kwargs: Any) -> None:
        """Writes configuration, weights (safetensors), and the code into the model folder's root."""
        super().save(output_path)
        self.save_torch_weights(output_path, safe_serialization=True)

    @classmethod
    def load(cls, model_name_or_path: str, **kwargs: Any) -> "LatentPooling":
        """From a model folder."""
        where = {name: kwargs[name] for name in _WHERE if name in kwargs}
        module = cls(**cls.load_config(model_name_or_path, **where))
        found: LatentPooling = cls.load_torch_weights(model_name_or_path, model=module, **where)
        return found


_WHERE = ("subfolder", "token", "cache_folder", "revision", "local_files_only")
