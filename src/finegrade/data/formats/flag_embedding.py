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
    Given,
    Judged,
    OutputFiles,
    PassedOver,
    Tell,
    UnreadableRowError,
    beside,
    check_file,
    numbered,
    text_in,
    texts_in,
)
from finegrade.data.readers.jsonl import json_line, jsonl_rows

LEVELS = "neg_levels"

_MOST = {"pos": MAX_POSITIVES, "neg": MAX_NEGATIVES}


class _Row(NamedTuple):
    given: Given
    keys: Mapping[str, Any]
    pos: tuple[int, ...]  # places of the given texts in the lists, which may have gaps
    neg: tuple[int, ...]


class FlagEmbedding:
    """Training data of FlagEmbedding: a Format.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.files: tuple[Path, ...] = (path,)
        self.about = "queries: query, positives: pos, negatives: neg"
        self.passed_over = PassedOver()
        self.not_written: Counter[str] = Counter()

    def rows(self, tell: Tell | None = None) -> Iterator[Given]:
        """See Format."""
        self.passed_over = PassedOver(tell)
        return (row.given for row in self._rows(self.passed_over))

    def check_output(self, output: Path) -> None:
        """See Format."""
        check_file(self.path, output, self.outputs(output))

    def outputs(self, output: Path) -> list[Path]:
        """See Format."""
        return [output, numbered(output, 0)]

    def write(self, judged: Iterable[Judged], output: Path) -> list[Path]:
        """See Format."""
        self.check_output(output)
        self.not_written = Counter()
        with OutputFiles() as files:
            lines = {}
            for row, decided in beside(self.path, self._rows(PassedOver()), judged):
                if decided.kept_positives:
                    path = output if decided.kept else numbered(output, 0)
                    if path not in lines:
                        lines[path] = files.enter_context(files.temporary(path).open("w", encoding="utf-8"))
                    lines[path].write(json_line(_left(row, self._known(row, decided))))
        return files.paths

    def _known(self, row: _Row, decided: Judged) -> Judged:
        """Without the negatives that answer, where a list beside ``pos`` would get a gap: losses take none."""
        if not decided.promoted or _can_promote(row.keys):
            return decided
        self.not_written["a negative that answers: no label of it is known"] += len(decided.promoted)
        return decided._replace(promoted=())

    def _rows(self, passed_over: PassedOver) -> Iterator[_Row]:
        for number, keys in jsonl_rows(self.path):
            try:
                if isinstance(keys, str):
                    raise UnreadableRowError(keys)
                yield _read(keys)
            except UnreadableRowError as error:
                passed_over.add(number, str(error), keys)


def _read(keys: Mapping[str, Any]) -> _Row:
    query = text_in(keys.get("query"), "query")
    pos, neg = (texts_in(keys.get(name), name, most) for name, most in _MOST.items())
    if not pos:
        raise UnreadableRowError("pos: empty")
    for name in ("pos", "neg"):
        for beside_it in _in_step(keys, name):
            if len(keys[beside_it]) != len(keys[name] or ()):
                raise UnreadableRowError(f"{beside_it}: not one for each text")
    return _Row(Given(query, tuple(pos.values()), tuple(neg.values())), keys, tuple(pos), tuple(neg))


def _in_step(keys: Mapping[str, Any], name: str) -> list[str]:
    """Lists beside ``pos`` or ``neg``: their names begin with its name. Empty ones only hold a place."""
    return [key for key, value in keys.items() if key.startswith(f"{name}_") and isinstance(value, list) and value]


def _can_promote(keys: Mapping[str, Any]) -> bool:
    """Whether each list beside ``pos`` has its like beside ``neg``."""
    beside_neg = _in_step(keys, "neg")
    return all("neg" + name.removeprefix("pos") in beside_neg for name in _in_step(keys, "pos"))


def _left(row: _Row, decided: Judged) -> dict[str, Any]:
    """The row as it is written."""
    pos = [row.pos[place] for place in decided.kept_positives]
    neg = [row.neg[place] for place, _ in reversed(decided.kept)]
    promoted = [row.neg[place] for place in decided.promoted]
    keys = dict(row.keys)
    for key in ["pos", *_in_step(keys, "pos")]:
        moved = [row.keys["neg" + key.removeprefix("pos")][place] for place in promoted]
        keys[key] = [row.keys[key][place] for place in pos] + moved
    for key in ["neg", *_in_step(keys, "neg")]:
        keys[key] = [row.keys[key][place] for place in neg]
    return keys | {LEVELS: [level for _, level in reversed(decided.kept)]}
