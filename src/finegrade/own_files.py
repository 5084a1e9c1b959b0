"""Which files outside its folder a run wrote: no other is ever written over or removed."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from finegrade.errors import InputError
from finegrade.storage.atomic import file_hash, read_json, write_json


class OwnFiles:
    """The files of one result, as earlier sessions left them.

    Args:
        record: Where they are remembered: for each result its files, and what each held when it was finished.
        result: What the result is called.
    """

    def __init__(self, record: Path, result: Path) -> None:
        self._record, self._result = record, str(result)

    def need_free(self, files: Iterable[Path]) -> None:
        """Says whether files may be written.

        Raises:
            InputError: One is there that no session wrote, or that was changed since.
        """
        own = {name: found for files_of in self._remembered().values() for name, found in files_of.items()}
        for path in files:
            if path.exists() and not _is_own(path, own):
                got = f"a file that is there{' and was changed' if str(path) in own else ''}"
                wanted = "a name that is free, or a result of the same run folder"
                remedy = "Name another --output, or move the file away."
                raise InputError(str(path), got=got, wanted=wanted, remedy=remedy)

    def begin(self, files: Iterable[Path]) -> None:
        """Remembers that whatever is found at these places from now on was written here."""
        earlier = self._remembered().get(self._result, {})
        self._remember(earlier | {str(path): None for path in files})

    def end(self, written: Iterable[Path]) -> None:
        """Remembers what was written, and removes what an earlier session wrote for this result beside it."""
        now: dict[str, str | None] = {str(path): file_hash(path) for path in written}
        earlier = self._remembered().get(self._result, {})
        for name in earlier.keys() - now.keys():
            if _is_own(Path(name), earlier):
                Path(name).unlink(missing_ok=True)
        self._remember(now)

    def _remembered(self) -> dict[str, dict[str, str | None]]:
        try:
            found: Any = read_json(self._record)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _remember(self, files: dict[str, str | None]) -> None:
        write_json(self._record, self._remembered() | {self._result: files})


def _is_own(path: Path, own: dict[str, str | None]) -> bool:
    """Of what has no hash a session that was broken off may have written any part."""
    found = own.get(str(path), "")
    return found is None or (path.is_file() and found == file_hash(path))
