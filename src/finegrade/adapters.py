"""LoRA: small matrices are trained beside a backbone's own, and added to them before the model is saved."""

from typing import Any

from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from transformers import PreTrainedModel


def add_lora(model: PreTrainedModel, lora: LoraConfig | int) -> None:
    """Freezes the backbone and puts adapters beside its linear layers, in place.

    Args:
        model: The backbone.
        lora: A peft configuration; or the rank, with what LLM2Vec takes: alpha twice the rank, dropout 0.05.

    Raises:
        ValueError: The configuration trains more than adapters, which could not be merged.
    """
    if isinstance(lora, int):
        lora = LoraConfig(r=lora, lora_alpha=2 * lora, lora_dropout=0.05, target_modules="all-linear")
    if lora.modules_to_save or lora.trainable_token_indices:
        raise ValueError(
            "modules_to_save and trainable_token_indices cannot be merged; leave them out of the LoraConfig"
        )
    model.add_adapter(lora)


def merge_lora(model: PreTrainedModel) -> None:
    """Adds what the adapters learned to the backbone's own weights and takes the adapters out; without any, nothing."""
    layers = [(name, module) for name, module in model.named_modules() if isinstance(module, LoraLayer)]
    if not layers:
        return
    for name, layer in layers:
        path, _, last = name.rpartition(".")
        merging: Any = layer
        merging.merge(safe_merge=True)  # refuses weights that are not finite
        setattr(model.get_submodule(path), last, layer.get_base_layer())
    del model.peft_config
    model._hf_peft_config_loaded = False
    model.requires_grad_(True)
