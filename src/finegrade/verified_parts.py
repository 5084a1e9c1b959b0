"""The verify stage's files, in parts: one that is finished is not made again, and memory holds no more than a part."""

from collections.abc import Iterator
from pathlib import Path

from finegrade.records import LeftOut, Sample, Verdict
from finegrade.row_files import about, iterate_rows, part_path, part_paths, write_rows
from finegrade.store import LEFT_OUT, VERDICTS, VERIFIED, RunFolder
from finegrade.verifier import Judged

SAMPLES_A_PART = 1_000

_MADE_FOR = "finegrade"


class VerifiedParts:
    """The three folders of a run: verified samples, verdicts, and what was left out.

    Args:
        run: The run folder.
        made_for: Fingerprint of all that they depend on; parts that were made for another are made again.
    """

    def __init__(self, run: RunFolder, made_for: str) -> None:
        self._verified, self._left_out, self._verdicts = map(run.path, (VERIFIED, LEFT_OUT, VERDICTS))
        self._made_for = {_MADE_FOR: made_for}

    def has(self, number: int) -> bool:
        """Whether a part is finished."""
        return about(part_path(self._verdicts, number)) == self._made_for

    def write(self, number: int, judged: Judged) -> None:
        """Finishes a part."""
        write_rows(part_path(self._verified, number), judged.samples, Sample)
        write_rows(part_path(self._left_out, number), judged.left_out, LeftOut)
        write_rows(part_path(self._verdicts, number), judged.verdicts, Verdict, self._made_for)  # last: all are there

    def end(self, number: int) -> list[Path]:
        """Removes the parts from a number on, which an earlier run left; returns those that are there now."""
        folders = (self._verified, self._left_out, self._verdicts)
        for folder in folders:
            for path in part_paths(folder)[number:]:
                path.unlink()
        return [path for folder in folders for path in part_paths(folder)]

    def verdicts(self) -> Iterator[Verdict]:
        """All verdicts, in order."""
        return iterate_rows(self._verdicts, Verdict)

    def left_out(self) -> Iterator[LeftOut]:
        """All that was left out, in order."""
        return iterate_rows(self._left_out, LeftOut)
