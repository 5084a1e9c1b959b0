"""Importing finegrade is quick, and the data half needs no torch."""

import json
import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "sentence_transformers", "datasets", "onnxruntime", "matplotlib")
DATA_HALF = (
    "config", "records", "store", "sources.pairs", "sources.python_docs", "sources.splitting", "seeding", "llm.client",
    "llm.ledger", "llm.embedded", "prompts", "sample_gates", "mining", "synthesis", "verification", "catalogue",
    "fetching", "text", "rows",
)  # fmt: skip


def _loaded_by(code: str) -> tuple[set[str], float]:
    """The top-level modules that a fresh interpreter has after the code, and the seconds the code took."""
    program = (
        f"import time; began = time.perf_counter()\n{code}\nspent = time.perf_counter() - began\n"
        "import json, sys; print('@', json.dumps([sorted({name.partition('.')[0] for name in sys.modules}), spent]))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    loaded, spent = json.loads(done.stdout.rpartition("@ ")[2])
    return set(loaded), spent


def test_import_finegrade_loads_nothing_heavy_and_takes_less_than_0_3_seconds():
    runs = [_loaded_by("import finegrade") for _ in range(3)]
    assert not runs[0][0] & {*HEAVY, "numpy", "scipy", "pyarrow", "pydantic", "openai", "rich", "typer"}
    assert min(spent for _, spent in runs) < 0.3


def test_data_half_imports_no_torch():
    loaded, _ = _loaded_by("\n".join(f"import finegrade.{name}" for name in DATA_HALF))
    assert "finegrade" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["synthesize", "--help"], ["models", "list"]])
def test_cheap_commands_import_no_torch(arguments, tmp_path):
    code = (
        f"import os, sys; os.environ['FINEGRADE_CACHE'] = {str(tmp_path)!r}; sys.argv = ['finegrade', *{arguments!r}]\n"
        "from finegrade.cli import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code"
    )
    loaded, _ = _loaded_by(code)
    assert "typer" in loaded
    assert not loaded & set(HEAVY)
