"""``finegrade anchors``: which tokens carry the vectors of some texts."""

from collections.abc import Sequence
from pathlib import Path

from finegrade.console import say, show
from finegrade.data.readers.encoding import decode
from finegrade.errors import InputError
from finegrade.models.anchors import load_anchor_model, token_shares
from finegrade.shading import as_page, for_terminal
from finegrade.storage.atomic import replacing
from finegrade.text import encodable

_MAX_BYTES = 10_000_000


def show_anchors(texts: Sequence[str], files: Sequence[Path], folder: Path, html: Path | None) -> None:
    """Shades the tokens of the texts in the terminal, and writes a page where one is asked for.

    Args:
        texts: To look at.
        files: With a text each.
        folder: Of the model.
        html: The page.

    Raises:
        InputError: There is no text, a file cannot be read, the page is no file, or the model has no anchor pooling.
    """
    given = [encodable(text) for text in [*texts, *(_read(path) for path in files)]]
    if html is not None and (not html.name or html.is_dir() or html.parent.is_file()):
        got = "a folder" if html.is_dir() or not html.name else f"a place in {html.parent}, which is a file"
        raise InputError("--html", got=got, wanted="a file to write", remedy="E.g. --html anchors.html.")
    if not given or not all(text.strip() for text in given):
        got, wanted = "no text" if not given else "an empty text", "a text, or --file"
        raise InputError("finegrade anchors", got=got, wanted=wanted, remedy='E.g. finegrade anchors "some words".')
    model = load_anchor_model(folder)
    found = token_shares(model, given)
    show(for_terminal(found))
    if html is not None:
        with replacing(html) as temporary:
            temporary.write_text(as_page(found, str(folder)), encoding="utf-8")
        say(f"{html}: written")


def _read(path: Path) -> str:
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise InputError(str(path), got="more than 10 MB", wanted="a text", remedy="Name a smaller file.")
        return decode(path.read_bytes())[0]
    except (OSError, ValueError) as error:
        got = getattr(error, "strerror", None) or error
        raise InputError(str(path), got=got, wanted="a file with a text", remedy="Name another.") from None
