"""``finegrade verify --input``: others' training data is verified, graded, and written back in its own format."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from finegrade.config import Config
from finegrade.console import say
from finegrade.durable import path_identity
from finegrade.formats.given import Format, Given, Judged
from finegrade.formats.opening import open_given
from finegrade.records import LeftOut, Negative, Sample, Verdict
from finegrade.row_files import iterate_rows, write_parts
from finegrade.store import LEFT_OUT, SAMPLES, VERDICTS, RunFolder
from finegrade.text import content_hash
from finegrade.verification import verify

TAKEN_IN = "given"
"""The stage that reads the data: what ``synthesize`` is for samples that finegrade makes."""

_SAMPLES_A_PART = 10_000


def default_output(path: Path) -> Path:
    """Beside the data, with "verified" in its name; of a run in a BEIR folder, beside the folder."""
    if (path.parent / "corpus.jsonl").is_file():
        path = path.parent
    return path.with_name(f"{path.stem}.verified{path.suffix}" if path.suffix else f"{path.name}-verified")


def default_run(path: Path) -> Path:
    """A run folder for each name of data."""
    return Path("runs") / f"verify-{path.stem}"


def verify_given(path: Path, output: Path, config: Config, run: RunFolder) -> None:
    """Verifies the negatives of training data.

    Args:
        path: The data; see `finegrade.formats.opening.open_given`.
        output: What the result is to be called.
        config: How to verify; of the rest only the LLM, the levels and the seed count.
        run: Where verdicts and scores are kept, so that the work can be broken off.

    Raises:
        InputError: The data or the output is none, or a scorer cannot be had.
    """
    data = open_given(path)
    data.check_output(output)
    say(f"{path}: {data.about}")
    with run.locked():
        _take_in(data, path, run)
        verify(config, run, after=TAKEN_IN)
        written = data.write(_judged(data, run), output)
    for reason, number in (data.passed_over + data.not_written).most_common():
        say(f"{path}: {number:,} {reason}")
    say(f"written: {', '.join(map(str, written))}; verdicts and scores: {run.root}")


def _take_in(data: Format, path: Path, run: RunFolder) -> None:
    with run.stage(TAKEN_IN, {"data": path_identity(path)}) as stage:
        if not stage.done:
            samples = (sample for row in data.rows() for sample in _samples(row))
            parts = write_parts(run.path(SAMPLES), samples, Sample, _SAMPLES_A_PART)
            stage.finish(parts, {"passed_over": dict(data.passed_over)})


def _samples(row: Given) -> list[Sample]:
    """One a positive: what is a negative beside one may be none beside another."""
    negatives = tuple(Negative(text=text, level=1, source="given") for text in row.negatives)
    return [
        Sample(
            id=content_hash(row.query, positive),
            query=row.query,
            positive=positive,
            negatives=negatives,
            group=content_hash(row.query),
        )
        for positive in row.positives
    ]


def _judged(data: Format, run: RunFolder) -> Iterator[Judged]:
    """What was decided on each row: verdicts stand in the order of the samples, and these in that of the rows."""
    left_out = {row.sample for row in iterate_rows(run.path(LEFT_OUT), LeftOut)}
    verdicts = iterate_rows(run.path(VERDICTS), Verdict)
    for row in data.rows():
        of_place: defaultdict[int, list[Verdict]] = defaultdict(list)
        kept_positives = []
        for number, sample in enumerate(_samples(row)):
            if sample.id not in left_out:
                kept_positives.append(number)
                for place, verdict in enumerate(islice(verdicts, len(row.negatives))):
                    of_place[place].append(verdict)
        yield _decided(of_place, tuple(kept_positives))


def _decided(of_place: dict[int, list[Verdict]], kept_positives: tuple[int, ...]) -> Judged:
    """A negative stays that no positive makes a false one, and is a positive that one of them makes one."""
    promoted = [place for place, found in of_place.items() if any(v.decision == "promoted" for v in found)]
    kept = [place for place, found in of_place.items() if all(v.level_after is not None for v in found)]
    kept.sort(key=lambda place: (of_place[place][0].score, place))
    levels = tuple((place, of_place[place][0].level_after or 1) for place in kept)
    return Judged(kept=levels, promoted=tuple(promoted), kept_positives=kept_positives)
