"""Which format training data is in: told by what is there."""

from collections.abc import Callable
from pathlib import Path

from finegrade.data.formats.base import DEPTH, Format, Table
from finegrade.data.formats.beir import BeirRun
from finegrade.data.formats.beir_files import find_beir
from finegrade.data.formats.column_roles import WANTED, roles_of
from finegrade.data.formats.columns import Columns
from finegrade.data.formats.csv_table import CsvTable
from finegrade.data.formats.flag_embedding import FlagEmbedding
from finegrade.data.formats.jsonl_table import JsonlTable
from finegrade.data.formats.labelled_pairs import LabelledPairs
from finegrade.data.formats.parquet_table import ParquetTable
from finegrade.errors import InputError

_TABLES: dict[str, Callable[[Path], Table]] = {
    ".parquet": ParquetTable, ".csv": CsvTable, ".tsv": CsvTable,
    ".jsonl": JsonlTable, ".ndjson": JsonlTable, ".json": JsonlTable,
}  # fmt: skip


def open_given(path: Path, depth: int | None = None) -> Format:
    """Opens training data.

    Args:
        path: A table of columns (.parquet, .jsonl, .csv, .tsv), FlagEmbedding's JSONL, a BEIR folder, or a run in one.
        depth: Of a run, how many documents a query has as negatives at most; None: 30.

    Raises:
        InputError: It is none of them, its negatives cannot be told, or a depth is given for what is no run.
    """
    beir = find_beir(path)
    if beir:
        return BeirRun(beir, depth or DEPTH)
    kind = _TABLES.get(path.suffix.lower())
    if kind is None or not path.is_file():
        got = "a folder without corpus.jsonl" if path.is_dir() else "no such file" if not path.exists() else path.suffix
        raise InputError(str(path), got=got or "no suffix", wanted=WANTED, remedy="Name another --input.")
    if depth is not None:
        wanted, remedy = "a run in a BEIR folder, which alone has a depth", "Leave --depth out."
        raise InputError(str(path), got=f"a table, and --depth {depth}", wanted=wanted, remedy=remedy)
    table = kind(path)
    flag_embedding = isinstance(table, JsonlTable) and {"query", "pos", "neg"} <= table.columns.keys()
    if flag_embedding and table.columns["pos"] == "texts":
        return FlagEmbedding(path)
    roles = roles_of(path, table.columns)
    return LabelledPairs(table, roles) if roles.labels else Columns(table, roles)
