"""A sentence-transformers Transformer that also hands on the attention that each token receives in the last layer.

Only the last attention module is re-pointed: it gets a copy of the configuration that names our attention function.
That function lets the model's own implementation compute the output and returns received attention where attention
weights are expected; transformers' recorder delivers it as ``output.attentions[-1]``. All other layers, their masks
and their speed stay as they were, and there is no state of ours outside the model.

MPNet and DeBERTa compute their attention themselves: there the last module's probabilities are taken on their way into
dropout, and the definition is applied to them.
"""

import copy
import logging
import sys
from contextvars import ContextVar
from typing import Any, cast, get_args

import torch
from sentence_transformers.sentence_transformer.modules import Transformer
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from .received_attention import Backend, Form, of_probabilities, received_attention
from .visibility import Visibility

NAME = f"finegrade_received_v1_{__name__}"
"""The registered attention function, by version and module: a copy in a model folder never replaces the installed."""


def attention_with_received(
    module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, Tensor]:
    """The model's own attention output, and received attention [batch, tokens] in the place of the weights.

    The mask that arrives is 4-D and holds every rule; or 2-D (padding alone) or None, and then causality and window
    come in the options, and with flattened inputs the borders of the texts.
    """
    if attention_mask is not None and not isinstance(attention_mask, Tensor):
        raise NotImplementedError(
            f"received attention cannot read a {type(attention_mask).__name__}: "
            "load the model with eager, SDPA or flash attention"
        )
    _refuse_what_is_not_read(module, options)
    options.pop("output_attentions", None)
    config: Any = module.finegrade_config
    own = config._attn_implementation  # the model's, which may be set anew at any time
    if own == "eager":
        function = sys.modules[type(module).__module__].eager_attention_forward
    else:
        function = ALL_ATTENTION_FUNCTIONS[own]
    output, _ = function(module, query, key, value, attention_mask, **options)
    causal = options.get("is_causal")
    if causal is None:
        causal = getattr(module, "is_causal", True)
    has_rules = attention_mask is not None and attention_mask.dim() == 4
    received = received_attention(
        query,
        key,
        attention_mask=attention_mask,
        causal=bool(causal) and not has_rules,
        window=None if has_rules else options.get("sliding_window"),
        scale=options.get("scaling"),
        softcap=options.get("softcap"),
        sinks=options.get("s_aux"),
        cu_seqlens=options.get("cu_seq_lens_q"),
        **cast(Any, module.finegrade_options),
    )
    return output, received


_READ_OR_WITHOUT_EFFECT = (
    "s_aux", "cu_seq_lens_q", "cu_seq_lens_k", "max_length_q", "max_length_k", "position_ids", "seq_idx",
    "cache_position", "num_items_in_batch",
)  # fmt: skip
"""Tensors among the options that are read here, or that leave the probabilities as they are."""


def _refuse_what_is_not_read(module: nn.Module, options: dict[str, Any]) -> None:
    """A bias of positions or a choice of keys changes the probabilities: without it the weights would be wrong."""
    unknown = [n for n, value in options.items() if isinstance(value, Tensor) and n not in _READ_OR_WITHOUT_EFFECT]
    if unknown:
        raise NotImplementedError(
            f"{type(module).__name__} gives {', '.join(unknown)} to its attention, which received attention does not "
            "read; choose another backbone, or mean pooling"
        )


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


_OWN_ATTENTION = ("MPNetSelfAttention", "DisentangledSelfAttention")
"""Classes that compute bidirectional attention themselves and pass the probabilities through ``dropout``."""

_kept: ContextVar[list[Tensor] | None] = ContextVar("finegrade_kept", default=None)
"""Where the probabilities of the forward pass under way go: each thread has its own."""


def _keep(module: nn.Module, args: tuple[Tensor, ...]) -> None:
    kept = _kept.get()
    if kept is not None:
        kept.append(args[0])


