"""A mean-pooling model in the layout that every server reads.

Since 5.4 sentence-transformers names classes by their full module path, the pooling by one word, and keeps the length
in the tokenizer's configuration. New versions of vLLM and of llama.cpp's converter follow it; those from before, and
text-embeddings-inference, look for ``sentence_transformers.models.X``, ``pooling_mode_mean_tokens`` and
``max_seq_length``, as all published models from before have them. Every version of sentence-transformers loads these.
"""

from pathlib import Path
from typing import Any

from sentence_transformers import SentenceTransformer

from finegrade.storage.atomic import read_json, write_json

_MODES = ("cls_token", "mean_tokens", "max_tokens", "mean_sqrt_len_tokens", "weightedmean_tokens", "lasttoken")


def save_plain(model: SentenceTransformer, folder: Path) -> None:
    """Saves a model so that it loads without code of ours, in sentence-transformers and in servers.

    Args:
        model: Transformer, mean pooling, Normalize.
        folder: Where to.
    """
    model.save_pretrained(str(folder), create_model_card=False)
    modules: list[dict[str, Any]] = read_json(folder / "modules.json")
    for module in modules:
        module["type"] = f"sentence_transformers.models.{module['type'].rpartition('.')[2]}"
    write_json(folder / "modules.json", modules)
    pooling = {f"pooling_mode_{mode}": mode == "mean_tokens" for mode in _MODES}
    pooling_config = {"word_embedding_dimension": model.get_embedding_dimension(), **pooling, "include_prompt": True}
    write_json(folder / modules[1]["path"] / "config.json", pooling_config)
    lengths = {"max_seq_length": model.max_seq_length, "do_lower_case": False}
    write_json(folder / "sentence_bert_config.json", lengths)
