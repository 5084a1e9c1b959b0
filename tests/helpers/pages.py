"""Reads HTML pages, and texts that would break them."""

from html.parser import HTMLParser

SCRIPT, IMAGE = "<script>alert(1)</script>", '"><img src=x onerror=alert(2)>'
HOSTILE = f"{SCRIPT} {IMAGE} {{{{ 7 * 7 }}}} </td></pre></svg><svg/onload=alert(3)> ]]> 'x"


def hostile(name: str) -> str:
    """A hostile text that can be told from the others."""
    return f"zz{name} {HOSTILE}"


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += f"\n{data}"
