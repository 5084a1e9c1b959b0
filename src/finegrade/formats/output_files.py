"""Files of one result: none of them appears before all are written and closed; then one after another, each whole."""

from contextlib import ExitStack
from pathlib import Path

from finegrade.storage.atomic import replacing


class OutputFiles(ExitStack):
    """A block in which the files of a result are written.

    Attributes:
        paths: The files, in the order in which they were begun.
    """

    def __init__(self) -> None:
        super().__init__()
        self._appearing = self.enter_context(ExitStack())  # ends last, when all that writes is closed
        self.paths: list[Path] = []

    def temporary(self, path: Path) -> Path:
        """Where a file is written until the end of the block."""
        self.paths.append(path)
        return self._appearing.enter_context(replacing(path))


def numbered(path: Path, negatives: int) -> Path:
    """The file beside ``path`` for rows with so many negatives."""
    return path.with_name(f"{path.stem}.{negatives}{path.suffix}")


def levels_path(path: Path) -> Path:
    """The file beside ``path`` with the levels of its negatives."""
    return path.with_name(f"{path.stem}.levels.jsonl")
