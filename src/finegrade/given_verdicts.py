"""Others' training data as samples, and the verdicts on these as decisions on its rows."""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from itertools import islice

from finegrade.data.formats.base import Format, Given, Judged
from finegrade.errors import InputError
from finegrade.records import LeftOut, Negative, Sample, Verdict
from finegrade.storage.run_folder import LEFT_OUT, VERDICTS, RunFolder
from finegrade.storage.tables import iterate_rows
from finegrade.text import content_hash, normalised


def samples_of(row: Given) -> list[Sample]:
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


def judged_rows(data: Format, run: RunFolder) -> Iterator[Judged]:
    """What was decided on each row: verdicts stand in the order of the samples, and these in that of the rows.

    Raises:
        InputError: They are verdicts on other rows.
    """
    left_out = {row.sample for row in iterate_rows(run.path(LEFT_OUT), LeftOut)}
    verdicts = iterate_rows(run.path(VERDICTS), Verdict)
    for row in data.rows():
        of_place: defaultdict[int, list[Verdict]] = defaultdict(list)
        kept_positives = []
        for number, sample in enumerate(samples_of(row)):
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
