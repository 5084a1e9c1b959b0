"""The rows of the score table: what is compared with what."""

from dataclasses import dataclass
from typing import Literal

from finegrade.records import Sample
from finegrade.storage.run_folder import CONTROLS, MODEL

Negatives = Literal["graded", "mined", "none"]
"""Of a training row: the plan's own, verified; the corpus' hardest, unverified; or only those that the batch gives."""


def hardest_mined(sample: Sample) -> str:
    """The hardest of a sample's negatives that is from the corpus; empty where there is none."""
    mined = [negative for negative in sample.negatives if negative.source != "llm"]
    return max(mined, key=lambda negative: negative.rank).text if mined else ""


@dataclass(frozen=True)
class TrainedRow:
    """A model that the train stage makes: ``name`` in file names, ``title`` in tables. Pooling None: as configured."""

    name: str
    title: str
    negatives: Negatives
    pooling: Literal["anchor", "mean"] | None
    is_control: bool = True

    def titled(self, configured: str) -> str:
        """The title, with the pooling of the row."""
        return self.title.format(pooling=self.pooling or configured)

    @property
    def stage(self) -> str:
        """Its stage's name."""
        return f"train-{self.name}"

    @property
    def folder(self) -> str:
        """The path of its model in the run folder."""
        return f"{CONTROLS}/{self.name}" if self.is_control else MODEL


FINEGRADE = TrainedRow("finegrade", "finegrade (graded, verified, {pooling})", "graded", None, is_control=False)
TRAINED_ROWS = (
    FINEGRADE,
    TrainedRow("in-batch-mean", "in-batch + mean pooling", "none", "mean"),
    TrainedRow("in-batch-anchor", "in-batch + anchor pooling", "none", "anchor"),
    TrainedRow("mined-mean", "mined negatives + mean pooling", "mined", "mean"),
)


def trained_rows(controls: bool) -> tuple[TrainedRow, ...]:
    """The rows that are trained: all, or finegrade's alone."""
    return TRAINED_ROWS if controls else (FINEGRADE,)
