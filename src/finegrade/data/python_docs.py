"""The Python documentation that is already on the machine: docstrings, read with ``ast``, never imported.

The summary line of a docstring is a query that a person wrote, the prose below it is the text that answers it.
"""

import ast
import re
import sys
import sysconfig
import warnings
from collections.abc import Iterator, Sequence
from importlib.metadata import distributions
from itertools import takewhile
from pathlib import Path

from finegrade.console import progress
from finegrade.data.pairs import Pair
from finegrade.errors import InputError
from finegrade.text import content_hash, content_words, words

_SECTION = re.compile(
    r"^\s*(?:"
    r"(?:Parameters?|Args|Arguments|Attributes|Returns?|Yields?|Raises|Examples?|Notes?|References|See Also|Warnings?"
    r"|Usage|Keyword Args|Keyword Arguments|Other Parameters|Methods|Shape|Inputs?|Outputs?"
    r"|Explanation|Todo)\s*:{0,2}\s*$"
    r"|:\w+[^:\n]*:|>>>|\.\. |@\w+|={3,}|-{3,}|~{3,}|[*+-] |\d+[.)] |\|"
    r")",
    re.IGNORECASE,
)
_MARKUP = re.compile(r":\w+(?::\w+)*:`~?([^`<]*)(?:<[^>]*>)?`|``([^`]*)``")
_SENTENCE_END = re.compile(r"[.!?][`'\")]*(?:\s|$)")
_SKIPPED = {"tests", "test", "testing", "_vendor", "site-packages", "idlelib", "lib2to3", "turtledemo", "pydoc_data"}
_MAX_BYTES = 2_000_000
_MAX_CHARS = 1_200

MIN_CHARS, MIN_WORDS, MIN_QUERY_WORDS = 120, 20, 4


def read_python_docs(packages: Sequence[str] = ()) -> Iterator[Pair]:
    """Yields (summary line, prose) pairs of the standard library and of installed packages.

    Files that are too large, not UTF-8 or not Python are passed over. The group of a pair is its top-level package.

    Args:
        packages: Installed packages to read besides the standard library; empty reads all of them.

    Raises:
        InputError: A package is not installed.
    """
    files = list(_files(frozenset(packages)))
    missing = set(packages) - {group for group, _ in files}
    if missing:
        remedy = "Install it, or correct the name: the one it is imported by."
        wanted = "an installed package with Python files"
        raise InputError("source.packages", got=", ".join(sorted(missing)), wanted=wanted, remedy=remedy)
    with progress("reading Python docs", len(files)) as meter:
        for group, path in files:
            yield from _pairs_of(group, path)
            meter.advance()


def _files(packages: frozenset[str]) -> Iterator[tuple[str, Path]]:
    stdlib, *others = dict.fromkeys(Path(sysconfig.get_path(name)) for name in ("stdlib", "purelib", "platlib"))
    for root in filter(Path.is_dir, (stdlib, *others)):
        for entry in sorted(root.iterdir()):
            name = entry.name.removesuffix(".py")
            if name not in _SKIPPED and (root == stdlib or not packages or name in packages):
                for path in [entry] if entry.suffix == ".py" else sorted(entry.rglob("*.py")):
                    if not _SKIPPED.intersection(path.relative_to(root).parts[:-1]) and not path.is_symlink():
                        yield name, path


def _pairs_of(group: str, path: Path) -> Iterator[Pair]:
    try:
        if path.stat().st_size > _MAX_BYTES:
            return
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # other people's escape sequences
            tree = ast.parse(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError):
        return
    for node in _documented(tree):
        pair = pair_of_docstring(ast.get_docstring(node) or "")
        if pair:
            yield Pair(query=pair[0], positive=pair[1], group=group)


def _documented(module: ast.Module) -> Iterator[ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef]:
    """The module with its classes, methods and functions, without walking into code, which is what costs."""
    waiting: list[ast.AST] = [module]
    while waiting:
        node = waiting.pop()
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            yield node
        if isinstance(node, ast.Module | ast.ClassDef | ast.If | ast.Try):
            waiting.extend(reversed(node.body))


def pair_of_docstring(docstring: str) -> tuple[str, str] | None:
    """Query (summary) and positive (prose up to the first section header); None where the prose is too short."""
    summary, _, body = docstring.strip().partition("\n\n")
    query = _flat(summary)
    if any(_SECTION.match(line) for line in summary.splitlines()) or len(words(query)) < MIN_QUERY_WORDS:
        return None
    lines = takewhile(lambda line: not _SECTION.match(line), body.splitlines())
    prose = _flat("\n".join(lines))[:_MAX_CHARS]
    prose = prose[: max((end.end() for end in _SENTENCE_END.finditer(prose)), default=0)].strip()
    if not f"{query}{prose}".isprintable():  # control characters, lone surrogates: nobody types or reads them
        return None
    long_enough = len(prose) >= MIN_CHARS and len(words(prose)) >= MIN_WORDS
    if len(query) > 200 or not long_enough or not content_words(query):
        return None
    return query, prose


def _flat(text: str) -> str:
    return " ".join(_MARKUP.sub(lambda m: f"`{(m[1] or m[2] or '').strip()}`", text).split())


def installed_versions() -> str:
    """Versions of the interpreter and of every installed package: what the docs on this machine depend on."""
    packages = sorted(f"{found.metadata['Name']} {found.version}" for found in distributions())
    return content_hash(sys.version, *packages)
