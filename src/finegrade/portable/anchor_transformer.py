"""A sentence-transformers Transformer that also hands on the attention that each token receives in the last layer.

Only the last attention module is re-pointed: it gets a copy of the configuration that names our attention function.
That function lets the model's own implementation compute the output and returns received attention where attention
weights are expected; transformers' recorder delivers it as ``output.attentions[-1]``. All other layers, their masks
and their speed stay as they were, and there is no state of ours outside the model.
"""

import copy
import logging
import sys
from typing import Any

import torch
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .received_attention import received_attention

NAME = "finegrade_received_v1"
"""The registered attention function; the version keeps a copy in a model folder from replacing an installed one."""


def attention_with_received(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, Tensor]:
    """The model's own attention output, and received attention [batch, tokens] in the place of the weights."""
    if attention_mask is not None and attention_mask.dim() != 4:
        raise NotImplementedError("received attention needs padded inputs: load the model with eager or SDPA attention")
    options.pop("output_attentions", None)
    own = module.finegrade_attention
    if own == "eager":
        function = sys.modules[type(module).__module__].eager_attention_forward
    else:
        function = ALL_ATTENTION_FUNCTIONS[own]
    output, _ = function(module, query, key, value, attention_mask, **options)
    causal = options.get("is_causal")
    if causal is None:
        causal = getattr(module, "is_causal", True)
    received = received_attention(
        query,
        key,
        attention_mask=attention_mask,
        causal=bool(causal) and attention_mask is None,  # a 4-D mask has the causal rule in it
        scale=options.get("scaling"),
        softcap=options.get("softcap"),
        sinks=options.get("s_aux"),
    )
    return output, received


AttentionInterface.register(NAME, attention_with_received)


def _is_to_the_point(record: logging.LogRecord) -> bool:
    """SDPA layers warn that they return no weights; nobody reads theirs, only the last layer's."""
    return "output_attentions" not in record.getMessage()


logging.getLogger("transformers.integrations.sdpa_attention").addFilter(_is_to_the_point)


def last_attention(model: nn.Module) -> nn.Module | None:
    """The last self-attention module that goes through transformers' attention interface."""
    found = [
        module
        for module in model.modules()
        if hasattr(module, "config")
        and hasattr(module, "is_causal")
        and any(True for _ in module.children())
        and hasattr(sys.modules[type(module).__module__], "ALL_ATTENTION_FUNCTIONS")
    ]
    return found[-1] if found else None


class AnchorTransformer(Transformer):
    """Transformer whose features hold ``received_attention`` [batch, tokens] beside ``token_embeddings``.

    Raises:
        ValueError: The model's attention does not go through transformers' attention interface.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        attention = last_attention(self.model)
        if attention is None:
            raise ValueError(
                f"{type(self.model).__name__} does not use transformers' attention interface, so the attention that "
                "its tokens receive cannot be read; choose another backbone, or mean pooling"
            )
        own: Any = copy.copy(attention.config)
        attention.finegrade_attention = own._attn_implementation
        own._attn_implementation_internal = NAME
        attention.config = own

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Runs the model; adds ``token_embeddings`` and ``received_attention`` to the features."""
        if torch.is_grad_enabled() and _checkpoints_reentrantly(self.model):
            raise NotImplementedError(
                "reentrant gradient checkpointing gives wrong gradients here: use_reentrant=False"
            )
        known = ("input_ids", "attention_mask", "token_type_ids", "inputs_embeds", "position_ids")
        inputs = {name: features[name] for name in known if name in features}
        output = self.model(**inputs, **kwargs, output_attentions=True, return_dict=True)
        features["token_embeddings"] = output.last_hidden_state
        features["received_attention"] = output.attentions[-1]
        return features


def _checkpoints_reentrantly(model: nn.Module) -> bool:
    for module in model.modules():
        function = getattr(module, "_gradient_checkpointing_func", None)
        if function is not None and getattr(module, "gradient_checkpointing", False):
            return bool(getattr(function, "keywords", {}).get("use_reentrant", False))
    return False
