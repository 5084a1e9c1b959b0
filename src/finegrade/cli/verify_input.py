"""``finegrade verify --input``: external training data is verified, graded, and written back in its own format."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from finegrade.cli.estimate import Estimate, estimate_given
from finegrade.config import Config
from finegrade.console import say
from finegrade.data.formats import open_external
from finegrade.data.formats.base import ExternalRow, Format, VerifiedRow
from finegrade.data.readers.text_files import json_line
from finegrade.errors import InputError
from finegrade.records import LeftOut, Sample, Verdict
from finegrade.report.cards import write_external_card
from finegrade.rows import as_samples
from finegrade.stages.report import write_verification_report
from finegrade.stages.verify import in_parts, verify_samples
from finegrade.storage.atomic import file_hash, files_identity, read_json, replacing, write_json
from finegrade.storage.run_folder import EXTERNAL, LEFT_OUT, LOCK, SAMPLES, SET_ASIDE, STAGES, VERDICTS, RunFolder
from finegrade.storage.tables import iterate_rows, write_cut
from finegrade.text import content_hash, encodable, normalised
from finegrade.verification.benchmarks import check_benchmarks

RESULTS = "results.json"
_LONGEST_NAME = 240  # bytes: file systems take 255, and a file that is being written has a longer name


def default_output(data: Format[Any]) -> Path:
    """Beside the data, with "verified" in its name; of a run in a BEIR folder, beside the folder."""
    path = data.path
    return path.with_name(f"{path.name}-verified" if path.is_dir() else f"{path.stem}.verified{path.suffix}")


def default_run(data: Format[Any]) -> Path:
    """A run folder for the data at these paths."""
    paths = content_hash(*(str(path.resolve()) for path in data.files))[:6]
    return Path("runs") / f"verify-{data.path.stem[:50]}-{paths}"


def verify_external(
    path: Path,
    output: Path | None,
    config: Config,
    root: Path | None,
    agree: Callable[[RunFolder, Estimate], None],
    depth: int | None = None,
) -> None:
    """Verifies the negatives of training data.

    Args:
        path, depth: See `finegrade.data.formats.open_external`.
        output: What the result is to be called; None: see `default_output`.
        config: How to verify; of the rest only the LLM, the levels and the seed count.
        root: Where verdicts and scores are kept, so that the work can be interrupted; None: see `default_run`.
        agree: Called with what the LLM will be asked; raises where it may not be.

    Raises:
        InputError: The data or the output is none, the folder is another run's, or a scorer cannot be had.
    """
    verification = config.verification.model_copy(update={"doubt_written": 0.0})  # which texts an LLM wrote is unknown
    config = config.model_copy(update={"verification": verification})
    check_benchmarks(verification.benchmarks)
    _need_a_name(_absolute(path))
    data = open_external(_absolute(path), depth)
    output = _absolute(output or default_output(data))
    run = RunFolder(root or default_run(data))
    for each in (*data.outputs(output), run.root):
        _need_a_name(each)
    _need_writable(output)
    own = OwnFiles(run.path(RESULTS), output)
    data.check_output(output)
    own.need_free(data.outputs(output))
    _need_own_folder(run)
    say(f"{path}: {data.about}")
    with run.locked():
        _take_in(data, run)
        _say_what_was_passed_over(path, run)
        if verification.asks_llm:
            counts = run.record(EXTERNAL)["details"]
            mean = counts["characters"] / max(1, counts["negatives"])
            agree(run, estimate_given(config, counts["negatives"], mean))
        levels = config.synthesis.levels
        verify_samples(run, verification=verification, llm=config.llm, levels=levels, seed=config.seed, after=EXTERNAL)
        own.need_free(data.outputs(output))
        own.begin(data.outputs(output))
        written = data.write(_verified_rows(data, run), output)
        own.end(written)
        write_external_card(run, f"{path}: {data.about}", written)
        page = write_verification_report(run, levels)
    found = run.record("verify")["details"]
    for what, reasons in (("negatives", found["reasons"]), ("rows or positives left out", found["left_out"])):
        for reason, number in reasons.items():
            say(f"{what}: {number:,} {reason}")
    for reason, number in data.not_written.most_common():
        say(f"{path}: {number:,} {reason}")
    say(f"verify: what it found: {page}")
    say(f"written: {', '.join(map(str, written))}; verdicts and scores: {run.root}")


def _say_what_was_passed_over(path: Path, run: RunFolder) -> None:
    """Before the work: where hardly anything can be used, this says why."""
    found = run.record(EXTERNAL)["details"]["passed_over"]
    for reason, number in Counter(found).most_common():
        say(f"{path}: {number:,} {reason}")
    if found:
        say(f"what of it could not be used, row by row: {run.path(SET_ASIDE)}")


def _absolute(path: Path) -> Path:
    """With a name, also for "."; links are not followed: their targets may have no suffix."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _need_a_name(path: Path) -> None:
    """In one line for what libraries cannot open: a name that is no text, or too long."""
    remedy = "Rename it, or name another --output or --run."
    if encodable(str(path)) != str(path):
        shown = str(path).encode("utf-8", "backslashreplace").decode()
        raise InputError(shown, got="a name that is no UTF-8", wanted="one that is", remedy=remedy)
    if len(path.name.encode()) > _LONGEST_NAME:
        wanted = f"a name of at most {_LONGEST_NAME} bytes"
        raise InputError(str(path), got=f"one of {len(path.name.encode())}", wanted=wanted, remedy=remedy)


