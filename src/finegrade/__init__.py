"""finegrade: text-embedding models made better at your own search.

The public names are loaded on first use, so that ``import finegrade`` is quick and needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finegrade.config import Config
    from finegrade.encoder import build_encoder, load_encoder
    from finegrade.evaluation.stage import evaluate
    from finegrade.portable.anchor_pooling import AnchorPooling
    from finegrade.portable.received_attention import received_attention
    from finegrade.records import Negative, Sample
    from finegrade.reporting import write_report
    from finegrade.synthesis import synthesize
    from finegrade.training import train
    from finegrade.verification import verify

__version__ = "0.1.0"

_HOMES = {
    "AnchorPooling": "finegrade.portable.anchor_pooling",
    "Config": "finegrade.config",
    "Negative": "finegrade.records",
    "Sample": "finegrade.records",
    "build_encoder": "finegrade.encoder",
    "evaluate": "finegrade.evaluation.stage",
    "load_encoder": "finegrade.encoder",
    "received_attention": "finegrade.portable.received_attention",
    "synthesize": "finegrade.synthesis",
    "train": "finegrade.training",
    "verify": "finegrade.verification",
    "write_report": "finegrade.reporting",
}

__all__ = [
    "AnchorPooling",
    "Config",
    "Negative",
    "Sample",
    "build_encoder",
    "evaluate",
    "load_encoder",
    "received_attention",
    "synthesize",
    "train",
    "verify",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'finegrade' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
