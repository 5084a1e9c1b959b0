"""``finegrade verify --input``: others' training data is verified, graded, and written back in its own format."""

import os
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path

from finegrade.config import Config
from finegrade.console import say
from finegrade.data_card import write_card_of_given
from finegrade.durable import files_identity
from finegrade.errors import InputError
from finegrade.estimating import Estimate, estimate_given
from finegrade.formats.given import Format, Given, Judged
from finegrade.formats.opening import open_given
from finegrade.own_files import OwnFiles
from finegrade.records import LeftOut, Negative, Sample, Verdict
from finegrade.row_files import iterate_rows, write_parts
from finegrade.store import GIVEN, LEFT_OUT, SAMPLES, VERDICTS, VERIFIED, RunFolder
from finegrade.text import content_hash, normalised
from finegrade.verification import verify

RESULTS = "results.json"

_SAMPLES_A_PART = 10_000


def default_output(data: Format) -> Path:
    """Beside the data, with "verified" in its name; of a run in a BEIR folder, beside the folder."""
    path = data.path
    return path.with_name(f"{path.name}-verified" if path.is_dir() else f"{path.stem}.verified{path.suffix}")


def default_run(data: Format) -> Path:
    """A run folder for each place that data is at."""
    place = content_hash(*(str(path.resolve()) for path in data.files))[:6]
    return Path("runs") / f"verify-{data.path.stem}-{place}"


def verify_given(
    path: Path,
    output: Path | None,
    config: Config,
    root: Path | None,
    agree: Callable[[RunFolder, Estimate], None],
) -> None:
    """Verifies the negatives of training data.

    Args:
        path: The data; see `finegrade.formats.opening.open_given`.
        output: What the result is to be called; None: see `default_output`.
        config: How to verify; of the rest only the LLM, the levels and the seed count.
        root: Where verdicts and scores are kept, so that the work can be broken off; None: see `default_run`.
        agree: Told what the LLM will be asked; raises where it may not be.

    Raises:
        InputError: The data or the output is none, the folder is another run's, or a scorer cannot be had.
    """
    config = _without_written(config)
    data = open_given(_absolute(path))
    output = _absolute(output or default_output(data))
    run = RunFolder(root or default_run(data))
    own = OwnFiles(run.path(RESULTS), output)
    data.check_output(output)
    own.need_free(data.outputs(output))
    _need_own_folder(run)
    say(f"{path}: {data.about}")
    with run.locked():
        _take_in(data, run)
        if config.verification.asks_llm:
            agree(run, _ahead(config, run))
        verify(config, run, after=GIVEN)
        own.need_free(data.outputs(output))
        own.begin(data.outputs(output))
        written = data.write(_judged(data, run), output)
        own.end(written)
        write_card_of_given(run, f"{path}: {data.about}", written)
    _say_why(data, path, run)
    say(f"written: {', '.join(map(str, written))}; verdicts and scores: {run.root}")


def _say_why(data: Format, path: Path, run: RunFolder) -> None:
    found = run.record("verify")["details"]
    for what, reasons in (("negatives", found["reasons"]), ("rows or positives left out", found["left_out"])):
        for reason, number in reasons.items():
            say(f"{what}: {number:,} {reason}")
    for reason, number in (data.passed_over + data.not_written).most_common():
        say(f"{path}: {number:,} {reason}")


def _without_written(config: Config) -> Config:
    """What is said of texts that an LLM wrote makes no difference: of none of these it is known."""
    rules = config.verification.model_copy(update={"doubt_written": 0.0})
    return config.model_copy(update={"verification": rules})


def _ahead(config: Config, run: RunFolder) -> Estimate:
    counts = run.record(GIVEN)["details"]
    negatives = counts["negatives"]
    return estimate_given(config, negatives, counts["characters"] / max(1, negatives))


def _absolute(path: Path) -> Path:
    """With a name, also where it is "." ; links are not followed: what they lead to may have no suffix."""
    return Path(os.path.abspath(path))  # noqa: PTH100


def _need_own_folder(run: RunFolder) -> None:
    """Samples of another run would be lost."""
    stages = run.stages()
    others = stages - {GIVEN, "verify"}
    if not stages:
        others = {name for name in (SAMPLES, VERIFIED, VERDICTS, LEFT_OUT) if run.path(name).exists()}
    if others:
        got = f"one with {', '.join(sorted(others))}"
        wanted = "a run folder that others' data alone was verified in"
        raise InputError(str(run.root), got=got, wanted=wanted, remedy="Leave --run out, or name another folder.")


def _take_in(data: Format, run: RunFolder) -> None:
    folder = data.path if data.path.is_dir() else data.path.parent
    with run.stage(GIVEN, {"data": f"{data.path.name}-{files_identity(data.files, folder)}"}) as stage:
        if not stage.done:
            counts: Counter[str] = Counter()
            parts = write_parts(run.path(SAMPLES), _counted(data.rows(), counts), Sample, _SAMPLES_A_PART)
            stage.finish(parts, {**counts, "passed_over": dict(data.passed_over)})


def _counted(rows: Iterable[Given], counts: Counter[str]) -> Iterator[Sample]:
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
    """What was decided on each row: verdicts stand in the order of the samples, and these in that of the rows.

    Raises:
        InputError: They are verdicts on other rows.
    """
    left_out = {row.sample for row in iterate_rows(run.path(LEFT_OUT), LeftOut)}
    verdicts = iterate_rows(run.path(VERDICTS), Verdict)
    for row in data.rows():
        of_place: defaultdict[int, list[Verdict]] = defaultdict(list)
        kept_positives = []
        for number, sample in enumerate(_samples(row)):
            if sample.id not in left_out:
                kept_positives.append(number)
                for place, verdict in enumerate(_verdicts_on(sample, verdicts, data)):
                    of_place[place].append(verdict)
        yield _decided(row, of_place, tuple(kept_positives))
    if next(verdicts, None):
        raise _other_rows(data)


def _verdicts_on(sample: Sample, verdicts: Iterable[Verdict], data: Format) -> list[Verdict]:
    own = list(islice(verdicts, len(sample.negatives)))
    if [(one.sample, one.text) for one in own] != [(sample.id, negative.text) for negative in sample.negatives]:
        raise _other_rows(data)
    return own


def _other_rows(data: Format) -> InputError:
    got, wanted = "other rows than were verified", "data that stays as it is while it is verified"
    return InputError(str(data.path), got=got, wanted=wanted, remedy="Verify it with another --run.")


def _decided(row: Given, of_place: dict[int, list[Verdict]], kept_positives: tuple[int, ...]) -> Judged:
    """A negative stays that no positive makes a false one, and is a positive that one of them makes one."""
    kept = [place for place, found in of_place.items() if all(v.level_after is not None for v in found)]
    kept.sort(key=lambda place: (of_place[place][0].score, place))
    levels = tuple((place, of_place[place][0].level_after or 1) for place in kept)
    return Judged(kept=levels, promoted=_promoted(row, of_place), kept_positives=kept_positives)


def _promoted(row: Given, of_place: dict[int, list[Verdict]]) -> tuple[int, ...]:
    """Each text once: beside another positive the same text may be known to be one."""
    taken = set(map(normalised, row.positives))
    places = []
    for place, found in of_place.items():
        text = normalised(row.negatives[place])
        if text not in taken and any(v.decision == "promoted" for v in found):
            taken.add(text)
            places.append(place)
    return tuple(places)
