"""Training data of other people, as tests write and read it."""

import csv
import json
import random
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from hypothesis import strategies as st

from finegrade.data.formats.base import ExternalRow, Format, VerifiedRow

TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12).filter(str.strip)
TABLES = (".parquet", ".jsonl", ".csv", ".tsv")


def write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Rows of equal keys as a file of the kind that its name says."""
    if path.suffix == ".parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif path.suffix == ".jsonl":
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    else:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, list(rows[0]), delimiter="\t" if path.suffix == ".tsv" else ",")
            writer.writeheader()
            writer.writerows(rows)
    return path


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of such a file."""
    if path.suffix == ".parquet":
        return pq.read_table(path).to_pylist()
    if path.suffix == ".jsonl":
        return lines(path)
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t" if path.suffix == ".tsv" else ","))


def lines(path: Path) -> list[Any]:
    return [json.loads(line) for line in path.read_bytes().split(b"\n")[:-1]]


def all_kept(row: ExternalRow) -> VerifiedRow:
    """Nothing is dropped, and the first negative is the easiest."""
    kept = tuple((index, index + 1) for index in range(len(row.negatives)))
    return VerifiedRow(kept, (), tuple(range(len(row.positives))))


def drawn(dice: random.Random) -> Callable[[ExternalRow], VerifiedRow]:
    """Any decision that verification may come to."""

    def judge(row: ExternalRow) -> VerifiedRow:
        indices = list(range(len(row.negatives)))
        dice.shuffle(indices)
        first, second = sorted(dice.randint(0, len(indices)) for _ in range(2))
        levels = sorted(dice.randint(1, 4) for _ in indices[:first])
        stay = tuple(index for index in range(len(row.positives)) if dice.random() < 0.8)
        return VerifiedRow(tuple(zip(indices[:first], levels, strict=True)), tuple(indices[first:second]), stay)

    return judge


def verified(data: Format, judge: Callable[[ExternalRow], VerifiedRow]) -> list[VerifiedRow]:
    return list(map(judge, data.rows()))


def left(rows: Iterable[ExternalRow], decided: Iterable[VerifiedRow]) -> list[ExternalRow]:
    """What is to be read from what is written of them: the definition, where a row may have several positives."""
    found = []
    for row, one in zip(rows, decided, strict=True):
        if one.kept_positives:
            positives = [row.positives[index] for index in one.kept_positives]
            positives += [row.negatives[index] for index in one.promoted]
            found.append(ExternalRow(row.query, tuple(positives), tuple(row.negatives[index] for index, _ in one.kept)))
    return found
