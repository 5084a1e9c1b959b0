"""What is done to a backbone: a .gguf file becomes a folder, layers get adapters, a decoder reads both ways."""

import shutil
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock
from peft import LoraConfig
from peft.tuners.lora import LoraLayer
from transformers import AutoConfig, AutoModel, AutoTokenizer, PreTrainedModel

from finegrade.console import say
from finegrade.errors import unreadable
from finegrade.models.resolve import cache_folder, model_identity


def as_folder(path: Path) -> Path:
    """The model of a .gguf file in float32 safetensors, written once into the cache."""
    folder = cache_folder() / f"{model_identity(str(path))}-safetensors"  # another file is another folder
    work = folder.with_name(f".{folder.name}.partial")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(work.with_suffix(".lock")):
        if not folder.is_dir():
            say(f"{path.name}: its weights are written as safetensors, once")
            shutil.rmtree(work, ignore_errors=True)  # what a kill left
            try:
                _convert(path, work)
            except (ValueError, OSError, KeyError, NotImplementedError) as error:
                shutil.rmtree(work, ignore_errors=True)
                wanted = "a .gguf file of a decoder that transformers knows"
                raise unreadable(path, error, wanted, "Name another backbone.") from None
            work.replace(folder)
    return folder


def _convert(path: Path, folder: Path) -> None:
    """Into a model made anew: the one that was read counts as quantised, and such are not saved."""
    where = {"gguf_file": path.name, "local_files_only": True}
    model = AutoModel.from_config(AutoConfig.from_pretrained(path.parent, **where))
    model.load_state_dict(AutoModel.from_pretrained(path.parent, **where).state_dict())
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(path.parent, **where).save_pretrained(folder)


def add_lora(model: PreTrainedModel, lora: LoraConfig | int) -> None:
    """Freezes the backbone and puts adapters beside its linear layers, in place.

    A rank goes with what LLM2Vec takes: alpha twice the rank, dropout 0.05.

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


def read_both_ways(model: PreTrainedModel) -> bool:
    """Lets every token of a decoder see those behind it too, in place; the configuration keeps it when saved.

    transformers offers ``config.is_causal = False`` for this, but not every architecture heeds it, and never with a
    word: so the model is tried, padded or not, and the result returned. Encoders see both ways as they are.
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
