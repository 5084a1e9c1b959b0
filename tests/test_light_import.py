"""Importing finegrade is quick, and the data half needs no torch."""

import json
import os
import subprocess
import sys

import pytest

HEAVY = ("torch", "transformers", "sentence_transformers", "datasets", "onnxruntime", "matplotlib")
DATA_HALF = (
    "config", "records", "rows", "text", "storage.run_folder", "data.pairs", "data.python_docs", "data.splitting",
    "llm.client", "llm.ledger", "llm.embedded", "models.catalogue", "models.resolve", "retrieval.mining",
    "synthesis.writer", "synthesis.filters", "synthesis.prompts.sample", "verification.verifier", "training.variants",
    "stages.seeds", "stages.synthesize", "stages.verify",
)  # fmt: skip


def _loaded_by(code: str) -> set[str]:
    """The top-level modules that a fresh interpreter has after the code, beside those that it begins with."""
    program = (
        f"import sys; before = set(sys.modules)\n{code}\n"
        "import json; print('@', json.dumps(sorted({name.partition('.')[0] for name in set(sys.modules) - before})))"
    )
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment)
    return set(json.loads(done.stdout.rpartition("@ ")[2]))


def test_import_finegrade_loads_nothing_but_the_standard_library():
    """So it is quick on every machine."""
    assert _loaded_by("import finegrade") - set(sys.stdlib_module_names) == {"finegrade"}


@pytest.mark.slow
def test_data_half_imports_no_torch():
    loaded = _loaded_by("\n".join(f"import finegrade.{name}" for name in DATA_HALF))
    assert "finegrade" in loaded
    assert not loaded & set(HEAVY)


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["synthesize", "--help"], ["models", "list"]])
def test_cheap_commands_import_no_torch(arguments, tmp_path):
    code = (
        f"import os, sys; os.environ['FINEGRADE_CACHE'] = {str(tmp_path)!r}; sys.argv = ['finegrade', *{arguments!r}]\n"
        "from finegrade.cli.main import main\n"
        "try: main()\nexcept SystemExit as end: assert not end.code, end.code"
    )
    loaded = _loaded_by(code)
    assert "typer" in loaded
    assert not loaded & set(HEAVY)


WITHOUT_TORCH = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("torch", "transformers", "sentence_transformers", "datasets", "peft"):
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
sys.argv = ["finegrade", "verify", "--input", "pairs.jsonl", "--run", "run"]
from finegrade.__main__ import main
main()
"""
ANSWERS = {
    "how tall is the eiffel tower": "The Eiffel Tower in Paris is 330 metres tall.",
    "why is the sky blue": "Air scatters blue light more than red light, so the sky looks blue.",
    "how do I boil an egg": "Put the egg into boiling water for seven minutes.",
    "when was the telephone invented": "Alexander Graham Bell patented the telephone in 1876.",
    "what do bees make": "Bees make honey from the nectar of flowers.",
    "how do I reset my password": "Click on Forgot password and open the link in the mail.",
    "what is the capital of japan": "Tokyo is the capital of Japan.",
    "who wrote hamlet": "Hamlet is a tragedy that William Shakespeare wrote.",
}


@pytest.mark.slow
def test_others_data_is_verified_by_the_default_scorers_where_there_is_no_torch(tmp_path):
    texts = list(ANSWERS.values())
    rows = [
        {"query": query, "pos": [answer], "neg": [texts[number - 1], texts[number - 2], answer.upper()]}
        for number, (query, answer) in enumerate(ANSWERS.items())
    ]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    done = subprocess.run([sys.executable, "-c", WITHOUT_TORCH], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    left = [json.loads(line) for line in (tmp_path / "pairs.verified.jsonl").read_text().splitlines()]
    assert [sorted(row["neg"]) for row in left] == [sorted(row["neg"][:2]) for row in rows]
