"""The rows of the score table: what is compared with what."""

from dataclasses import dataclass
from typing import Literal

from finegrade.storage.run_folder import CONTROLS, MODEL


@dataclass(frozen=True)
class TrainedRow:
    """A model that the train stage makes.

    Attributes:
        name: In file names.
        title: In tables.
        negatives: "graded" (the plan's, verified), "mined" (the corpus' hardest, unverified) or "none" (in-batch).
        pooling: None: as the configuration says.
        is_control: Whether it is there for comparison only.
    """

    name: str
    title: str
    negatives: Literal["graded", "mined", "none"]
    pooling: Literal["anchor", "mean"] | None
    is_control: bool = True

    def titled(self, configured: str) -> str:
        """The title, with the pooling that the row really has.

        Args:
            configured: The configuration's pooling.
        """
        return self.title.format(pooling=self.pooling or configured)

    @property
    def stage(self) -> str:
        """Its stage's name."""
        return f"train-{self.name}"

    @property
    def folder(self) -> str:
        """Where its model lies in the run folder."""
        return f"{CONTROLS}/{self.name}" if self.is_control else MODEL


FINEGRADE = TrainedRow("finegrade", "finegrade (graded, verified, {pooling})", "graded", None, is_control=False)
TRAINED_ROWS = (
    FINEGRADE,
    TrainedRow("in-batch-mean", "in-batch + mean pooling", "none", "mean"),
    TrainedRow("in-batch-anchor", "in-batch + anchor pooling", "none", "anchor"),
    TrainedRow("mined-mean", "mined negatives + mean pooling", "mined", "mean"),
)
