"""Received attention: the weight that anchor-token-aware pooling gives each token. The definition.

For key i, J(i) are the valid queries that may see i, and K_j is the number of keys that query j may see:

    w_i = (1 / |J(i)|) * sum_h sum_{j in J(i)} log(1 + K_j a^h_{j->i})

With full bidirectional attention this is the reading of Pan et al. (ACL 2025, arXiv:2509.00842), section 3, up to a
constant that cancels when the weights are normalised; the mean over J(i) makes it right for causal models too, where
the plain sum is drowned by the first token, which every query sees.
"""

import torch
from torch import Tensor


def received_attention(
    query: Tensor,
    key: Tensor,
    *,
    attention_mask: Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    excluded: Tensor | None = None,
) -> Tensor:
    """Weights of the tokens by the attention that they receive in one layer.

    Args:
        query: [batch, heads, tokens, head_dim].
        key: [batch, kv_heads, tokens, head_dim]; heads is a multiple of kv_heads.
        attention_mask: [batch, tokens] with 1 for valid tokens, padding on either side; or
            [batch or 1, 1, tokens, tokens], boolean (True: may see) or additive. A token is valid in a 4-D mask where
            it may see itself. Of an additive mask only hidden (the dtype's lowest) or visible (anything else) is
            read: finite biases are not added to the logits.
        causal: Whether a query sees only itself and what is before it.
        scale: Multiplies the logits; head_dim ** -0.5 by default.
        softcap: Logits become softcap * tanh(logits / softcap).
        sinks: [heads], logits of attention sinks: they take probability and are no token.
        excluded: [batch, tokens], True for tokens that get weight 0 and still attend (a prompt).

    Returns:
        [batch, tokens], float32: 0 on padding and excluded tokens, and in rows that are all padding.

    Raises:
        ValueError: The mask has neither two nor four dimensions.
    """
    visible, valid = _visibility(attention_mask, query, causal)
    batch, heads, tokens, head_dim = query.shape
    key = key.repeat_interleave(heads // key.shape[1], dim=1)
    logits = (query @ key.transpose(-1, -2)).float() * (head_dim**-0.5 if scale is None else scale)
    if softcap is not None:
        logits = torch.tanh(logits / softcap) * softcap
    logits = logits.masked_fill(~visible, torch.finfo(torch.float32).min)
    if sinks is not None:
        column = sinks.float().view(1, heads, 1, 1).expand(batch, heads, tokens, 1)
        logits = torch.cat([logits, column], dim=-1)
    probability = torch.softmax(logits, dim=-1)[..., :tokens]
    keys_seen = visible.sum(-1, keepdim=True)  # K_j
    counted = visible & valid[:, None, :, None]  # j in J(i)
    weight = (torch.log1p(keys_seen * probability) * counted).sum((1, 2)) / counted.sum((1, 2)).clamp(min=1)
    kept = valid if excluded is None else valid & ~excluded.bool()
    return weight * kept


def _visibility(mask: Tensor | None, query: Tensor, causal: bool) -> tuple[Tensor, Tensor]:
    """Which key a query may see, [batch or 1, 1, tokens, tokens], and which tokens are valid, [batch, tokens]."""
    batch, _, tokens, _ = query.shape
    visible = torch.ones(1, 1, tokens, tokens, dtype=torch.bool, device=query.device)
    if causal:
        visible = visible.tril()
    if mask is None:
        return visible, torch.ones(batch, tokens, dtype=torch.bool, device=query.device)
    if mask.dim() == 2:
        valid = mask.bool()
        return visible & valid[:, None, None, :] & valid[:, None, :, None], valid
    if mask.dim() != 4:
        raise ValueError(
            f"attention_mask has {mask.dim()} dimensions; wanted [batch, tokens] or [batch, 1, tokens, tokens]"
        )
    allowed = mask if mask.dtype == torch.bool else mask > torch.finfo(mask.dtype).min / 2
    visible = visible & allowed[..., :tokens]
    valid = torch.diagonal(visible[:, 0], dim1=1, dim2=2).expand(batch, tokens)
    return visible, valid
