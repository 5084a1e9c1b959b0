"""Tokens shaded by what they add to a text's vector: for the terminal and as a page."""

from collections.abc import Sequence

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from finegrade.models.anchors import TokenShare
from finegrade.report.html import render_page
from finegrade.text import without_control_signs

_LISTED = 10


def for_terminal(texts: Sequence[Sequence[TokenShare]]) -> RenderableType:
    """Each text shaded, with its heaviest tokens listed below; several texts side by side."""
    return Columns([Panel(_one(tokens)) for tokens in texts], expand=True, equal=True)


def _one(tokens: Sequence[TokenShare]) -> RenderableType:
    heaviest = max(token.share for token in tokens)
    shaded = Text()
    for token in tokens:
        if token.after_space and len(shaded):
            shaded.append(" ")
        level = int(255 - 175 * token.share / heaviest)
        style = f"{'italic ' if token.is_special else ''}black on rgb({level},{level},255)"
        shaded.append(without_control_signs(token.text), style)
    table = Table("token", "share", "times the mean", box=None)
    for token in sorted(tokens, key=lambda token: -token.share)[:_LISTED]:
        times = token.share * len(tokens)
        table.add_row(Text(without_control_signs(token.text)), f"{token.share:.1%}", f"{times:.1f}")
    return Group(shaded, Text(), table)


def as_page(texts: Sequence[Sequence[TokenShare]], model: str) -> str:
    """One self-contained HTML page; every text is escaped."""
    heaviest = [max(token.share for token in tokens) for tokens in texts]
    shaded = list(zip(texts, heaviest, strict=True))
    return render_page("anchors.html", {"texts": shaded, "model": model})
