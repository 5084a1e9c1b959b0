"""The examples in the docstrings of public names, and the Python in README.md that says it can be run."""

import doctest
import re
import subprocess
import sys
from pathlib import Path

import pytest

import finegrade

README = Path(__file__).parent.parent / "README.md"
RUNNABLE = re.compile(r"<!-- run -->\s*```python\n(.*?)```", re.DOTALL)
"""A block with this comment before it; the others need a model, a key or the reader's own files."""
OPTIONS = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE


FRONT_DOOR = {"evaluate", "mine_negatives", "train", "verify", "write_negatives", "write_queries"}


@pytest.mark.parametrize("name", sorted({*finegrade.__all__, *FRONT_DOOR}))
def test_examples_give_what_they_show(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = doctest.DocTestFinder().find(getattr(finegrade, name), name, globs={})
    shown = [one for one in found if one.examples]
    assert shown or name not in FRONT_DOOR, "has no example"
    for one in shown:
        output: list[str] = []
        result = doctest.DocTestRunner(optionflags=OPTIONS).run(one, out=output.append)
        assert result.failed == 0, "".join(output)


@pytest.mark.slow
@pytest.mark.parametrize("code", RUNNABLE.findall(README.read_text(encoding="utf-8")))
def test_readme_blocks_run(code: str, tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