class AnchorTransformer(Transformer):
    """Transformer whose features hold ``received_attention`` [batch, tokens] beside ``token_embeddings``.

    With flattened inputs (flash attention) both are of one long row, [1, tokens of all texts].

    Args:
        form, prior: Of the weights, as in ``received_attention``; saved with the model.

    The other arguments are Transformer's.

    Raises:
        ValueError: The model's attention cannot be read.
    """

    config_keys = [*Transformer.config_keys, "form", "prior"]

    def __init__(self, *args: Any, form: Form = "received", prior: float = 2.0, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        own_attention = [m for m in self.model.modules() if type(m).__name__ in _OWN_ATTENTION]
        self._hands_out_probabilities = bool(own_attention)
        if own_attention:
            dropout: Any = own_attention[-1].dropout
            dropout.register_forward_pre_hook(_keep)
        else:
            self._repoint()
        self.use_form(form, prior)

    def use_form(self, form: Form, prior: float = 2.0) -> None:
        """From now on the weights are of this form.

        Raises:
            ValueError: There is no such form.
        """
        if form not in get_args(Form):
            raise ValueError(f"form is {form!r}; wanted one of {', '.join(get_args(Form))}")
        self.form: Form = form
        self.prior = prior
        if not self._hands_out_probabilities:
            attention = self._attention()
            before = getattr(attention, "finegrade_options", {"backend": "auto"})
            attention.finegrade_options = {**before, "form": form, "prior": prior}

    def use_backend(self, backend: Backend) -> None:
        """From now on the weights are computed so, as in ``received_attention``; it is not saved.

        Raises:
            ValueError: There is no such backend.
        """
        if backend not in get_args(Backend):
            raise ValueError(f"backend is {backend!r}; wanted one of {', '.join(get_args(Backend))}")
        if not self._hands_out_probabilities:
            self._attention().finegrade_options["backend"] = backend

    def _attention(self) -> Any:
        attention = last_attention(self.model)
        if attention is None:
            raise ValueError(
                f"{type(self.model).__name__} does not use transformers' attention interface, so the attention that "
                "its tokens receive cannot be read; choose another backbone, or mean pooling"
            )
        return attention

    def _repoint(self) -> None:
        attention = self._attention()
        own = copy.copy(attention.config)
        attention.finegrade_config = attention.config
        own._attn_implementation_internal = NAME
        attention.config = own

    def forward(self, features: dict[str, Any], **kwargs: Any) -> dict[str, Any]:
        """Runs the model; adds ``token_embeddings`` and ``received_attention`` to the features."""
        if torch.is_grad_enabled() and _checkpoints_reentrantly(self.model):
            raise NotImplementedError(
                "reentrant gradient checkpointing gives wrong gradients here: use_reentrant=False"
            )
        inputs = {name: features[name] for name in _INPUTS if name in features}
        if self._hands_out_probabilities:
            kept: list[Tensor] = []
            before = _kept.set(kept)
            try:
                output = self.model(**inputs, **kwargs, return_dict=True)
            finally:
                _kept.reset(before)
            probability = kept[0]
            batch, tokens = probability.shape[0], probability.shape[-1]
            rule = Visibility(features.get("attention_mask"), batch, tokens, False, None, probability.device)
            features["received_attention"] = of_probabilities(probability, rule, self.form, self.prior)
        else:
            output = self.model(**inputs, **kwargs, output_attentions=True, return_dict=True)
            features["received_attention"] = output.attentions[-1]
        features["token_embeddings"] = output.last_hidden_state
        return features


_INPUTS = (
    "input_ids", "attention_mask", "token_type_ids", "inputs_embeds", "position_ids", "cu_seq_lens_q", "cu_seq_lens_k",
    "max_length_q", "max_length_k", "seq_idx",
)  # fmt: skip


def _checkpoints_reentrantly(model: nn.Module) -> bool:
    for module in model.modules():
        function = getattr(module, "_gradient_checkpointing_func", None)
        if function is not None and getattr(module, "gradient_checkpointing", False):
            return bool(getattr(function, "keywords", {}).get("use_reentrant", False))
    return False
