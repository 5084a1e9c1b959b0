"""Which files outside its run folders finegrade wrote: no other is ever replaced or removed."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from finegrade.errors import InputError
from finegrade.storage.atomic import file_hash, read_json, write_json


def foreign_file(paths: Iterable[Path], own: Mapping[str, str | None]) -> Path | None:
    """The first of some paths where something lies that finegrade did not write, or that was changed since.

    Args:
        paths: What would be replaced.
        own: Path -> sha256 of what was written there; None: any content, as an interrupted session may have left it.
    """
    return next((path for path in paths if (path.exists() or path.is_symlink()) and not _is_own(path, own)), None)


def _is_own(path: Path, own: Mapping[str, str | None]) -> bool:
    found = own.get(str(path), "")
    return found is None or (path.is_file() and found == file_hash(path))


class OwnFiles:
    """The files of one result, as earlier sessions left them.

    The record is a file: for each result its files, and the hash of each when it was finished.
    """

    def __init__(self, record: Path, result: Path) -> None:
        self._record, self._result = record, str(result)

    def need_free(self, files: Iterable[Path]) -> None:
        """Checks that files may be written.

        Raises:
            InputError: One is there that no session wrote, or that was changed since.
        """
        own = {name: found for files_of in self._known().values() for name, found in files_of.items()}
        if path := foreign_file(files, own):
            got = f"a file that is there{' and was changed' if str(path) in own else ''}"
            wanted = "a free name, or a result of the same run folder"
            raise InputError(str(path), got=got, wanted=wanted, remedy="Name another --output, or move it away.")

    def begin(self, files: Iterable[Path]) -> None:
        """Records that whatever lies at these paths from now on was written here."""
        earlier = self._known().get(self._result, {})
        self._keep(earlier | {str(path): None for path in files})

    def end(self, written: Iterable[Path]) -> None:
        """Records what was written, and removes what else an earlier session wrote for this result."""
        now: dict[str, str | None] = {str(path): file_hash(path) for path in written}
        earlier = self._known().get(self._result, {})
        for name in earlier.keys() - now.keys():
            if _is_own(Path(name), earlier):
                Path(name).unlink(missing_ok=True)
        self._keep(now)

    def _known(self) -> dict[str, dict[str, str | None]]:
        try:
            found: Any = read_json(self._record)
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def _keep(self, files: dict[str, str | None]) -> None:
        write_json(self._record, self._known() | {self._result: files})
