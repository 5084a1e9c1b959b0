"""A run over a BEIR corpus: the negatives of a query are what a search found for it and nobody judged relevant.

Nothing of the corpus is held but where its lines begin. Written back is a folder of the same form: corpus, queries
and other judgements as they were; the run with the negatives that are left, hardest first, with scores that count
down, because tools order a run by its scores; the judgements with the negatives that answer after all, and without
the positives that do not. The levels are beside it, in ``levels.tsv``: TREC's form has no column for them.
"""

import shutil
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import BinaryIO

from finegrade.errors import InputError
from finegrade.formats.beir_cases import BeirCase, BeirCases
from finegrade.formats.beir_folder import LEVELS, BeirFiles
from finegrade.formats.beir_lines import judgement, trec
from finegrade.formats.given import Given, Judged, PassedOver, Tell, beside
from finegrade.formats.output_files import OutputFiles


class BeirRun:
    """A run in a BEIR folder: a Format.

    Args:
        files: The parts of the folder.
        depth: How many negatives a query has at most: the best ones of the run.

    Raises:
        InputError: A part cannot be read.
    """

    def __init__(self, files: BeirFiles, depth: int) -> None:
        run, judgements = (path.relative_to(files.folder) for path in (files.run, files.judgements))
        self.path, self.files = files.folder, files.read
        self.about = f"queries and relevant documents: {judgements}, negatives: the first {depth} others of {run}"
        self.passed_over = PassedOver()
        self.not_written: Counter[str] = Counter()
        self._files, self._cases = files, BeirCases(files, depth)

    def rows(self, tell: Tell | None = None) -> Iterator[Given]:
        """See Format. A document that cannot be read is counted in ``passed_over``, too; its query stays."""
        self.passed_over = PassedOver(tell)
        self._cases.count_unreadable(self.passed_over)
        return (case.given for case in self._cases.cases(self.passed_over))

    def check_output(self, output: Path) -> None:
        """See Format."""
        if output.resolve() == self._files.folder.resolve() or output.is_file():
            got = "a file" if output.is_file() else "the input itself"
            wanted = "a folder of its own for the result"
            raise InputError(str(output), got=got, wanted=wanted, remedy="Name another --output.")

    def outputs(self, output: Path) -> list[Path]:
        """See Format."""
        parts = [*self._files.others, self._files.judgements, self._files.run]
        return [*(output / part.relative_to(self._files.folder) for part in parts), output / LEVELS]

    def write(self, judged: Iterable[Judged], output: Path) -> list[Path]:
        """See Format. Judgements of queries that are not in the run stay as they are."""
        self.check_output(output)
        folder, judgements, run = self._files
        with OutputFiles() as files, TemporaryFile() as added:
            for part in self._files.others:
                shutil.copyfile(part, files.temporary(output / part.relative_to(folder)))
            runs, levels, relevant = (
                files.enter_context(files.temporary(path).open("wb"))
                for path in (output / run.relative_to(folder), output / LEVELS, output / judgements.relative_to(folder))
            )
            levels.write(b"query-id\tcorpus-id\tlevel\n")
            taken: set[int] = set()
            for case, decided in beside(folder, self._cases.cases(PassedOver()), judged):
                _write_run(runs, levels, case, decided, is_trec=self._files.line_of_run is trec)
                taken |= _taken(case, decided)
                if decided.kept_positives:
                    promoted = (case.negatives[place] for place in decided.promoted)
                    added.writelines(_line(case.query, document, "1") for document in promoted)
            _write_left(relevant, judgements, taken)
            added.seek(0)
            shutil.copyfileobj(added, relevant)
        return files.paths


def _write_run(runs: BinaryIO, levels: BinaryIO, case: BeirCase, decided: Judged, is_trec: bool) -> None:
    kept = decided.kept if decided.kept_positives else ()
    for rank, (place, level) in enumerate(reversed(kept), start=1):
        document, score = case.negatives[place], str(len(kept) + 1 - rank)
        if is_trec:
            runs.write(_line(case.query, "Q0", document, str(rank), score, "finegrade", between=" "))
        else:
            runs.write(_line(case.query, document, score))
        levels.write(_line(case.query, document, str(level)))


def _taken(case: BeirCase, decided: Judged) -> set[int]:
    """What is no longer judged as it was: hashes of queries that are set aside and of (query, document)."""
    if not decided.kept_positives:
        return {hash(case.query)}
    dropped = (text for place, text in enumerate(case.positives) if place not in decided.kept_positives)
    promoted = (case.negatives[place] for place in decided.promoted)
    return {hash((case.query, document)) for document in (*dropped, *promoted)}


def _write_left(output: BinaryIO, judgements: Path, taken: set[int]) -> None:
    """The judgements but for those that are taken, and their header."""
    with judgements.open("rb") as file:
        for number, line in enumerate(file):
            found = judgement(line)
            is_left = number == 0 if found is None else not {hash(found.query), hash(found[:2])} & taken
            if is_left:
                output.write(line.rstrip(b"\r\n") + b"\n")


def _line(*cells: str, between: str = "\t") -> bytes:
    return (between.join(cells) + "\n").encode("utf-8", "surrogateescape")
