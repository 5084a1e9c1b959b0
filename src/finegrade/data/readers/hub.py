"""Data sets in Hugging Face's format: from the hub, or saved in a local folder."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from finegrade.errors import InputError, first_line


def is_saved_dataset(path: Path) -> bool:
    """Whether a folder was written by ``datasets``' save_to_disk."""
    return (path / "state.json").is_file() or (path / "dataset_dict.json").is_file()


def saved_rows(path: Path, split: str) -> Sequence[Mapping[str, Any]]:
    """The rows of a data set that save_to_disk wrote, read one by one.

    Raises:
        InputError: It cannot be read, or has no such split.
    """
    from datasets import DatasetDict, load_from_disk

    try:
        found = load_from_disk(str(path))
        rows = found[split] if isinstance(found, DatasetDict) else found
    except KeyError:
        wanted = f"one of {', '.join(found)}"
        raise InputError("source.split", got=split, wanted=wanted, remedy="Correct it.") from None
    except Exception as error:  # pyarrow, json and datasets each raise their own
        got, wanted = str(error).splitlines()[0], "a data set that save_to_disk wrote"
        raise InputError(str(path), got=got, wanted=wanted, remedy="Save it again.") from None
    return cast(Sequence[Mapping[str, Any]], rows)


def hub_rows(name: str, split: str) -> Iterator[Mapping[str, Any]]:
    """Rows of a data set on the hub, streamed: no more of it is downloaded than is read.

    Raises:
        InputError: The hub cannot be reached, or has no such data set or split.
    """
    from datasets import load_dataset

    try:
        yield from load_dataset(name, split=split, streaming=True)
    except Exception as error:  # whatever network, hub and file format can raise
        got = first_line(error)
        remedy = (
            "Check the name, source.split, HF_TOKEN and the network; or name a local file or folder in source.path."
        )
        raise InputError(f"the data set {name}", got=got, wanted="its rows", remedy=remedy) from None
