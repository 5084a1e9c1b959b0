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
    model.config.is_causal = False
    return _sees_what_follows(model)


@torch.no_grad()
def _sees_what_follows(model: PreTrainedModel) -> bool:
    """Whether another third token changes the first token's state."""
    was_training = model.training
    model.eval()
    ids = torch.tensor([[5, 6, 7, 8], [5, 6, 9, 8]], device=model.device) % model.config.vocab_size
    padded = torch.ones_like(ids)
    padded[:, 3] = 0
    states = [model(input_ids=ids, attention_mask=mask).last_hidden_state for mask in (torch.ones_like(ids), padded)]
    model.train(was_training)
    return not any(torch.equal(found[0, 0], found[1, 0]) for found in states)
