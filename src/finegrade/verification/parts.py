"""The verify stage's files, in parts: one that is finished is not made again, and memory holds no more than a part.

A part is three files, and a record beside the verdicts, written last: what the part was made for, the hashes of its
files, and what was found out by then: scales of scorers, sizes of benchmarks. A part of which a file is gone or was
changed is made again, and an interrupted run knows what only its earlier sessions needed.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from finegrade.records import LeftOut, Sample, Verdict
from finegrade.storage.atomic import file_hash, read_json, write_json
from finegrade.storage.run_folder import LEFT_OUT, VERDICTS, VERIFIED, RunFolder
from finegrade.storage.tables import iterate_rows, part_path, part_paths, write_rows
from finegrade.verification.verifier import Judged

SAMPLES_A_PART, NEGATIVES_A_PART = 1_000, 16_000
"""At most; but a sample is never cut, and samples of one query are kept together up to twice as many negatives."""
Found = Mapping[str, Mapping[str, Any]]
"""Kind ("scorers", "benchmarks") -> name -> what was found out; JSON."""
SAMPLES_TOGETHER = 100
"""Samples of one query that follow each other are in one part, because their verdicts must agree: up to so many."""


def in_parts(samples: Iterable[Sample]) -> Iterator[list[Sample]]:
    """Cuts samples into parts; one part at least."""
    part: list[Sample] = []
    negatives = together = 0
    for sample in samples:
        negatives += len(sample.negatives)
        follows = part and sample.query == part[-1].query and negatives <= 2 * NEGATIVES_A_PART
        together = together + 1 if follows and together < SAMPLES_TOGETHER else 1
        if part and together == 1 and (len(part) >= SAMPLES_A_PART or negatives > NEGATIVES_A_PART):
            yield part
            part, negatives = [], len(sample.negatives)
        part.append(sample)
    yield part


class VerifiedParts:
    """The three folders of a run: verified samples, verdicts, and what was left out.

    Args:
        run: The run folder.
        made_for: Fingerprint of all that they depend on; parts that were made for another are made again.
    """

    def __init__(self, run: RunFolder, made_for: str) -> None:
        self._folders = self._verified, self._left_out, self._verdicts = (
            run.path(VERIFIED),
            run.path(LEFT_OUT),
            run.path(VERDICTS),
        )
        self._made_for = f"{made_for} {SAMPLES_A_PART} {NEGATIVES_A_PART} {SAMPLES_TOGETHER}"

    def has(self, number: int) -> bool:
        """Whether a part is finished, and whole."""
        record = self._record(number)
        try:
            return record.get("made_for") == self._made_for and record.get("files") == self._hashes(number)
        except OSError:
            return False

    def write(self, number: int, judged: Judged, found: Found) -> None:
        """Finishes a part.

        Args:
            number: Which.
            judged: What came of its samples.
            found: What was found out by now.
        """
        write_rows(part_path(self._verified, number), judged.samples, Sample)
        write_rows(part_path(self._left_out, number), judged.left_out, LeftOut)
        write_rows(part_path(self._verdicts, number), judged.verdicts, Verdict)
        record = {"made_for": self._made_for, "files": self._hashes(number), "found": found}
        write_json(self._record_path(number), record)

    def end(self, number: int) -> list[Path]:
        """Removes what is no part from 0 to a number, which an earlier run left; returns the files of these parts."""
        parts = {part_path(folder, part): None for folder in self._folders for part in range(number)}
        records = set(map(self._record_path, range(number)))
        there = [path for folder in self._folders for path in part_paths(folder)]
        for path in (*there, *self._verdicts.glob("part-*.json")):
            if path not in parts and path not in records:
                path.unlink()
        return list(parts)

    def found(self, number: int) -> dict[str, dict[str, Any]]:
        """What was found out for the parts from 0 to a number."""
        found: dict[str, dict[str, Any]] = {}
        for part in range(number):
            for kind, named in self._record(part)["found"].items():
                found.setdefault(kind, {}).update(named)
        return found

    def verdicts(self) -> Iterator[Verdict]:
        """All verdicts, in order."""
        return iterate_rows(self._verdicts, Verdict)

    def left_out(self) -> Iterator[LeftOut]:
        """All that was left out, in order."""
        return iterate_rows(self._left_out, LeftOut)

    def _hashes(self, number: int) -> dict[str, str]:
        return {folder.name: file_hash(part_path(folder, number)) for folder in self._folders}

    def _record(self, number: int) -> dict[str, Any]:
        """Empty where it is missing or damaged: the part is made again."""
        try:
            record = read_json(self._record_path(number))
        except (OSError, ValueError):
            return {}
        return record if isinstance(record, dict) and isinstance(record.get("found"), dict) else {}

    def _record_path(self, number: int) -> Path:
        return part_path(self._verdicts, number).with_suffix(".json")
