"""The files that a saved model carries import nothing that another machine lacks."""

import ast
import sys
from pathlib import Path

import pytest

import finegrade.models.portable

FILES = {path.stem: path for path in Path(finegrade.models.portable.__file__).parent.glob("*.py")}
MAY_IMPORT = {"torch", "transformers", "sentence_transformers", "triton", "typing_extensions"}


@pytest.mark.parametrize("name", sorted(FILES))
def test_portable_files_import_only_siblings_and_third_parties(name):
    for node in ast.walk(ast.parse(FILES[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.level:
            assert node.level == 1
            assert node.module in FILES
        elif isinstance(node, ast.ImportFrom | ast.Import):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for top in (name.partition(".")[0] for name in names):
                assert top in MAY_IMPORT or top in sys.stdlib_module_names, top
