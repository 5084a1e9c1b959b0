"""The run folder: where the stages meet, and how each knows what is already done.

Durable files are the truth. A stage writes its outputs atomically and, last of all, its record
``stages/NAME.json`` with a fingerprint of the settings and inputs that it reads. Stages whose fingerprint changed run
again; the others are reused.
"""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from filelock import FileLock, Timeout

from finegrade.console import say
from finegrade.errors import InputError, run_first
from finegrade.storage.atomic import file_hash, read_json, write_json

CHUNKS, UNUSED = "documents/chunks.parquet", "documents/set_aside.jsonl"
QUERIES, QUERIES_SET_ASIDE = "queries.parquet", "queries_set_aside.jsonl"
TASKS, TASKS_SET_ASIDE = "tasks.parquet", "tasks_set_aside.jsonl"
TRAIN_SEEDS, TEST_SEEDS = "seeds/train.parquet", "seeds/test.parquet"
DRAFTS, SAMPLES, TEST_SAMPLES, SET_ASIDE = "drafts", "samples", "test_samples", "set_aside.jsonl"
DISPLACED = "displaced"
"""Corpus negatives whose place an LLM's text took: the control row with mined negatives trains on them."""
LOCK, STAGES = ".lock", "stages"
VECTORS = "vectors"
LEDGER, LLM_LOG, CONSENT = "ledger.sqlite", "llm.log", "consent.json"
VERIFIED, VERDICTS, LEFT_OUT = "verified", "verdicts", "left_out"
SCORE_BOOK = "relevance.sqlite"
EXTERNAL = "given"
"""The stage that reads external training data, in place of ``synthesize``."""
MODEL, CONTROLS, CHECKPOINTS = "model", "controls", "checkpoints"
SCORES, REPORT = "scores.json", "report.html"
VERIFICATION_REPORT = "verification.html"

FORMAT = 2
"""Part of every fingerprint: raised when the meaning of a stage's files changes."""


def fingerprint(*values: Any) -> str:
    """Hash of settings and inputs; it decides whether a stage's result is still valid."""
    return hashlib.sha256(json.dumps([FORMAT, *values], sort_keys=True, default=str).encode()).hexdigest()


class Stage:
    """One stage's work in a run folder; its time adds up, interrupted sessions included.

    It is ``done`` where a finished result with the same fingerprint is there.
    """

    def __init__(
        self, run: "RunFolder", name: str, wanted_fingerprint: str, inputs: Mapping[str, str], changed: str
    ) -> None:
        self.run, self.name, self.fingerprint, self._inputs = run, name, wanted_fingerprint, inputs
        self.done = not changed
        self._record_path = run.path(STAGES, f"{name}.json")
        self._clock_path = run.path(STAGES, f".{name}.clock.json")
        record = _read_record(self._record_path)
        if self.done and record:
            say(f"{name}: kept from {record['finished']}, nothing it reads has changed")
        elif record:
            say(f"{name}: {changed}, runs again")

    def __enter__(self) -> Self:
        self._began = time.monotonic()
        if not self.done:
            self._keep_time()  # also shows at once whether the folder can be written to
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if not self.done:
            self._keep_time()

    def _keep_time(self) -> None:
        write_json(self._clock_path, {"fingerprint": self.fingerprint, "seconds": self.seconds()})

    def seconds(self) -> float:
        """Seconds worked on this result; of earlier sessions, those that could write their time when they ended."""
        earlier = _read_record(self._clock_path) or {}
        before = earlier["seconds"] if earlier.get("fingerprint") == self.fingerprint else 0.0
        return float(before + time.monotonic() - self._began)

    def finish(self, outputs: Sequence[Path], details: Mapping[str, Any]) -> None:
        """Records the stage as done, the last thing it writes. ``details`` is JSON that the report shows."""
        seconds = self.seconds()
        record = {
            "stage": self.name,
            "fingerprint": self.fingerprint,
            "finished": time.strftime("%Y-%m-%d %H:%M:%S"),
            "seconds": round(seconds, 2),
            "inputs": dict(self._inputs),
            "outputs": {str(path.relative_to(self.run.root)): file_hash(path) for path in outputs},
            "details": dict(details),
        }
        write_json(self._record_path, record)
        self._clock_path.unlink(missing_ok=True)
        self.done = True


