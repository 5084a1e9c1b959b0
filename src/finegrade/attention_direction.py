"""Decoders that read in both directions."""

import torch
from transformers import PreTrainedModel


def read_both_ways(model: PreTrainedModel) -> bool:
    """Lets every token of a decoder see those behind it too, in place; the configuration keeps it when saved.

    transformers offers ``config.is_causal = False`` for this, but not every architecture heeds it, and never with a
    word: so the model is tried. Encoders see both ways as they are.

    Args:
        model: The backbone.

    Returns:
        Whether it does, padded or not.
    """
    if _sees_what_follows(model):
        return True
    model.config.is_causal = False
    return _sees_what_follows(model)


@torch.no_grad()
def _sees_what_follows(model: PreTrainedModel) -> bool:
    """Whether another third token changes the first token's state, by more than rounding does."""
    was_training = model.training
    model.eval()
    middle = model.config.vocab_size // 2  # ordinary tokens; at the beginning are special ones
    ids = torch.tensor([[0, 1, 2, 3], [0, 1, 4, 3]], device=model.device) + middle
    padded = torch.ones_like(ids)
    padded[:, 3] = 0
    seen = []
    for mask in (torch.ones_like(ids), padded):
        one, other = model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0].float()
        seen.append(bool((one - other).abs().max() > 1e-4 * one.abs().max()))
    model.train(was_training)
    return all(seen)
