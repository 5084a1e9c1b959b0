"""Anchor-token-aware pooling: the mean of the token states, weighted by the attention that each token receives."""

from typing import Any

from .token_pooling import TokenPooling


class AnchorPooling(TokenPooling):
    """v = sum_i w_i h_i / sum_i w_i, with w_i from ``received_attention`` (Pan et al., ACL 2025, section 3).

    Args:
        embedding_dimension: Of the token states and of the pooled vector.
        include_prompt: Whether the tokens of a prompt get weight; they attend in any case.
    """

    files = (
        "visibility.py", "blockwise.py", "fused_kernels.py", "fused.py", "received_attention.py",
        "anchor_transformer.py", "token_pooling.py", "anchor_pooling.py",
    )  # fmt: skip

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Adds ``sentence_embedding`` [batch, embedding_dimension]; a row that is all padding gives 0.

        Also adds ``anchor_weights`` [batch, tokens], which add up to 1 in each row that is not all padding. With
        flattened inputs, one row of all texts, they add up to 1 for each text.
        """
        features["sentence_embedding"], features["anchor_weights"] = self.weighted_mean(
            features["token_embeddings"], features["received_attention"], features
        )
        return features
