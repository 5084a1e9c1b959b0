"""Tiny configurations of the model families that anchor pooling is tried on."""

from pathlib import Path
from typing import Any, NamedTuple

import torch

TOKENS, WINDOW = 9, 4


BASE = {
    "vocab_size": 100, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 3, "num_attention_heads": 4,
    "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip


DECODER = {**BASE, "num_key_value_heads": 2}


class Family(NamedTuple):
    config: str
    options: dict[str, Any]
    causal: bool = True
    window: int | None = None
    attention: str = "sdpa"


FAMILIES = {
    "Bert": Family("BertConfig", BASE, causal=False),
    "Roberta": Family("RobertaConfig", BASE, causal=False),
    "XLM-R": Family("XLMRobertaConfig", BASE, causal=False),
    "ModernBert": Family("ModernBertConfig", {**BASE, "num_hidden_layers": 4, "local_attention": 6}, causal=False),
    "ModernBert, local": Family("ModernBertConfig", {**BASE, "local_attention": 6}, causal=False, window=4),
    "MPNet": Family("MPNetConfig", {**BASE, "pad_token_id": 1}, causal=False, attention="eager"),
    "Deberta": Family(
        "DebertaV2Config",
        {**BASE, "relative_attention": True, "pos_att_type": ["p2c", "c2p"]},
        causal=False,
        attention="eager",
    ),
    "Llama": Family("LlamaConfig", DECODER),
    "Qwen3": Family("Qwen3Config", {**DECODER, "head_dim": 8}),
    "SmolLM3": Family("SmolLM3Config", {**DECODER, "no_rope_layers": [1, 1, 0]}),
    "Phi3": Family("Phi3Config", DECODER),
    "Gemma3": Family("Gemma3TextConfig", {**DECODER, "head_dim": 8, "sliding_window": WINDOW}, window=WINDOW),
    "Llama both ways": Family("LlamaConfig", {**DECODER, "is_causal": False}, causal=False),
    "Mistral": Family("MistralConfig", {**DECODER, "sliding_window": WINDOW}, window=WINDOW),
    "Qwen2": Family("Qwen2Config", DECODER),
    "Gemma2": Family(
        "Gemma2Config",
        {**DECODER, "head_dim": 8, "sliding_window": WINDOW, "attn_logit_softcapping": 0.5},
        window=WINDOW,
        attention="eager",
    ),
    "GptOss": Family(
        "GptOssConfig",
        {**DECODER, "head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1, "sliding_window": WINDOW},
        window=WINDOW,
        attention="eager",
    ),
}


def classifier(folder: Path, encoder: Path, labels: int) -> Path:
    """A BERT with random weights and so many labels."""
    from transformers import AutoConfig, AutoTokenizer, BertForSequenceClassification

    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(encoder)
    config.num_labels = labels
    BertForSequenceClassification(config).save_pretrained(folder)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
    return folder