def _need_writable(output: Path) -> None:
    """A result that cannot be written shows before the work."""
    there = next(folder for folder in output.parents if folder.exists())
    if not (there.is_dir() and os.access(there, os.W_OK)):
        remedy = "Name another --output, or mend its permissions."
        raise InputError(str(there), got="none", wanted="a folder that can be written to", remedy=remedy)


class OwnFiles:
    """The files of one result, as earlier sessions left them: no others are ever replaced or removed.

    The record is a file: for each result its files, and the hash of each when it was finished; None for any content, as
    an interrupted session may have left it.
    """

    def __init__(self, record: Path, result: Path) -> None:
        self._record, self._result = record, str(result)

    def need_free(self, files: Iterable[Path]) -> None:
        """Checks that nothing lies at these paths that no session wrote, or that was changed since."""
        own = {name: found for files_of in self._known().values() for name, found in files_of.items()}
        for path in files:
            if (path.exists() or path.is_symlink()) and not self._is_own(path, own):
                got = f"a file that is there{' and was changed' if str(path) in own else ''}"
                wanted = "a free name, or a result of the same run folder"
                raise InputError(str(path), got=got, wanted=wanted, remedy="Name another --output, or move it away.")

    def begin(self, files: Iterable[Path]) -> None:
        """Records that whatever lies at these paths from now on was written here."""
        earlier = self._known().get(self._result, {})
        self._keep(earlier | {str(path): None for path in files})

    def end(self, written: Iterable[Path]) -> None:
        """Records what was written, and removes what else an earlier session wrote for this result."""
        now: dict[str, str | None] = {str(path): file_hash(path) for path in written}
        earlier = self._known().get(self._result, {})
        for path in (Path(name) for name in earlier.keys() - now.keys()):
            if self._is_own(path, earlier):
                path.unlink(missing_ok=True)
        self._keep(now)

    @staticmethod
    def _is_own(path: Path, own: Mapping[str, str | None]) -> bool:
        found = own.get(str(path), "")
        return found is None or (path.is_file() and found == file_hash(path))

    def _known(self) -> dict[str, dict[str, str | None]]:
        try:
            found: Any = read_json(self._record)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _keep(self, files: dict[str, str | None]) -> None:
        write_json(self._record, self._known() | {self._result: files})


