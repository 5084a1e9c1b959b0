"""Which tokens carry a text's vector: the shares that anchor pooling gives them."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from sentence_transformers import SentenceTransformer

from finegrade.errors import InputError
from finegrade.models.encoder import REMEDY, load_trained
from finegrade.models.portable.anchor_pooling import AnchorPooling

_WHITE = "␣"  # shown for a token that is nothing but white space


@dataclass(frozen=True)
class TokenShare:
    """A token and what it adds to the vector; tokens of one character are taken together.

    Attributes:
        text: As it stands in the text; of a special token, its name.
        share: Of the pooled vector's weights, in [0, 1].
        is_special, after_space: Whether the tokenizer added it, and whether white space stands before it.
    """

    text: str
    share: float
    is_special: bool
    after_space: bool


def load_anchor_model(folder: Path) -> SentenceTransformer:
    """A saved model with anchor pooling; an InputError where there is none, or it pools in another way."""
    model = load_trained(folder)
    if not isinstance(model[1], AnchorPooling):
        raise InputError(str(folder), got=type(model[1]).__name__, wanted="anchor pooling", remedy=REMEDY)
    return model


def token_shares(model: SentenceTransformer, texts: Sequence[str]) -> list[list[TokenShare]]:
    """The tokens of each text, as far as the model reads it, with their shares; those of a text add up to 1.

    Where the model has a default prompt it stands before each text, as it does when texts are embedded.

    Raises:
        InputError: The model's weights are no numbers.
    """
    prompt = model.prompts.get(model.default_prompt_name or "") or ""
    features = model.preprocess(list(texts), prompt=prompt or None)
    device = next(model.parameters()).device
    with torch.inference_mode():
        features = model[1](model[0]({k: v.to(device) if torch.is_tensor(v) else v for k, v in features.items()}))
    weights, masks = features["anchor_weights"].cpu(), features["attention_mask"].cpu().bool()
    if not weights.isfinite().all():
        raise InputError("the model's attention", got="no numbers", wanted="a model that trained well", remedy=REMEDY)
    return [
        _tokens(model, prompt + text, ids[mask].tolist(), shares[mask].tolist())
        for text, ids, shares, mask in zip(texts, features["input_ids"].cpu(), weights, masks, strict=True)
    ]


def _tokens(model: SentenceTransformer, text: str, ids: Sequence[int], shares: Sequence[float]) -> list[TokenShare]:
    """The tokens by their position in the text, which the tokenizer knows."""
    tokenizer = model.tokenizer
    encoded = tokenizer(
        text, truncation=True, max_length=model.max_seq_length, return_offsets_mapping=True,
        return_special_tokens_mask=True,
    )  # fmt: skip
    if encoded["input_ids"] != list(ids):
        raise AssertionError("the tokenizer gives other tokens alone than in a batch")
    found: list[TokenShare] = []
    behind = 0
    positions = zip(encoded["offset_mapping"], encoded["special_tokens_mask"], strict=True)
    for number, share, ((start, stop), is_added) in zip(ids, shares, positions, strict=True):
        if is_added:
            found.append(TokenShare(tokenizer.convert_ids_to_tokens(number), share, True, True))
        elif start < behind and found:  # of a character of several tokens, one after the first
            found[-1] = replace(found[-1], share=found[-1].share + share)
        else:
            word = text[start:stop]
            space = text[behind:start] + word[: len(word) - len(word.lstrip())]
            found.append(TokenShare(word.strip() or _WHITE, share, False, bool(space)))
        behind = max(behind, stop)
    return found
