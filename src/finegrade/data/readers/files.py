"""A folder or file to documents, each format by its own reader."""

import os
import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from finegrade.data.readers.document import Block, Document, Unread, markdown_blocks, paragraphs, pdf_blocks
from finegrade.data.readers.html import html_blocks
from finegrade.data.readers.tables import READERS, NoTextColumnError, row_documents
from finegrade.data.readers.text_files import decode
from finegrade.errors import InputError
from finegrade.storage.run_folder import is_run_folder

MAX_FILE_BYTES = 50_000_000

_TEXT: dict[str, Callable[[str], list[Block]]] = {
    **dict.fromkeys((".md", ".markdown"), markdown_blocks),
    **dict.fromkeys((".txt", ".text", ".rst"), paragraphs),
    **dict.fromkeys((".html", ".htm", ".xhtml"), html_blocks),
}
FORMATS = frozenset({*_TEXT, *READERS, ".pdf"})
"""File name endings that are read."""

Guessed = Callable[[str, str], None]
"""Called with a path and the encoding that was guessed for it."""


def list_files(root: Path, without: Path | None = None) -> tuple[list[Path], dict[str, int]]:
    """The files that are read, sorted, and how many others there are by ending.

    Hidden files, links and run folders are passed over, and the file ``without``: the user's queries may lie beside
    what they are about.

    Raises:
        InputError: There is nothing to read.
    """
    remedy = f"Endings that are read: {', '.join(sorted(FORMATS))}."
    if not root.exists():
        raise InputError(str(root), got="nothing there", wanted="a file or folder of documents", remedy=remedy)
    found: list[Path] = []
    others: dict[str, int] = {}
    for path in _walk(root):
        ending = path.suffix.lower()
        if without is not None and path.samefile(without):
            continue
        if ending in FORMATS:
            found.append(path)
        else:
            others[ending or "(none)"] = others.get(ending or "(none)", 0) + 1
    if not found:
        got = f"no file to read among {sum(others.values())}"
        raise InputError(str(root), got=got, wanted="documents", remedy=remedy)
    return found, others


def _walk(root: Path) -> Iterator[Path]:
    if root.is_file():
        yield root
        return
    for folder, folders, names in os.walk(root):
        if is_run_folder(Path(folder)):
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = Path(folder) / name
            if not name.startswith(".") and path.is_file() and not path.is_symlink():
                yield path


def read_files(
    root: Path, files: list[Path], text_field: str | None, title_field: str | None, seed: int, guessed: Guessed
) -> Iterator[tuple[Path, Document | Unread]]:
    """Yields the documents of the files that ``list_files`` gave, with the file each came from.

    Their order is drawn with the seed: what is learnt from the first documents shall hold for all.
    """
    for path in random.Random(seed).sample(files, len(files)):
        name = path.relative_to(root).as_posix() if path != root else path.name
        ending = path.suffix.lower()
        try:
            if ending in READERS:
                rows = READERS[ending](path, partial(guessed, name))
                for document in row_documents(name, rows, text_field, title_field):
                    yield path, document
            else:
                blocks = _blocks(path, ending, name, guessed)
                yield path, Document(name, blocks) if blocks else Unread(name, "no text")
        except NoTextColumnError as error:
            if len(files) == 1:
                raise
            yield path, Unread(name, f"a table with {error.got}")  # the other files of the folder are read
        except (OSError, ValueError) as error:
            yield path, Unread(name, str(getattr(error, "strerror", None) or error))


def _blocks(path: Path, ending: str, name: str, guessed: Guessed) -> list[Block]:
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(f"larger than {MAX_FILE_BYTES / 1e6:.0f} MB")
    if ending == ".pdf":
        return pdf_blocks(path)
    text, encoding = decode(path.read_bytes())
    if encoding:
        guessed(name, encoding)
    return _TEXT[ending](text.replace("\r\n", "\n").replace("\r", "\n"))
