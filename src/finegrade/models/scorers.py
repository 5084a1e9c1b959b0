"""How similar a text is to one that answers a query: cross-encoders and bi-encoders, behind one Protocol."""

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from finegrade.errors import InputError, first_line
from finegrade.models.onnx import OnnxModel, architectures, kind_of, pools_by_mean, prompt
from finegrade.models.resolve import model_identity, model_path

SCORING = 2  # raised when the code of a scorer changes its scores: those of another version are not reused

_LOADED = 4  # scorers that stay in memory for the next stage that asks for them
_PAIRS = 256  # whose texts are embedded together, each once
_CACHED = 20_000  # texts whose vectors are kept: a negative of one query is the positive of another
_UNIT: dict[str, Any] = {"normalize_embeddings": True, "show_progress_bar": False}


class Scorer(Protocol):
    """Judges how well texts answer queries; higher is better, and only differences mean something."""

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
        """Yields the score of each (query, text), in order, as it is computed."""


@runtime_checkable
class Judge(Scorer, Protocol):
    """A scorer that compares a text with one that is known to answer, and has reasons; what it cannot judge is nan.

    Attributes:
        best: Its score of a text that answers; 0 is that of one that has nothing to do with the query.
    """

    best: float

    def know(self, answers: Mapping[str, Sequence[str]]) -> None:
        """Says what answers: query -> texts."""

    def reason(self, pair: tuple[str, str]) -> str:
        """Why a (query, text) that it has scored got its score, in a line."""


def load_scorer(name: str, max_length: int) -> Scorer:
    """Loads a cross-encoder or a bi-encoder, as the model is; the last few that were loaded stay in memory.

    Args:
        name: Catalogue name, local folder or Hugging Face id; an ONNX folder is read by ONNX Runtime, any other by
            sentence-transformers.
        max_length: Tokens: of a cross-encoder, of query and text together.

    Raises:
        InputError: There is no such model, or it is none of the two.
    """
    return _load(name, model_identity(name), max_length)


def free_scorers() -> None:
    """Lets go of the scorers that were loaded, before something else needs the memory."""
    _load.cache_clear()


def load_cross_encoder(names: Sequence[str], max_length: int) -> Scorer:
    """Loads the first of some scorers that is a cross-encoder, whose logits mean something by themselves."""
    for name in names:
        scorer = load_scorer(name, max_length)
        if isinstance(scorer, OnnxCrossEncoder | TorchCrossEncoder):
            return scorer
    remedy = "Name one in verification.scorer or committee, or leave them out."
    raise InputError("the scorers", got=", ".join(names) or "no model", wanted="a cross-encoder", remedy=remedy)


def load_bi_encoder(name: str, max_length: int) -> "BiEncoder":
    """Loads what embeds a corpus that is mined."""
    model = load_scorer(name, max_length)
    if isinstance(model, BiEncoder):
        return model
    remedy = 'Name a bi-encoder, or mine with "bm25" (synthesis.miner).'
    raise InputError(f"the miner's model {name}", got="a cross-encoder", wanted="a bi-encoder", remedy=remedy)


@lru_cache(_LOADED)
def _load(name: str, identity: str, max_length: int) -> Scorer:
    """The identity is for the cache: a folder that has changed is loaded again."""
    scorer = _read(name, max_length)
    long = "a " * max_length
    try:  # whether the model has as many positions shows here, not in the middle of the work
        next(iter(scorer.scores([(long, long)])))
    except Exception as error:  # whatever ONNX Runtime and torch raise
        got = f"{max_length}: {first_line(error)}"
        wanted, remedy = "a length that the scorer can read", "Lower verification.max_length: many read 512 at most."
        raise InputError("verification.max_length", got=got, wanted=wanted, remedy=remedy) from None
    return scorer


def _read(name: str, max_length: int) -> Scorer:
    folder = model_path(name)
    if (folder / "model.onnx").is_file():
        model = OnnxModel(folder, max_length)
        if len(model.shape) == 3:
            return OnnxBiEncoder(model, pools_by_mean(folder), prompt(folder, "query"), prompt(folder, "document"))
        if len(model.shape) == 2 and model.shape[-1] == 1:
            return OnnxCrossEncoder(model)
        raise _no_scorer(name, f"an output of shape {model.shape}")
    kind = kind_of(folder)
    if kind not in ("CrossEncoder", "SentenceTransformer"):
        raise _no_scorer(name, kind or ", ".join(architectures(folder)) or "a folder without a model configuration")
    try:
        return (TorchCrossEncoder if kind == "CrossEncoder" else TorchBiEncoder)(folder, max_length)
    except (InputError, ImportError):
        raise
    except Exception as error:  # of a damaged folder the libraries raise whatever they stumble over
        raise _no_scorer(name, first_line(error)) from None


