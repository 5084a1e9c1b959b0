"""The command line on bad input: one line, exit code 2, no traceback, nothing lost."""

import errno
import json
import sys

import pytest

from finegrade.cli import main
from finegrade.errors import CheckFailedError
from finegrade.storage.run_folder import RunFolder

DOCS = '[source]\nkind = "python-docs"\n'


@pytest.fixture
def finegrade(tmp_path, monkeypatch, capsys):
    """Runs a command in an empty folder; gives its exit code and the lines on stderr."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINEGRADE_CACHE", str(tmp_path / "cache"))

    def run(*arguments: str) -> tuple[int, list[str]]:
        monkeypatch.setattr(sys, "argv", ["finegrade", *arguments])
        try:
            main.main()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        return code, capsys.readouterr().err.strip().splitlines()

    return run


def assert_error(result: tuple[int, list[str]], *parts: str) -> None:
    code, lines = result
    assert code == 2, lines
    assert len(lines) == 1, lines
    assert lines[0].startswith("finegrade: ")
    for part in (*parts, ": got ", "; wanted "):
        assert part in lines[0]


@pytest.mark.parametrize("command", ["run", "seeds", "synthesize", "verify", "train", "evaluate", "report"])
def test_every_command_tells_of_a_missing_configuration(finegrade, command):
    assert_error(finegrade(command), "finegrade.toml", "No such file")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "an empty file"),
        (b"\xff\xfe", "UTF-8"),
        (b"[source", "valid TOML"),
        (b"[sourc]\nkind = 'python-docs'", "Did you mean source?"),
        (b"[source]\nkind = 'python-docs'\n[training]\nstep = 1", "Did you mean steps?"),
        (b"[source]\nkind = 'python-docs'\n[training]\nsteps = 0", "training.steps"),
    ],
)
@pytest.mark.slow
def test_bad_configuration(finegrade, tmp_path, content, message):
    (tmp_path / "finegrade.toml").write_bytes(content)
    assert_error(finegrade("seeds"), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "an empty file"),
        (b'{"positive": "x"}\n', 'line 1: "query"'),
        (b'{"query": "x\xe9", "positive": "x"}\n', "UTF-8"),
        (b'{"query": "x", "positive": "y"}\n', "at least two groups"),
    ],
)
def test_bad_pairs(finegrade, tmp_path, content, message):
    if content is not None:
        (tmp_path / "pairs.jsonl").write_bytes(content)
    (tmp_path / "finegrade.toml").write_text('[source]\npath = "pairs.jsonl"\n')
    assert_error(finegrade("seeds"), message)


@pytest.mark.parametrize("command", ["synthesize", "verify", "train", "evaluate", "report"])
def test_stage_too_early_names_the_one_to_run_first(finegrade, tmp_path, command):
    (tmp_path / "finegrade.toml").write_text(DOCS)
    assert_error(finegrade(command), "seeds: got none", "Run `finegrade seeds` first, or `finegrade run`.")


@pytest.mark.slow
def test_a_stage_alone_does_not_work_on_what_was_made_with_other_settings(finegrade, tmp_path, pairs_file):
    (tmp_path / "finegrade.toml").write_text('[source]\npath = "pairs.jsonl"\n[synthesis]\nllm_samples = 0\n')
    assert finegrade("seeds")[0] == 0
    code, lines = finegrade("synthesize", "--set", "source.max_train=20")
    assert code == 2
    assert "seeds: got a result that is not valid: its settings or inputs have changed" in lines[-1]
    assert finegrade("synthesize")[0] == 0


@pytest.mark.slow
def test_too_few_pairs_for_a_batch_show_before_anything_is_asked(finegrade, tmp_path, pairs_file, monkeypatch):
    monkeypatch.setattr("finegrade.stages.pipeline.fetch_models", lambda config: None)
    (tmp_path / "finegrade.toml").write_text('[source]\npath = "pairs.jsonl"\n[training]\nbatch_size = 500\n')
    code, lines = finegrade("run")
    assert code == 2
    assert "training.batch_size: got 500; wanted at most the" in lines[-1]
    assert not (tmp_path / "runs/run/ledger.sqlite").exists()


def test_sts_data_of_another_form(finegrade, tmp_path, pairs_file, monkeypatch):
    monkeypatch.setattr("finegrade.models.resolve.model_path", lambda name: tmp_path)
    monkeypatch.setattr("finegrade.models.scorers.load_scorer", lambda *given: None)
    (tmp_path / "config.json").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "finegrade.toml").write_text(
        '[source]\npath = "pairs.jsonl"\n[evaluation]\nsts_data = "./empty"\n[synthesis]\nllm_samples = 0\n'
    )
    assert_error(finegrade("run"), "sts-test.csv", "evaluation.sts = false")


def test_unknown_models_and_entries(finegrade):
    assert_error(finegrade("models", "fetch", "gpt-9"), "gpt-9", "qwen2.5-coder-1.5b")
    assert_error(finegrade("models", "path", "gpt-9"), "gpt-9", "Hugging Face id")


def test_run_folder_that_is_a_file(finegrade, tmp_path):
    (tmp_path / "finegrade.toml").write_text(DOCS)
    (tmp_path / "taken").touch()
    assert_error(finegrade("seeds", "--run", "taken"), "--run", "a folder")


def test_run_folder_below_a_file(finegrade, tmp_path, pairs_file):
    (tmp_path / "finegrade.toml").write_text('[source]\npath = "pairs.jsonl"\n')
    (tmp_path / "taken").touch()
    assert_error(finegrade("seeds", "--run", "taken/below"), "taken")


def test_cache_folder_that_is_a_file(finegrade, tmp_path, monkeypatch):
    (tmp_path / "taken").touch()
    monkeypatch.setenv("FINEGRADE_CACHE", str(tmp_path / "taken"))
    assert_error(finegrade("models", "fetch", "sts-b"), "FINEGRADE_CACHE")


@pytest.mark.parametrize(("number", "message"), [(errno.ENOSPC, "Free some space"), (errno.EROFS, "--run")])
def test_disk_that_cannot_take_more(finegrade, tmp_path, pairs_file, monkeypatch, number, message):
    (tmp_path / "finegrade.toml").write_text('[source]\npath = "pairs.jsonl"\n')

    def full(*arguments):
        raise OSError(number, "no", "runs/run/seeds")

    monkeypatch.setattr("finegrade.stages.seeds.write_rows", full)
    assert_error(finegrade("seeds"), message)


@pytest.mark.slow
def test_unreachable_llm_keeps_the_seeds(finegrade, tmp_path, pairs_file, no_retries):
    toml = '[source]\npath = "pairs.jsonl"\n[llm]\nbase_url = "http://127.0.0.1:1/v1"\n[synthesis]\nllm_samples = 2\n'
    (tmp_path / "finegrade.toml").write_text(toml)
    assert finegrade("seeds")[0] == 0
    code, lines = finegrade("synthesize")
    assert code == 2
    assert "the LLM at 127.0.0.1: got no connection" in lines[-1]
    assert "Traceback" not in "\n".join(lines)
    assert RunFolder(tmp_path / "runs" / "run").record("seeds")["stage"] == "seeds"
    assert json.loads((tmp_path / "runs" / "run" / "stages" / "seeds.json").read_text())["details"]


def test_ctrl_c_says_that_what_is_done_is_kept(finegrade, tmp_path, monkeypatch):
    (tmp_path / "finegrade.toml").write_text(DOCS)

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("finegrade.stages.pipeline.call_stage", interrupt)
    code, lines = finegrade("seeds")
    assert code == 130
    assert lines == ["finegrade: stopped; what is done is kept, the same command continues"]


def test_a_backbone_of_another_kind_is_an_error_before_anything_is_asked(finegrade, tmp_path, pairs_file, monkeypatch):
    monkeypatch.setattr("finegrade.models.resolve.model_path", lambda name: tmp_path)
    monkeypatch.setattr("finegrade.models.scorers.load_scorer", lambda *given: None)
    (tmp_path / "finegrade.toml").write_text('[source]\npath = "pairs.jsonl"\n[synthesis]\nllm_samples = 0\n')
    assert_error(finegrade("run"), "training.backbone", "config.json")
    assert not (tmp_path / "runs/run/seeds").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "got none; wanted --onnx, --data or --pooling mean"),
        (["--onnx", "--pooling", "mean"], "got several"),
        (["--pooling", "lasttoken"], "got --pooling lasttoken"),
        (["--onnx", "--steps", "3"], "got --texts or --steps"),
        (["--onnx", "--model", "gone"], "gone: got no model"),
        (["--pooling", "mean", "--model", "gone"], "gone: got no model"),
    ],
)
def test_exports_that_cannot_be(finegrade, arguments, message):
    assert_error(finegrade("export", *arguments), message)


def test_a_result_that_does_not_hold_is_one_line_and_exit_code_1(finegrade, monkeypatch):
    def fail(*given):
        raise CheckFailedError("the graph is another model")

    monkeypatch.setattr("finegrade.export.onnx.export_onnx", fail)
    assert finegrade("export", "--onnx") == (1, ["finegrade: the graph is another model"])
