"""Counts tokens as the backbone does, without torch."""

from collections.abc import Callable, Sequence
from pathlib import Path

from finegrade.console import say
from finegrade.models.resolve import model_path

CountTokens = Callable[[Sequence[str]], list[int]]
"""Tokens of each text."""

CHARS_PER_TOKEN = 4.2
"""Of English, about, where no tokenizer is at hand."""


def token_counter(backbone: str) -> CountTokens:
    """A counter for a backbone; where its folder has no tokenizer.json, characters are counted in its place, and told.

    Args:
        backbone: Catalogue name, local folder or Hugging Face id.
    """
    from tokenizers import Tokenizer

    path = Path(model_path(backbone)) / "tokenizer.json"
    if not path.is_file():
        say(f"{path} is not there: a token is taken for {CHARS_PER_TOKEN} characters")
        return by_characters(CHARS_PER_TOKEN)
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return lambda texts: [
        len(found.ids) for found in tokenizer.encode_batch_fast(list(texts), add_special_tokens=False)
    ]


def by_characters(per_token: float) -> CountTokens:
    """A counter that needs no tokenizer.

    Args:
        per_token: Characters that are taken for one token.
    """
    return lambda texts: [round(len(text) / per_token + 0.5) for text in texts]
