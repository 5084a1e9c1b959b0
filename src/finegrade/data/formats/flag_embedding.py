"""FlagEmbedding's JSONL: ``query``, lists ``pos`` and ``neg``, and lists beside them that stay in step.

Written back hardest first, as ``finegrade export --data`` does, with ``neg_levels`` beside ``neg``. FlagEmbedding
loads the rows with ``datasets`` and takes the keys that it knows, whatever others there are. It cannot train on a row
without negatives, and draws among all of them, so the order is for people. Rows that lost all their negatives go to
``NAME.0.jsonl``: FlagEmbedding's miner takes them as they are.
"""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from finegrade.data.formats.base import (
    MAX_NEGATIVES,
    MAX_POSITIVES,
    ExternalRow,
    Format,
    OutputFiles,
    PassedOver,
    UnreadableRowError,
    VerifiedRow,
    numbered,
    readable,
    text_in,
    texts_in,
)
from finegrade.data.readers.text_files import json_line, jsonl_rows

LEVELS = "neg_levels"

_MOST = {"pos": MAX_POSITIVES, "neg": MAX_NEGATIVES}


class FlagEmbeddingRow(NamedTuple):
    """A row as it was read: what is verified, all its keys, and the indices of its texts in lists that have gaps."""

    external: ExternalRow
    keys: Mapping[str, Any]
    pos: tuple[int, ...]
    neg: tuple[int, ...]


class FlagEmbedding(Format[FlagEmbeddingRow]):
    """Training data of FlagEmbedding."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, "queries: query, positives: pos, negatives: neg", (path,))

    def read(self, passed_over: PassedOver) -> Iterator[FlagEmbeddingRow]:
        """See Format."""
        return readable(jsonl_rows(self.path), _read, passed_over)

    def outputs(self, output: Path) -> list[Path]:
        """See Format."""
        return [output, numbered(output, 0)]

    def write(self, rows: Iterable[VerifiedRow], output: Path) -> list[Path]:
        """See Format. A negative that answers is left out where a list beside ``pos`` would get a gap."""
        self.check_output(output)
        self.not_written = Counter()
        with OutputFiles() as files:
            lines = {}
            for row, decided in self.verified(rows):
                if decided.kept_positives:
                    path = output if decided.kept else numbered(output, 0)
                    if path not in lines:
                        lines[path] = files.enter_context(files.temporary(path).open("w", encoding="utf-8"))
                    if decided.promoted and not _can_promote(row.keys):
                        number = len(decided.promoted)
                        self.not_written["a negative that answers: no label of it is known"] += number
                        decided = decided._replace(promoted=())
                    lines[path].write(json_line(_left(row, decided)))
        return files.paths


def _read(keys: Mapping[str, Any], number: int) -> FlagEmbeddingRow:
    query = text_in(keys.get("query"), "query")
    pos, neg = (texts_in(keys.get(name), name, most) for name, most in _MOST.items())
    if not pos:
        raise UnreadableRowError("pos: empty")
    for name in ("pos", "neg"):
        for beside_it in _in_step(keys, name):
            if len(keys[beside_it]) != len(keys[name] or ()):
                raise UnreadableRowError(f"{beside_it}: not one for each text")
    return FlagEmbeddingRow(ExternalRow(query, tuple(pos.values()), tuple(neg.values())), keys, tuple(pos), tuple(neg))


def _in_step(keys: Mapping[str, Any], name: str) -> list[str]:
    """Lists beside ``pos`` or ``neg``: their names begin with its name. Empty ones hold nothing."""
    return [key for key, value in keys.items() if key.startswith(f"{name}_") and isinstance(value, list) and value]


def _can_promote(keys: Mapping[str, Any]) -> bool:
    """Whether each list beside ``pos`` has its like beside ``neg``."""
    beside_neg = _in_step(keys, "neg")
    return all("neg" + name.removeprefix("pos") in beside_neg for name in _in_step(keys, "pos"))


def _left(row: FlagEmbeddingRow, decided: VerifiedRow) -> dict[str, Any]:
    """The row as it is written."""
    pos = [row.pos[index] for index in decided.kept_positives]
    neg = [row.neg[index] for index, _ in reversed(decided.kept)]
    promoted = [row.neg[index] for index in decided.promoted]
    keys = dict(row.keys)
    for key in ["pos", *_in_step(keys, "pos")]:
        moved = [row.keys["neg" + key.removeprefix("pos")][index] for index in promoted]
        keys[key] = [row.keys[key][index] for index in pos] + moved
    for key in ["neg", *_in_step(keys, "neg")]:
        keys[key] = [row.keys[key][index] for index in neg]
    return keys | {LEVELS: [level for _, level in reversed(decided.kept)]}