def _need_own_folder(run: RunFolder) -> None:
    """Samples of another run would be lost, and any file with the name of a part of this one."""
    others = run.stages() - {EXTERNAL, "verify"}
    if run.root.is_dir() and not run.stages():
        others = {path.name for path in run.root.iterdir()} - {LOCK, STAGES}  # those a session began with
    if others:
        got = f"one with {', '.join(sorted(others))}"
        wanted = "a run folder in which only external data was verified"
        raise InputError(str(run.root), got=got, wanted=wanted, remedy="Leave --run out, or name another folder.")


def _take_in(data: Format[Any], run: RunFolder) -> None:
    folder = data.path if data.path.is_dir() else data.path.parent
    settings = {"data": f"{data.path.name}-{files_identity(data.files, folder)}", "read as": data.about}
    with run.stage(EXTERNAL, settings) as stage:
        if not stage.done:
            counts: Counter[str] = Counter()
            set_aside = run.path(SET_ASIDE)
            with replacing(set_aside) as temporary, temporary.open("w", encoding="utf-8") as file:
                rows = data.rows(lambda row: file.write(json_line(row._asdict())))
                parts = write_cut(run.path(SAMPLES), in_parts(_counted(rows, counts)), Sample)
            stage.finish([*parts, set_aside], {**counts, "passed_over": dict(data.passed_over)})


def _counted(rows: Iterable[ExternalRow], counts: Counter[str]) -> Iterator[Sample]:
    """The samples of rows; ``characters`` are those of all that may be asked: query, positive and a negative each."""
    counts.update(rows=0, negatives=0, characters=0)
    for row in rows:
        counts["rows"] += 1
        for sample in _samples(row):
            number = len(sample.negatives)
            counts["negatives"] += number
            counts["characters"] += number * (len(sample.query) + len(sample.positive))
            counts["characters"] += sum(len(negative.text) for negative in sample.negatives)
            yield sample


def _samples(row: ExternalRow) -> list[Sample]:
    """One for each positive: what is a negative beside one may be none beside another."""
    return as_samples({"query": row.query, "positive": one, "negatives": row.negatives} for one in row.positives)


def _verified_rows(data: Format[Any], run: RunFolder) -> Iterator[VerifiedRow]:
    """What was decided on each row: verdicts are in the order of the samples, and these in that of the rows."""
    left_out = {row.sample for row in iterate_rows(run.path(LEFT_OUT), LeftOut)}
    verdicts = iterate_rows(run.path(VERDICTS), Verdict)
    got, wanted = "other rows than were verified", "data that stays as it is while it is verified"
    other_rows = InputError(str(data.path), got=got, wanted=wanted, remedy="Verify it with another --run.")
    for row in data.rows():
        kept_positives: list[int] = []
        on_negatives: list[list[Verdict]] = [[] for _ in row.negatives]
        for index, sample in enumerate(_samples(row)):
            if sample.id not in left_out:
                kept_positives.append(index)
                own = list(islice(verdicts, len(sample.negatives)))
                if [(one.sample, one.text) for one in own] != [(sample.id, one.text) for one in sample.negatives]:
                    raise other_rows
                for found, verdict in zip(on_negatives, own, strict=True):
                    found.append(verdict)
        yield _verified(row, on_negatives if kept_positives else [], tuple(kept_positives))
    if next(verdicts, None):
        raise other_rows


def _verified(
    row: ExternalRow, on_negatives: Sequence[Sequence[Verdict]], kept_positives: tuple[int, ...]
) -> VerifiedRow:
    """A negative stays if it stays beside every positive; a text is promoted, once, if it is beside any of them."""
    kept, promoted, positives = [], [], set(map(normalised, row.positives))
    for index, verdicts in enumerate(on_negatives):
        levels = [verdict.level_after for verdict in verdicts if verdict.level_after is not None]
        if len(levels) == len(verdicts):
            kept.append((verdicts[0].score, index, levels[0]))
        text = normalised(row.negatives[index])
        if text not in positives and any(verdict.decision == "promoted" for verdict in verdicts):
            positives.add(text)
            promoted.append(index)
    easiest_first = tuple((index, level) for _, index, level in sorted(kept))
    return VerifiedRow(kept=easiest_first, promoted=tuple(promoted), kept_positives=kept_positives)
