"""``finegrade anchors``: which tokens carry the vectors of some texts."""

from collections.abc import Sequence
from pathlib import Path

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from finegrade.console import say, show
from finegrade.data.readers.text_files import decode
from finegrade.errors import InputError, unreadable
from finegrade.models.anchors import TokenShare, load_anchor_model, token_shares
from finegrade.report.html import render_page
from finegrade.storage.atomic import replacing
from finegrade.text import encodable, without_control_characters

_LISTED = 10


def _for_terminal(tokens: Sequence[TokenShare]) -> RenderableType:
    """The text shaded, with its heaviest tokens listed below."""
    heaviest = max(token.share for token in tokens)
    shaded = Text()
    for token in tokens:
        if token.after_space and len(shaded):
            shaded.append(" ")
        level = int(255 - 175 * token.share / heaviest)
        style = f"{'italic ' if token.is_special else ''}black on rgb({level},{level},255)"
        shaded.append(without_control_characters(token.text), style)
    table = Table("token", "share", "times the mean", box=None)
    for token in sorted(tokens, key=lambda token: -token.share)[:_LISTED]:
        times = token.share * len(tokens)
        table.add_row(Text(without_control_characters(token.text)), f"{token.share:.1%}", f"{times:.1f}")
    return Group(shaded, Text(), table)


def as_page(texts: Sequence[Sequence[TokenShare]], model: str) -> str:
    """One self-contained HTML page; every text is escaped."""
    heaviest = [max(token.share for token in tokens) for tokens in texts]
    shaded = list(zip(texts, heaviest, strict=True))
    return render_page("anchors.html", {"texts": shaded, "model": model})


_MAX_BYTES = 10_000_000


def show_anchors(texts: Sequence[str], files: Sequence[Path], folder: Path, html: Path | None) -> None:
    """Shades the tokens of the texts, and of files with a text each, in the terminal; with ``html`` also on a page.

    Raises:
        InputError: There is no text, a file cannot be read, the page is no file, or the model has no anchor pooling.
    """
    shown = [encodable(text) for text in [*texts, *(_read(path) for path in files)]]
    if html is not None and (not html.name or html.is_dir() or html.parent.is_file()):
        got = "a folder" if html.is_dir() or not html.name else f"a path below {html.parent}, which is a file"
        raise InputError("--html", got=got, wanted="a file to write", remedy="E.g. --html anchors.html.")
    if not shown or not all(text.strip() for text in shown):
        got, wanted = "no text" if not shown else "an empty text", "a text, or --file"
        raise InputError("finegrade anchors", got=got, wanted=wanted, remedy='E.g. finegrade anchors "some words".')
    model = load_anchor_model(folder)
    found = token_shares(model, shown)
    show(Columns([Panel(_for_terminal(tokens)) for tokens in found], expand=True, equal=True))  # side by side
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
        raise unreadable(path, error, "a file with a text", "Name another.") from None
