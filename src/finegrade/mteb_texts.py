"""The test splits of a task of the mteb package, which is there only where the user has installed it."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from finegrade.benchmark_columns import BOTH, DOCUMENT, ROLES, Role, row_texts
from finegrade.errors import InputError


def mteb_texts(task_name: str) -> Iterator[tuple[Role, str]]:
    """Of a retrieval task what its judgements need; of all others the columns that hold texts.

    Args:
        task_name: As mteb calls it.

    Raises:
        InputError: There is no mteb, no such task, or no data.
    """
    try:
        task = importlib.import_module("mteb").get_task(task_name)
    except ImportError as error:
        wanted, remedy = "the package mteb, 2 or later", "Install it: pip install mteb"
        raise InputError(f"mteb:{task_name}", got=error, wanted=wanted, remedy=remedy) from None
    except KeyError as error:
        got, wanted = error.args[0] if error.args else "no such task", "the name of a task of mteb"
        raise InputError(f"mteb:{task_name}", got=got, wanted=wanted, remedy="Correct the name.") from None
    yield from _of_task(task)


def _of_task(task: Any) -> Iterator[tuple[Role, str]]:
    for part in getattr(task, "tasks", ()):  # an aggregate has no data of its own
        yield from _of_task(part)
    if getattr(task, "tasks", ()):
        return
    if "text" not in task.metadata.modalities:  # pictures are not even downloaded
        return
    name = f"mteb:{task.metadata.name}"
    if task.metadata.dataset.get("trust_remote_code"):
        got, wanted = "a data set that comes with code", "one that does not"
        raise InputError(name, got=got, wanted=wanted, remedy="Save its texts to a file and name the file.")
    try:
        task.load_data()
        if hasattr(task, "convert_v1_dataset_format_to_v2"):
            task.convert_v1_dataset_format_to_v2(num_proc=None)
    except Exception as error:  # whatever network, hub and file format can raise
        got = (str(error).splitlines() or [type(error).__name__])[0]
        remedy = "Check the network and HF_TOKEN; what was downloaded once is not downloaded again."
        raise InputError(name, got=got, wanted="its data", remedy=remedy) from None
    for split in _splits(task.dataset, set(task.metadata.eval_splits)):
        if isinstance(split, Mapping):
            yield from _of_retrieval(split)
        else:
            yield from _of_columns(split, _roles_of(task))


def _splits(data: Mapping[str, Any], names: set[str]) -> Iterator[Any]:
    """The test splits of all subsets; a task of one subset may have no level of subsets."""
    for key, value in data.items():
        if key in names:
            yield value
        elif isinstance(value, Mapping) and "queries" not in value:
            yield from (split for name, split in value.items() if name in names)


def _of_retrieval(split: Mapping[str, Any]) -> Iterator[tuple[Role, str]]:
    judged = split["relevant_docs"]
    relevant = {
        document for grades in judged.values() for document in grades
        if not isinstance(grades, Mapping) or grades[document] > 0
    }  # fmt: skip
    for rows, ids, roles in (
        (split["queries"], judged.keys(), dict.fromkeys(["text"], BOTH[:1])),
        (split["corpus"], relevant, dict.fromkeys(DOCUMENT, BOTH[1:])),
    ):
        places = [place for place, own in enumerate(rows["id"]) if own in ids]
        yield from _of_columns(rows.select(places), roles)


def _of_columns(rows: Any, roles: Mapping[str, tuple[Role, ...]]) -> Iterator[tuple[Role, str]]:
    columns = [name for name in rows.column_names if name.lower() in roles]  # no images are decoded
    for row in rows.select_columns(columns) if columns else ():
        yield from row_texts(row, roles)


def _roles_of(task: Any) -> dict[str, tuple[Role, ...]]:
    """The usual columns, and those that the task itself names."""
    named = [getattr(task, f"{name}_column_name", None) for name in ("input", "input1", "input2")]
    named += getattr(task, "column_names", ())
    return {**ROLES, **{name.lower(): BOTH for name in named if isinstance(name, str)}}
