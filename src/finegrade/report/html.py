"""HTML pages from templates. Text of models and files is escaped, and its control characters are removed."""

from importlib import resources
from typing import Any

from jinja2 import Environment, FunctionLoader
from markupsafe import Markup

from finegrade.text import without_control_characters

_TEXT_SHOWN = 900
"""Characters; the filter "cut" ends longer texts there."""


def render_page(template: str, facts: dict[str, Any]) -> str:
    """Fills a template of ``templates/``. Markup, which is ours alone, goes in as it is."""
    environment = Environment(
        loader=FunctionLoader(_read),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_without_control_characters,
    )
    environment.filters["cut"] = lambda text: text if len(text) <= _TEXT_SHOWN else text[:_TEXT_SHOWN] + "…"
    return environment.get_template(template).render(facts)


def _read(template: str) -> str:
    return resources.files("finegrade.report").joinpath("templates", template).read_text(encoding="utf-8")


def _without_control_characters(value: Any) -> Any:
    if isinstance(value, str) and not isinstance(value, Markup):
        return without_control_characters(value)
    return value
