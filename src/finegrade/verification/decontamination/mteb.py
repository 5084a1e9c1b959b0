"""The test splits of a task of the mteb package, which is there only where the user has installed it."""

import importlib
from collections.abc import Iterator, Mapping
from typing import Any

from finegrade.console import say
from finegrade.errors import InputError, first_line
from finegrade.verification.decontamination.columns import (
    BOTH,
    DOCUMENT,
    QUERY,
    ROLES,
    BenchmarkColumns,
    Role,
    Roles,
    plain_column,
)


def mteb_task(task_name: str) -> Any:
    """A task, none of whose data was downloaded yet.

    Args:
        task_name: As mteb calls it.

    Raises:
        InputError: There is no mteb, no such task, no text in it, or its data comes with code.
    """
    name = f"mteb:{task_name}"
    try:
        task = importlib.import_module("mteb").get_task(task_name)
    except ImportError as error:
        wanted, remedy = "the package mteb, 2 or later", "Install it: pip install 'finegrade[mteb]'"
        raise InputError(name, got=error, wanted=wanted, remedy=remedy) from None
    except KeyError as error:
        got, wanted = error.args[0] if error.args else "no such task", "the name of a task of mteb"
        raise InputError(name, got=got, wanted=wanted, remedy="Correct the name.") from None
    parts = list(_parts(task))
    if not parts:
        raise InputError(name, got="no text", wanted="a task of texts", remedy="Name another.")
    if any(part.metadata.dataset.get("trust_remote_code") for part in parts):
        got, wanted = "a data set that comes with code", "one that does not"
        raise InputError(name, got=got, wanted=wanted, remedy="Save its texts to a file and name the file.")
    return task


def mteb_texts(task_name: str) -> Iterator[tuple[Role, str]]:
    """Of a retrieval task what its judgements need; of all others the columns that hold texts.

    Args:
        task_name: As mteb calls it.

    Raises:
        InputError: There is no such task (see ``mteb_task``), or its data cannot be had.
    """
    for part in _parts(mteb_task(task_name)):
        yield from _of_task(part)


def _parts(task: Any) -> Iterator[Any]:
    """The tasks in an aggregate, which has no data of its own; of a task itself. Pictures are not even downloaded."""
    inner = getattr(task, "tasks", ())
    for part in inner:
        yield from _parts(part)
    if not inner and "text" in task.metadata.modalities:
        yield task


def _of_task(task: Any) -> Iterator[tuple[Role, str]]:
    name = f"mteb:{task.metadata.name}"
    try:
        task.load_data()
        if hasattr(task, "convert_v1_dataset_format_to_v2"):
            task.convert_v1_dataset_format_to_v2(num_proc=None)
    except Exception as error:  # whatever network, hub and file format can raise
        got = first_line(error)
        remedy = "Check the network and HF_TOKEN; what was downloaded once is not downloaded again."
        raise InputError(name, got=got, wanted="its data", remedy=remedy) from None
    columns = BenchmarkColumns(_roles_of(task))
    is_table = False
    for split in _splits(task.dataset, set(task.metadata.eval_splits)):
        if isinstance(split, Mapping):
            yield from _of_retrieval(split)
        else:
            is_table = True
            yield from _of_columns(split, columns)
    if is_table:
        say(f"Benchmark {name}: {columns.told()}.")


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
    for rows, ids, roles in ((split["queries"], judged.keys(), QUERY), (split["corpus"], relevant, DOCUMENT)):
        places = [place for place, own in enumerate(rows["id"]) if own in ids]
        yield from _of_columns(rows.select(places), BenchmarkColumns(roles))


def _of_columns(rows: Any, columns: BenchmarkColumns) -> Iterator[tuple[Role, str]]:
    known = [name for name in rows.column_names if columns.knows(name)]  # no images are decoded
    for name in rows.column_names:
        if name not in known:
            columns.note(name, True)
    for row in rows.select_columns(known) if known else ():
        yield from columns.texts(row)


def _roles_of(task: Any) -> Roles:
    """The usual columns, and those that the task itself names."""
    named = [getattr(task, f"{name}_column_name", None) for name in ("input", "input1", "input2")]
    named += getattr(task, "column_names", ())
    return {**ROLES, **{plain_column(name): BOTH for name in named if isinstance(name, str)}}