def is_run_folder(folder: Path) -> bool:
    """Whether a folder is one that a run has worked in."""
    return (folder / LOCK).is_file() and (folder / STAGES).is_dir()


class RunFolder:
    """Everything that one run made. Stages never import each other: they meet only here.

    Args:
        root: The folder.
        only: The command whose stages may run; the results of others must be valid. None: all may run.
    """

    def __init__(self, root: Path, only: str | None = None) -> None:
        self.root, self._only = root, only
        if root.exists() and not root.is_dir():
            raise InputError("--run", got=root, wanted="a folder", remedy="Name another path.")

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keeps other processes out for the length of the block; the lock ends with its process."""
        self.root.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.path(LOCK))
        try:
            lock.acquire(blocking=False)
        except Timeout:
            remedy = "Wait until it has ended, or name another folder with --run."
            got, wanted = "another finegrade at work in it", "a folder that is not in use"
            raise InputError(str(self.root), got=got, wanted=wanted, remedy=remedy) from None
        try:
            yield
        finally:
            lock.release()

    def path(self, *parts: str) -> Path:
        """A path inside the run folder."""
        return self.root.joinpath(*parts)

    def stages(self) -> set[str]:
        """The stages that have begun here, finished or not."""
        names = (path.name for path in self.path(STAGES).glob("*.json"))
        return {name.removeprefix(".").partition(".")[0] for name in names}

    def record(self, stage: str) -> dict[str, Any]:
        """The record of a finished stage; an InputError says which command makes it."""
        path = self.path(STAGES, f"{stage}.json")
        record = _read_record(path)
        if record is None or "outputs" not in record:
            raise run_first(self.root, stage, command_of(stage))
        return record

    def holding(self, stage: str) -> dict[str, Any]:
        """The record of a finished stage whose files are whole, and whose inputs are those that are there now."""
        record = self.record(stage)
        made_from = record.get("inputs", {stage: ""})
        changed = [name for name, found in made_from.items() if fingerprint(self.record(name)["outputs"]) != found]
        if changed or not _whole(self, record):
            got = f"one that was made from another result of {changed[0]}" if changed else "one that lacks files"
            raise run_first(self.root, stage, command_of(stage), got)
        return record

    def stage(self, name: str, settings: Mapping[str, Any], after: Sequence[str] = ()) -> Stage:
        """Begins a stage, or finds it done.

        Args:
            name: The stage's name.
            settings: Only what this stage reads: a change here, and nothing else, makes it run again.
            after: The stages whose outputs it reads.

        Raises:
            InputError: An earlier stage has not finished; or this one has no valid result and may not run (``only``).
        """
        inputs = {stage: fingerprint(self.record(stage)["outputs"]) for stage in after}
        wanted_fingerprint = fingerprint(name, settings, inputs)
        changed = _changed(self, _read_record(self.path(STAGES, f"{name}.json")), wanted_fingerprint)
        if changed and self._only not in (None, command_of(name)):
            got = f"a result that is not valid: {changed}" if self.path(STAGES, f"{name}.json").is_file() else "none"
            raise run_first(self.root, name, command_of(name), got)
        self.path(STAGES).mkdir(parents=True, exist_ok=True)
        return Stage(self, name, wanted_fingerprint, inputs, changed)


def _read_record(path: Path) -> dict[str, Any] | None:
    """A record, or None where it is missing or damaged: the stage then runs again."""
    try:
        record = read_json(path)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and "fingerprint" in record and "seconds" in record else None


def command_of(stage: str) -> str:
    """The command that a stage belongs to; each row of the score table has stages of its own."""
    return {"train": "train", "score": "evaluate"}.get(stage.partition("-")[0], stage)


def _changed(run: RunFolder, record: Mapping[str, Any] | None, wanted_fingerprint: str) -> str:
    """What has changed since a stage finished; empty where a result with this fingerprint is there, whole."""
    if record is None or not record.keys() >= {"finished", "inputs", "outputs", "details"}:
        return "its record is damaged"
    if record["fingerprint"] != wanted_fingerprint:
        return "its settings or inputs have changed"
    return "" if _whole(run, record) else "its files are gone or were changed"


def _whole(run: RunFolder, record: Mapping[str, Any]) -> bool:
    """Whether the outputs are as recorded; a later run may have been killed after it wrote some of them."""
    found = {name: run.path(name) for name in record["outputs"]}
    return all(path.is_file() and file_hash(path) == record["outputs"][name] for name, path in found.items())
