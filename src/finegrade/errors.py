"""Errors that the command line prints in one line: the user's input is wrong, or finegrade's own result is."""

import difflib
import errno
import sqlite3
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

_SQLITE_FULL = (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE)


class InputError(Exception):
    """Bad input, in one line: what is wrong, what was got, what is wanted, and how to mend it; exit code 2."""

    def __init__(self, what: str, *, got: object, wanted: str, remedy: str) -> None:
        self.what, self.got, self.wanted, self.remedy = what, got, wanted, remedy
        line = f"{what}: got {_short(got)}; wanted {wanted}. {remedy}"
        super().__init__(" ".join(_printable(line).split()))  # names out of data files may hold terminal escapes

    def __reduce__(self) -> tuple[Callable[[], "InputError"], tuple[Any, ...]]:
        """Lets it go from one process to another, which exceptions with keywords cannot by themselves."""
        return partial(InputError, self.what, got=str(self.got), wanted=self.wanted, remedy=self.remedy), ()


class CheckFailedError(Exception):
    """A result of finegrade failed a check and was not kept; one line and exit code 1."""


def is_disk_full(error: BaseException) -> bool:
    """Whether an error says that the disk is full; safetensors and SQLite raise types of their own."""
    if isinstance(error, sqlite3.Error) and getattr(error, "sqlite_errorcode", None) in _SQLITE_FULL:
        return True
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return True
    return any(words in str(error) for words in ("No space left on device", "database or disk is full"))


def no_space(path: Path, wanted: str, got: str = "no space left") -> InputError:
    """The error for a full disk."""
    remedy = (
        "Free some space, or set FINEGRADE_CACHE (models) or --run (results) to another disk; what is done is kept."
    )
    return InputError(f"the disk of {path}", got=got, wanted=wanted, remedy=remedy)


def unknown_name(what: str, got: object, known: Iterable[str]) -> InputError:
    """The error for a name that is not among the known ones."""
    names = sorted(known)
    near = difflib.get_close_matches(str(got), names, 1)
    remedy = f"Did you mean {near[0]}?" if near else "Correct the name."
    return InputError(what, got=got, wanted=f"one of {', '.join(names)}", remedy=remedy)


def unreadable(path: Path | str, error: BaseException, wanted: str, remedy: str) -> InputError:
    """The error for a file that cannot be opened, decoded or parsed."""
    got = getattr(error, "strerror", None) or first_line(error)
    return InputError(str(path), got=got, wanted=wanted, remedy=remedy)


def run_first(run: Path, stage: str, command: str, got: str = "none") -> InputError:
    """The error for a stage that lacks the valid result of an earlier one, which ``command`` runs; ``got`` is there."""
    remedy = f"Run `finegrade {command}` first, or `finegrade run`."
    return InputError(f"{run}: {stage}", got=got, wanted=f"a finished {stage} stage", remedy=remedy)


def first_line(error: BaseException) -> str:
    """The first line of another library's message, or the exception's name where it has none."""
    return (str(error).splitlines() or [type(error).__name__])[0]


def _printable(text: str) -> str:
    return "".join(character if character.isprintable() else " " for character in text)


def _short(value: object, limit: int = 200) -> str:
    text = _printable(str(value))
    return text if len(text) <= limit else text[: limit - 1] + "…"
