"""Which column is what: by the usual names, and else by order, as sentence-transformers takes them."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from finegrade.data.formats.base import Kind
from finegrade.errors import InputError

LABELS = ("label", "labels", "score", "scores")
"""What sentence-transformers takes for labels instead of texts."""

WANTED = (
    "columns of query, positive and negatives (sentence-transformers), JSONL with query, pos and neg (FlagEmbedding), "
    "or a folder with corpus.jsonl, queries.jsonl, qrels/ and a run (BEIR)"
)

_QUERIES = ("anchor", "query", "question")
_POSITIVES = ("positive", "pos", "answer", "response", "document", "passage")
_TEXTS = ("text", "content", "sentence", "sentence2")
"""Of labelled pairs: what may answer or not."""

_NEGATIVE = re.compile(r"(hard[ _]?)?neg(ative)?s?[ _]?\d*", re.IGNORECASE)
_BESIDE_NEGATIVES = re.compile(r"(hard[ _]?)?neg(ative)?s?_", re.IGNORECASE)
_NO_TEXT = re.compile(
    r"(.*[ _-])?(id|ids|idx|index|label|labels|score|scores|source|type|lang|language|split|prompt|instruction)"
    r"|docid|qid|pid|uuid|url|unnamed.*|__.*|",
    re.IGNORECASE,
)
"""Names of columns that may hold signs and yet no text to train on; in a saved table of pandas the index has none."""

_MAY_BE_TEXTS: tuple[Kind, ...] = ("text", "texts", "empty")


class Roles(NamedTuple):
    """What the columns are.

    Attributes:
        query: The column of queries.
        positive: The column of texts that answer them; where ``labels`` says so, of those that do not, too.
        negatives: The columns of negatives, or the one that holds lists of them; none where ``labels`` tells them.
        is_list: Whether there is one column of lists.
        labels: Of labelled pairs: the column of 0 and 1.
    """

    query: str
    positive: str
    negatives: tuple[str, ...]
    is_list: bool = False
    labels: str = ""

    @property
    def about(self) -> str:
        """In words, for the user."""
        others = f"negatives: {', '.join(self.negatives)}" if self.negatives else f"1 or 0: {self.labels}"
        return f"queries: {self.query}, {'texts' if self.labels else 'positives'}: {self.positive}, {others}"


def roles_of(path: Path, columns: Mapping[str, Kind]) -> Roles:
    """Which column is what.

    Args:
        path: Of the file, for errors.
        columns: Name -> kind, in the order of the file.

    Raises:
        InputError: There are no negatives, or no telling which.
    """
    named = [name for name in columns if is_of_negatives(name) and columns[name] in _MAY_BE_TEXTS]
    others = [name for name in columns if name not in named and not _NO_TEXT.fullmatch(name)]
    texts = [name for name in others if columns[name] == "text"]
    query = _named(_QUERIES, texts) or next(iter(texts), "")
    rest = [name for name in texts if name != query]
    labels = next((name for name in ("label", "labels") if columns.get(name) == "number"), "")
    if labels and not named:
        return _labelled(path, query, rest, labels)
    positive = _named(_POSITIVES, rest) or next(iter(rest), "")
    lists = [name for name in others if columns[name] == "texts"]
    negatives = named or [name for name in rest if name != positive] or lists
    for found, kind in ((query, "queries"), (positive, "positives"), (negatives, "negatives or labels")):
        if not found:
            raise _none(path, columns, kind)
    if len(negatives) > 1 and any(columns[name] == "texts" for name in negatives):
        raise _ambiguous(path, negatives, "columns of negatives, or one column of lists")
    is_list = columns[negatives[0]] == "texts"
    if is_list or len(negatives) > 1:
        _refuse_out_of_step(path, columns, negatives, is_list)
    return Roles(query, positive, tuple(negatives), is_list)


def _labelled(path: Path, query: str, rest: Sequence[str], labels: str) -> Roles:
    """Pairs with a label; of several texts beside the query one must be called so."""
    text = _named((*_POSITIVES, *_TEXTS), rest) or (rest[0] if len(rest) == 1 else "")
    if text:
        return Roles(query, text, (), labels=labels)
    wanted = f"beside {labels} a query and a text that is called so, or negatives that are called negative_1, ..."
    raise _ambiguous(path, [labels, *rest], wanted)


def _ambiguous(path: Path, names: Sequence[str], wanted: str) -> InputError:
    remedy = "Rename them, or leave them out."
    return InputError(str(path), got=f"columns {', '.join(names)}", wanted=wanted, remedy=remedy)


def is_of_texts(name: str) -> bool:
    """Whether a column of this name holds texts, whatever they look like."""
    return name.strip().lower() in (*_QUERIES, *_POSITIVES) or is_of_negatives(name)


def is_of_negatives(name: str) -> bool:
    """Whether a column of this name holds negatives."""
    return bool(_NEGATIVE.fullmatch(name))


def beside_negatives(columns: Mapping[str, Kind], negatives: Sequence[str]) -> list[str]:
    """Columns that belong to the negatives by their names: ``negative_scores``, ``negative_1_id``, or labels."""
    there = [name for name in columns if name not in negatives]
    return [name for name in there if name in LABELS or _BESIDE_NEGATIVES.match(name) or _begins(name, negatives)]


def beside_positive(columns: Mapping[str, Kind], roles: Roles) -> list[str]:
    """Columns that belong to the positive by their names: ``positive_id``."""
    return [name for name in columns if name not in roles.negatives and _begins(name, [roles.positive])]


def _begins(name: str, others: Sequence[str]) -> bool:
    return any(name.startswith(f"{one}_") for one in others)


def _refuse_out_of_step(path: Path, columns: Mapping[str, Kind], negatives: Sequence[str], is_list: bool) -> None:
    """Negatives change places: only a list with a value for each of them can follow."""
    found = beside_negatives(columns, negatives)
    single = () if is_list else ("text", "number")  # beside a list, it is of all of them
    odd = [name for name in found if columns[name] == "other" or (columns[name] in single and name not in LABELS)]
    odd += [name for name in found if columns[name] == "text" and name in LABELS]
    if odd:
        wanted = "no columns that belong to single negatives, or one list for all of them, such as `scores`"
        raise _ambiguous(path, odd, wanted)


def _none(path: Path, columns: Mapping[str, Kind], kind: str) -> InputError:
    told = ", ".join(f"{name} ({columns[name]})" for name in columns) or "(none)"
    got = f"columns {told}, none of them of {kind}"
    remedy = "Name the columns anchor, positive and negative_1, negative_2, …"
    return InputError(str(path), got=got, wanted=WANTED, remedy=remedy)


def _named(names: Sequence[str], there: Sequence[str]) -> str:
    """The first of these names that there is, whatever its case."""
    folded = {name.strip().lower(): name for name in reversed(there)}
    return next((folded[name] for name in names if name in folded), "")
