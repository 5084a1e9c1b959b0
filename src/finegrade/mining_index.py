"""What the corpus is searched with for negatives: BM25, a bi-encoder, or both."""

from collections.abc import Sequence
from itertools import count
from pathlib import Path
from typing import Literal

from finegrade.dense import DenseIndex
from finegrade.errors import InputError
from finegrade.fusion import Fused
from finegrade.lexical import BM25
from finegrade.mining import Index
from finegrade.models.resolve import model_identity
from finegrade.models.scorers import SCORING, OnnxBiEncoder, TorchBiEncoder, load_scorer

MAX_LENGTH = 192
"""Tokens of a text that the bi-encoder reads."""


Kind = Literal["bm25", "dense", "both"]


def index_identity(kind: Kind, model: str) -> str:
    """Names what an index finds: one that may find other texts has another.

    Args:
        kind, model: As ``index_of`` takes them.
    """
    return "matching texts" if kind == "bm25" else f"{model_identity(model)} {MAX_LENGTH} {SCORING}"


def index_of(kind: Kind, model: str, folder: Path) -> Index:
    """What makes an index of texts.

    Args:
        kind: Search by words, by meaning, or by both, as one ranking.
        model: The bi-encoder's name: of the catalogue, a local folder, or a Hugging Face id.
        folder: For its vectors: of the n-th corpus that is indexed in ``folder/n``, where the next run finds them.

    Raises:
        InputError: There is no such model, or it is no bi-encoder.
    """
    if kind == "bm25":
        return BM25
    embedder = load_bi_encoder(model)
    made_for, numbers = index_identity(kind, model), count()

    def dense(texts: Sequence[str]) -> DenseIndex:
        return DenseIndex(texts, embedder, folder / str(next(numbers)), made_for, len(texts))

    if kind == "dense":
        return dense
    return lambda texts: Fused(BM25(texts), dense(texts))


def load_bi_encoder(name: str) -> OnnxBiEncoder | TorchBiEncoder:
    """Loads what embeds the corpus.

    Args:
        name: Of the catalogue, a local folder, or a Hugging Face id.

    Raises:
        InputError: There is no such model, or it is no bi-encoder.
    """
    model = load_scorer(name, MAX_LENGTH)
    if isinstance(model, OnnxBiEncoder | TorchBiEncoder):
        return model
    remedy = 'Name a bi-encoder, or set synthesis.miner = "bm25".'
    raise InputError(f"synthesis.miner_model {name}", got="a cross-encoder", wanted="a bi-encoder", remedy=remedy)
