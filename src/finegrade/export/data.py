"""``finegrade export --data``: a run's samples in the forms that other tools read."""

from collections.abc import Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from finegrade.console import say
from finegrade.data.readers.text_files import json_line
from finegrade.errors import InputError
from finegrade.records import Sample
from finegrade.report.cards import write_data_card
from finegrade.storage.atomic import replacing
from finegrade.storage.run_folder import EXTERNAL, SAMPLES, STAGES, VERIFIED, RunFolder
from finegrade.storage.tables import iterate_rows

FLAT, TRIPLETS, FLAG_EMBEDDING, EXCHANGE = "flat.parquet", "triplets.parquet", "flagembedding.jsonl", "samples.jsonl"
_AT_ONCE = 1_000  # rows


def export_data(root: Path, output: Path | None) -> None:
    """Writes a folder with the run's samples, verified where the run has them; by default ``data`` in the run folder.

    What tests (``test_samples/``) stays in the run folder: it is not to be trained on.

    - ``flat.parquet``: anchor, positive, negative_1 .. negative_L (easiest first), as sentence-transformers reads them;
      only samples that have all levels, because it takes no gaps. Every column is a text to it: the instruction of a
      task is in the two files below.
    - ``triplets.parquet``: anchor, positive, negative; a row for each negative, easiest levels first within a sample.
    - ``flagembedding.jsonl``: query, pos, neg (hardest first), prompt; as FlagEmbedding reads them; only samples that
      have a negative.
    - ``samples.jsonl``: everything that finegrade knows of each sample.
    - ``README.md``: the data card.

    Raises:
        InputError: The run has no samples, or others' data, or was broken off in synthesize or verify.
    """
    run = RunFolder(root)
    if EXTERNAL in run.stages():
        remedy = "Take what `finegrade verify --input` wrote in the data's own format; README.md names the files."
        raise InputError(str(root), got="others' data, verified", wanted="a run's own samples", remedy=remedy)
    run.record("synthesize")  # before a folder is made where there is no run
    with run.locked():
        _export(run, output or root / "data")


def _export(run: RunFolder, folder: Path) -> None:
    levels = run.holding("synthesize")["details"]["levels"]
    verified = run.path(STAGES, "verify.json").is_file()
    if verified:
        run.holding("verify")
    source = run.path(VERIFIED if verified else SAMPLES)

    def samples() -> Iterator[Sample]:
        return iterate_rows(source, Sample)

    negatives = [f"negative_{level}" for level in range(1, levels + 1)]
    with_negatives = (sample for sample in samples() if sample.negatives)
    rows = {
        FLAT: _write_table(folder / FLAT, ["anchor", "positive", *negatives], _flat(samples(), levels)),
        TRIPLETS: _write_table(folder / TRIPLETS, ["anchor", "positive", "negative"], _triplets(samples())),
        FLAG_EMBEDDING: _write_jsonl(folder / FLAG_EMBEDDING, map(_for_flag_embedding, with_negatives)),
        EXCHANGE: _write_jsonl(folder / EXCHANGE, (sample.model_dump(mode="json") for sample in samples())),
    }
    write_data_card(run, folder, samples(), rows, verified)
    say(", ".join(f"{name}: {number:,} rows" for name, number in rows.items()))
    say(f"{folder}: written, from {'verified' if verified else 'unverified'} samples")


def _flat(samples: Iterable[Sample], levels: int) -> Iterator[tuple[str, ...]]:
    for sample in samples:
        texts = {negative.rank: negative.text for negative in sample.negatives}
        if texts.keys() == set(range(1, levels + 1)):
            yield (sample.query, sample.positive, *(texts[level] for level in sorted(texts)))


def _triplets(samples: Iterable[Sample]) -> Iterator[tuple[str, ...]]:
    for sample in samples:
        for negative in sorted(sample.negatives, key=lambda negative: negative.rank):
            yield sample.query, sample.positive, negative.text


def _for_flag_embedding(sample: Sample) -> dict[str, Any]:
    hardest_first = sorted(sample.negatives, key=lambda negative: -negative.rank)
    row = {"query": sample.query, "pos": [sample.positive], "neg": [negative.text for negative in hardest_first]}
    return row | ({"prompt": sample.instruction} if sample.instruction else {})


def _write_table(path: Path, columns: list[str], rows: Iterator[tuple[str, ...]]) -> int:
    schema, number = pa.schema([(name, pa.string()) for name in columns]), 0
    with replacing(path) as temporary, pq.ParquetWriter(temporary, schema) as writer:
        while some := list(islice(rows, _AT_ONCE)):
            columns_of = [list(column) for column in zip(*some, strict=True)]
            writer.write_table(pa.table(dict(zip(columns, columns_of, strict=True)), schema=schema))
            number += len(some)
    return number


def _write_jsonl(path: Path, rows: Iterable[dict[str, Any]]) -> int:
    number = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for row in rows:
            file.write(json_line(row))
            number += 1
    return number