def _no_scorer(name: str, got: str) -> InputError:
    wanted = "a cross-encoder with one logit a pair, or a sentence-transformers model with modules.json"
    return InputError(f"scorer {name}", got=got, wanted=wanted, remedy="`finegrade models list` names some.")


class OnnxCrossEncoder:
    """A cross-encoder in ONNX Runtime, which gives a logit a pair."""

    def __init__(self, model: OnnxModel) -> None:
        self._model = model

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
        """Yields the logit of each (query, text), in order."""
        return self._model.each(lambda pair: float(self._model.run(*pair).reshape(-1)[0]), pairs)


class TorchCrossEncoder:
    """Any sentence-transformers CrossEncoder of one label, from a local folder."""

    _CHUNK = 64

    def __init__(self, folder: Path, max_length: int) -> None:
        from sentence_transformers import CrossEncoder

        self._model = CrossEncoder(str(folder), max_length=max_length, local_files_only=True)
        if self._model.num_labels != 1:
            raise _no_scorer(str(folder), f"a classifier with {self._model.num_labels} labels")

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
        """Yields the logit of each (query, text), in order."""
        import torch

        for start in range(0, len(pairs), self._CHUNK):
            chunk = list(pairs[start : start + self._CHUNK])
            values = self._model.predict(chunk, activation_fn=torch.nn.Identity(), show_progress_bar=False)
            yield from map(float, np.asarray(values).reshape(len(chunk)))


@runtime_checkable
class BiEncoder(Protocol):
    """Gives texts vectors of unit length, and scores a pair by the cosine of its vectors."""

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of what is searched for: [texts, dimension]."""

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of what is searched: [texts, dimension]."""

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
        """Yields the cosine of each (query, text), in order."""
        for start in range(0, len(pairs), _PAIRS):
            chunk = pairs[start : start + _PAIRS]
            queries, texts = (list(dict.fromkeys(side)) for side in zip(*chunk, strict=True))
            of_query = dict(zip(queries, self.embed_queries(queries), strict=True))
            of_text = dict(zip(texts, self.embed_documents(texts), strict=True))
            yield from (float(of_query[query] @ of_text[text]) for query, text in chunk)


class OnnxBiEncoder(BiEncoder):
    """A bi-encoder in ONNX Runtime.

    Args:
        model: Gives the last hidden states of a text: [1, tokens, dimension].
        mean: Whether the vector is the mean of the states; else the first token's (bge).
        query_prompt, document_prompt: Stand before each query, and each document.
    """

    def __init__(self, model: OnnxModel, mean: bool = False, query_prompt: str = "", document_prompt: str = "") -> None:
        self._model, self._mean = model, mean
        self._query_prompt, self._document_prompt = query_prompt, document_prompt
        self._vector = lru_cache(_CACHED)(self._embedded)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length: [texts, dimension]."""
        return self._embed(self._query_prompt, texts)

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length: [texts, dimension]."""
        return self._embed(self._document_prompt, texts)

    def _embed(self, before: str, texts: Sequence[str]) -> NDArray[np.float32]:
        prompted = [before + text for text in texts]
        return np.array(list(self._model.each(self._vector, prompted)), dtype=np.float32)

    def _embedded(self, text: str) -> NDArray[np.float32]:
        states = self._model.run(text)[0]
        state = states.mean(axis=0) if self._mean else states[0]
        return np.asarray(state / max(float(np.linalg.norm(state)), 1e-12), dtype=np.float32)


class TorchBiEncoder(BiEncoder):
    """Any sentence-transformers model, from a local folder, finegrade's own, too; with the prompts that it has."""

    def __init__(self, folder: Path, max_length: int) -> None:
        from finegrade.models.encoder import load_encoder

        self._model = load_encoder(folder)
        self._model.max_seq_length = min(max_length, self._model.max_seq_length or max_length)

    def embed_queries(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length: [texts, dimension]."""
        return np.asarray(self._model.encode_query(list(texts), **_UNIT), dtype=np.float32)

    def embed_documents(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Vectors of unit length: [texts, dimension]."""
        return np.asarray(self._model.encode_document(list(texts), **_UNIT), dtype=np.float32)
