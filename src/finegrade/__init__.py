"""finegrade: text-embedding models made better at your own search.

The public names are loaded on first use, so that ``import finegrade`` is quick and needs no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from finegrade.config import Config
    from finegrade.evaluation.comparison import evaluate
    from finegrade.models.encoder import build_encoder, load_encoder
    from finegrade.models.portable.anchor_pooling import AnchorPooling
    from finegrade.models.portable.received_attention import received_attention
    from finegrade.records import Negative, Sample, Task
    from finegrade.retrieval.mining import mine_negatives
    from finegrade.stages.pipeline import synthesize, write_report
    from finegrade.synthesis.drafts import write_negatives
    from finegrade.synthesis.queries import write_queries
    from finegrade.training.fit import train
    from finegrade.verification.verifier import verify

_HOMES = {
    "AnchorPooling": "finegrade.models.portable.anchor_pooling",
    "Config": "finegrade.config",
    "Negative": "finegrade.records",
    "Sample": "finegrade.records",
    "Task": "finegrade.records",
    "build_encoder": "finegrade.models.encoder",
    "evaluate": "finegrade.evaluation.comparison",
    "load_encoder": "finegrade.models.encoder",
    "mine_negatives": "finegrade.retrieval.mining",
    "received_attention": "finegrade.models.portable.received_attention",
    "synthesize": "finegrade.stages.pipeline",
    "train": "finegrade.training.fit",
    "verify": "finegrade.verification.verifier",
    "write_negatives": "finegrade.synthesis.drafts",
    "write_queries": "finegrade.synthesis.queries",
    "write_report": "finegrade.stages.pipeline",
}

__all__ = [
    "AnchorPooling", "Config", "Negative", "Sample", "Task", "build_encoder", "evaluate", "load_encoder",
    "mine_negatives", "received_attention", "synthesize", "train", "verify", "write_negatives", "write_queries",
    "write_report",
]  # fmt: skip


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from finegrade.machine import VERSION

        return VERSION
    if name not in _HOMES:
        raise AttributeError(f"module 'finegrade' has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
