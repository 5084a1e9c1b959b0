"""How near a text is to answering a query, behind one Protocol."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

from finegrade.bi_encoders import OnnxBiEncoder, TorchBiEncoder
from finegrade.cross_encoders import OnnxCrossEncoder, TorchCrossEncoder
from finegrade.errors import InputError, first_line
from finegrade.fetching import model_path
from finegrade.model_folder import architectures, kind_of, pools_by_mean, prompt
from finegrade.onnx_model import OnnxModel

SCORING = 2
"""Raised when the code of a scorer changes what it gives: scores and verdicts of another one are not taken up."""


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
    """Loads a cross-encoder or a bi-encoder, as the model is.

    Args:
        name: Catalogue name, local folder or Hugging Face id; an ONNX folder is read by ONNX Runtime, any other by
            sentence-transformers.
        max_length: Tokens: of a cross-encoder, of query and text together.

    Raises:
        InputError: There is no such model, or it is none of the two.
    """
    scorer = _scorer(name, max_length)
    _need_room(scorer, max_length)
    return scorer


def load_cross_encoder(names: Sequence[str], max_length: int) -> Scorer:
    """Loads the first of some scorers that is a cross-encoder, whose logits mean something by themselves.

    Args:
        names: See `load_scorer`.
        max_length: Tokens of query and text together.

    Raises:
        InputError: There is no such model, or none of them is a cross-encoder.
    """
    for name in names:
        scorer = load_scorer(name, max_length)
        if isinstance(scorer, OnnxCrossEncoder | TorchCrossEncoder):
            return scorer
    remedy = "Name one in verification.scorer or committee, or leave them out."
    raise InputError("the scorers", got=", ".join(names) or "no model", wanted="a cross-encoder", remedy=remedy)


def _scorer(name: str, max_length: int) -> Scorer:
    folder = model_path(name)
    if (folder / "model.onnx").is_file():
        model = OnnxModel(folder, max_length)
        if len(model.shape) == 3:
            return OnnxBiEncoder(model, pools_by_mean(folder), prompt(folder, "query"), prompt(folder, "document"))
        if len(model.shape) == 2 and model.shape[-1] == 1:
            return OnnxCrossEncoder(model)
        raise _no_scorer(name, f"an output of shape {model.shape}")
    kind = kind_of(folder)
    if kind == "CrossEncoder":
        return _of_torch(TorchCrossEncoder, name, folder, max_length)
    if kind == "SentenceTransformer":
        return _of_torch(TorchBiEncoder, name, folder, max_length)
    raise _no_scorer(name, kind or ", ".join(architectures(folder)) or "a folder without a model configuration")


def _of_torch(kind: type[TorchCrossEncoder] | type[TorchBiEncoder], name: str, folder: Path, max_length: int) -> Scorer:
    try:
        return kind(folder, max_length)
    except (InputError, ImportError):
        raise
    except Exception as error:  # of a damaged folder the libraries raise whatever they stumble over
        raise _no_scorer(name, first_line(error)) from None


def _no_scorer(name: str, got: str) -> InputError:
    wanted = "a cross-encoder with one logit a pair, or a sentence-transformers model with modules.json"
    return InputError(f"scorer {name}", got=got, wanted=wanted, remedy="`finegrade models list` names some.")


def _need_room(scorer: Scorer, max_length: int) -> None:
    """Whether the model has as many positions shows here, not in the middle of the work."""
    long = "a " * max_length
    try:
        next(iter(scorer.scores([(long, long)])))
    except Exception as error:  # whatever ONNX Runtime and torch raise
        got = f"{max_length}: {first_line(error)}"
        wanted, remedy = "a length that the scorer can read", "Lower verification.max_length: many read 512 at most."
        raise InputError("verification.max_length", got=got, wanted=wanted, remedy=remedy) from None
