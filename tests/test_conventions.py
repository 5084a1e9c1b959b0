"""What holds for every file: public names are documented, and no test file imports another."""

import ast
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parent
SOURCE = TESTS.parent / "src" / "finegrade"
DEFINITION = ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef


def public_definitions(node: ast.AST, within: str) -> Iterator[tuple[str, ast.AST]]:
    """The module, its functions and classes, and their methods; not what is inside a function or has an underscore."""
    yield within, node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, DEFINITION) and not child.name.startswith("_") and not is_overload(child):
            below = public_definitions(child, f"{within}.{child.name}")
            yield from below if isinstance(child, ast.ClassDef) else [next(below)]


def is_overload(definition: ast.AST) -> bool:
    return any(ast.unparse(one) in ("overload", "typing.overload") for one in definition.decorator_list)


def test_public_names_are_documented() -> None:
    found = []
    for path in SOURCE.rglob("*.py"):
        module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found += [name for name, node in public_definitions(tree, module) if not ast.get_docstring(node)]
    assert found == []


def test_no_test_file_imports_another() -> None:
    """What several of them share is in tests/helpers, or a fixture in a conftest.py."""
    found = []
    for path in (path for path in TESTS.rglob("*.py") if "fixtures" not in path.parts):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                names = [f"{node.module or ''}.{alias.name}" for alias in node.names]
            else:
                names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            parts = {part for name in names for part in name.split(".")}
            found += [f"{path.name}: {part}" for part in parts if part.startswith("test_") or part == "conftest"]
    assert found == []
