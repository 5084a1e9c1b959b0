"""Training data that other tools wrote: opened in the format that it is in."""

from pathlib import Path
from typing import Any

from finegrade.data.formats.base import DEPTH, WANTED, Format
from finegrade.errors import InputError


def open_external(path: Path, depth: int | None = None) -> Format[Any]:
    """Opens training data.

    Args:
        path: A table of columns (.parquet, .jsonl, .csv, .tsv), FlagEmbedding's JSONL, a BEIR folder, or a run in one.
        depth: Of a run, how many documents a query has as negatives at most; None: 30.

    Raises:
        InputError: It is none of them, its columns do not show what the negatives are, or a table has a depth.
    """
    from finegrade.data.formats.beir import BeirRun, find_run
    from finegrade.data.formats.columns import Columns, roles_of
    from finegrade.data.formats.flag_embedding import FlagEmbedding
    from finegrade.data.formats.labelled_pairs import LabelledPairs
    from finegrade.data.formats.tables import TABLES, JsonlTable

    run = find_run(path)
    if run:
        return BeirRun(run, depth or DEPTH)
    kind = TABLES.get(path.suffix.lower())
    if kind is None or not path.is_file():
        got = "a folder without corpus.jsonl" if path.is_dir() else "no such file" if not path.exists() else path.suffix
        raise InputError(str(path), got=got or "no suffix", wanted=WANTED, remedy="Name another --input.")
    if depth is not None:
        wanted, remedy = "a run in a BEIR folder, which alone has a depth", "Leave --depth out."
        raise InputError(str(path), got=f"a table, and --depth {depth}", wanted=wanted, remedy=remedy)
    table = kind(path)
    is_flag_embedding = isinstance(table, JsonlTable) and {"query", "pos", "neg"} <= table.columns.keys()
    if is_flag_embedding and table.columns["pos"] == "texts":
        return FlagEmbedding(path)
    roles = roles_of(path, table.columns)
    return LabelledPairs(table, roles) if roles.labels else Columns(table, roles)
