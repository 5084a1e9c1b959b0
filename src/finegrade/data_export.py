"""``finegrade export --data``: a run's samples in the forms that other tools read."""

import json
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from finegrade.console import say
from finegrade.data_card import write_data_card
from finegrade.durable import replacing
from finegrade.errors import InputError
from finegrade.records import Sample
from finegrade.row_files import iterate_rows
from finegrade.store import SAMPLES, VERIFIED, RunFolder

FLAT, TRIPLETS, FLAG_EMBEDDING, EXCHANGE = "flat.parquet", "triplets.parquet", "flagembedding.jsonl", "samples.jsonl"
_AT_ONCE = 1_000  # rows


def export_data(root: Path, output: Path | None) -> None:
    """Writes a folder with the run's samples: verified ones where the run has them.

    - ``flat.parquet``: anchor, positive, negative_1 .. negative_L (easiest first), as sentence-transformers reads them;
      only samples that have all levels, because it takes no gaps.
    - ``triplets.parquet``: anchor, positive, negative; a row for each negative, easiest levels first within a sample.
    - ``flagembedding.jsonl``: query, pos, neg (hardest first), prompt; as FlagEmbedding reads them.
    - ``samples.jsonl``: everything that finegrade knows of each sample.
    - ``README.md``: the data card.

    Args:
        root: The run folder.
        output: The folder to write; None: ``data`` in the run folder.

    Raises:
        InputError: The run has no samples.
    """
    run, folder = RunFolder(root), output or root / "data"
    made = run.record("synthesize")["details"]
    verified = run.path(VERIFIED).is_file()
    source = run.path(VERIFIED if verified else SAMPLES)
    if not source.exists():
        remedy = "Run `finegrade synthesize` again."
        raise InputError(str(source), got="no samples", wanted="what synthesize wrote", remedy=remedy)

    def samples() -> Iterator[Sample]:
        return iterate_rows(source, Sample)

    levels = made["levels"]
    negatives = [f"negative_{level}" for level in range(1, levels + 1)]
    rows = {
        FLAT: _write_table(folder / FLAT, ["anchor", "positive", *negatives], _flat(samples(), levels)),
        TRIPLETS: _write_table(folder / TRIPLETS, ["anchor", "positive", "negative"], _triplets(samples())),
        FLAG_EMBEDDING: _write_jsonl(folder / FLAG_EMBEDDING, samples(), _for_flag_embedding),
        EXCHANGE: _write_jsonl(folder / EXCHANGE, samples(), lambda sample: sample.model_dump(mode="json")),
    }
    write_data_card(run, folder, samples(), rows, verified)
    say(", ".join(f"{name}: {number:,} rows" for name, number in rows.items()))
    say(f"{folder}: written, from {'verified' if verified else 'unverified'} samples")


def _flat(samples: Iterable[Sample], levels: int) -> Iterator[tuple[str, ...]]:
    for sample in samples:
        texts = {negative.level: negative.text for negative in sample.negatives}
        if len(texts) == levels:
            yield (sample.query, sample.positive, *(texts[level] for level in sorted(texts)))


def _triplets(samples: Iterable[Sample]) -> Iterator[tuple[str, ...]]:
    for sample in samples:
        for negative in sorted(sample.negatives, key=lambda negative: negative.level):
            yield sample.query, sample.positive, negative.text


def _for_flag_embedding(sample: Sample) -> dict[str, Any]:
    hardest_first = sorted(sample.negatives, key=lambda negative: -negative.level)
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


def _write_jsonl(path: Path, samples: Iterable[Sample], row_of: Callable[[Sample], dict[str, Any]]) -> int:
    number = 0
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8") as file:
        for sample in samples:
            file.write(json.dumps(row_of(sample), ensure_ascii=False) + "\n")
            number += 1
    return number
