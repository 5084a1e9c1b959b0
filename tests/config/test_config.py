"""finegrade.toml: what it accepts, and the one line for everything it does not."""

from pathlib import Path

import pytest

from finegrade.config import Config
from finegrade.config.toml import load_config, parse_config
from finegrade.errors import InputError
from finegrade.stages.pipeline import demo_config

DOCS = '[source]\nkind = "python-docs"\n'


@pytest.fixture
def load(tmp_path):
    """Loads a configuration from its text or bytes."""

    def load(content: str | bytes, *overrides: str) -> Config:
        path = tmp_path / "finegrade.toml"
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return load_config(path, overrides)

    return load


def refused(load, content, *overrides) -> str:
    with pytest.raises(InputError) as error:
        load(content, *overrides)
    line = str(error.value)
    assert "\n" not in line
    assert ": got " in line
    assert "; wanted " in line
    assert error.value.remedy
    return line


def test_the_shortest_file_gives_the_documented_defaults(load):
    config = load('[source]\npath = "pairs.jsonl"')
    assert config.source.kind == "pairs"
    assert config.llm.base_url is None
    assert config.training.schedule == "coarse-to-fine"
    assert config.training.pooling == "anchor"


def test_byte_order_mark_is_taken(load):
    assert load(b"\xef\xbb\xbf" + DOCS.encode()).source.kind == "python-docs"


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.toml: got No such file.*wanted a finegrade\.toml.*--config"):
        load_config(tmp_path / "nothing.toml")


def test_folder_in_place_of_a_file(tmp_path):
    with pytest.raises(InputError, match=r"wanted a finegrade\.toml"):
        load_config(tmp_path)


@pytest.mark.parametrize("content", ["", " \n\t\n"])
def test_empty_file(load, content):
    assert "got an empty file" in refused(load, content)


def test_not_utf8(load):
    assert "got byte 0xfc at offset 2; wanted UTF-8" in refused(load, b"# \xfcber\n")


def test_utf16(load):
    assert "wanted UTF-8" in refused(load, DOCS.encode("utf-16"))


def test_broken_toml_names_the_line(load):
    line = refused(load, DOCS + "[training]\nsteps = = 3\n")
    assert "line 4" in line
    assert "valid TOML" in line


@pytest.mark.parametrize(
    ("content", "got", "near"),
    [
        (DOCS + "[training]\nstep = 3", "training.step", "steps"),
        (DOCS + "[training]\nlearning-rate = 3", "training.learning-rate", "learning_rate"),
        (DOCS + "[synthesis]\nllm_sample = 3", "synthesis.llm_sample", "llm_samples"),
        (DOCS + "test_group = ['a']", "source.test_group", "test_groups"),
        (DOCS + "[trainig]\nsteps = 3", "trainig", "training"),
        ("sead = 3\n" + DOCS, "sead", "seed"),
    ],
)
def test_unknown_key_is_named_with_the_nearest_one(load, content, got, near):
    line = refused(load, content)
    assert f"unknown key: got {got};" in line
    assert line.endswith(f"Did you mean {near}?")


def test_misspelt_source_section_is_named_too(load):
    assert "Did you mean source?" in refused(load, '[soruce]\nkind = "python-docs"\n')


def test_unknown_key_that_is_near_to_nothing_lists_the_known_ones(load):
    line = refused(load, DOCS + "[llm]\nzzz = 1")
    assert "base_url" in line
    assert line.endswith("Remove it.")


def test_source_is_asked_for(load):
    assert "source: got nothing" in refused(load, "seed = 1")


def test_pairs_without_a_path_say_what_path_is(load):
    assert '"query" and "positive"' in refused(load, '[source]\nkind = "pairs"')


@pytest.mark.parametrize(
    ("section", "key", "value"),
    [
        ("training", "steps", "0"), ("training", "steps", '"many"'), ("training", "steps", "1.5"),
        ("training", "steps", "[1]"), ("training", "pooling", '"max"'), ("training", "schedule", '"fixed:0"'),
        ("training", "schedule", '"up"'), ("training", "learning_rate", "-1e-4"), ("training", "warmup_share", "1"),
        ("training", "bf16", '"maybe"'), ("training", "batch_size", "1"), ("llm", "concurrency", "0"),
        ("llm", "timeout", "0"), ("llm", "timeout", "nan"), ("synthesis", "llm_samples", "-1"),
        ("synthesis", "temperature", "2.1"), ("verification", "margin", "-0.5"), ("evaluation", "confidence", "95"),
    ],
)  # fmt: skip
def test_wrong_value_is_named_with_what_is_wanted(load, section, key, value):
    line = refused(load, f"{DOCS}[{section}]\n{key} = {value}")
    assert f"{section}.{key}: got " in line
    assert f"Correct {section}.{key}." in line


@pytest.mark.parametrize("value", ["0.0", "1", "-1"])
def test_test_share_lies_between_none_and_all(load, value):
    assert "source.test_share" in refused(load, f"{DOCS}test_share = {value}")


def test_unknown_kind_lists_the_kinds(load):
    line = refused(load, '[source]\nkind = "csv"')
    assert "'pairs'" in line
    assert "'python-docs'" in line


def test_value_in_place_of_a_section(load):
    assert "training: got 3" in refused(load, "training = 3\n" + DOCS)


def test_long_values_are_cut_in_the_error_line(load):
    assert len(refused(load, f'{DOCS}[training]\npooling = "{"x" * 5000}"')) < 600


KEY = "sk-proj-Secret123"


@pytest.mark.parametrize(
    ("content", "overrides"),
    [
        (f'{DOCS}[llm]\napi_key_env = "{KEY}"', ()),
        (f'{DOCS}[llm]\napi_key_env = ["{KEY}"]', ()),
        (f'{DOCS}[llm]\napi_key = "{KEY}"', ()),
        (f"{DOCS}[llm]\napi_key_env = {KEY}", ()),
        (DOCS, (f"llm.api_key_env={KEY}",)),
        (DOCS, (f"llm.api_key={KEY}",)),
        (DOCS, (f"llm.api_key_env {KEY}",)),
    ],
)
def test_api_key_typed_in_by_mistake_is_never_echoed(load, content, overrides):
    line = refused(load, content, *overrides)
    assert KEY not in line
    assert "Secret123" not in line


def test_relative_source_path_is_taken_from_the_file_s_folder(tmp_path, monkeypatch):
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "my.toml").write_text('[source]\npath = "data/pairs.jsonl"')
    monkeypatch.chdir(tmp_path)
    assert load_config(Path("conf/my.toml")).source.path == Path("conf/data/pairs.jsonl")


def test_relative_names_of_benchmarks_and_scorers_are_taken_from_the_file_s_folder_where_they_lead_somewhere(tmp_path):
    (tmp_path / "set").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "finegrade.toml").write_text(
        '[source]\nkind = "python-docs"\n[verification]\nbenchmarks = ["set", "mteb:NFCorpus"]\n'
        'committee = ["models/../models", "set", "owner/name"]\n'
    )
    rules = load_config(tmp_path / "finegrade.toml").verification
    assert rules.benchmarks == (str(tmp_path / "set"), "mteb:NFCorpus")
    assert rules.committee == (str(tmp_path / "models/../models"), "set", "owner/name")


def test_a_model_s_relative_path_is_taken_from_the_file_s_folder_where_it_leads_somewhere(tmp_path):
    (tmp_path / "conf" / "models" / "mine").mkdir(parents=True)
    path = tmp_path / "conf" / "finegrade.toml"
    path.write_text(f'{DOCS}[training]\nbackbone = "models/mine"\n[verification]\nscorer = "owner/name"\n')
    config = load_config(path)
    assert config.training.backbone == str(tmp_path / "conf" / "models" / "mine")
    assert config.verification.scorer == "owner/name"


def test_the_demo_s_configuration_is_valid():
    config = demo_config(["training.steps=5"])
    assert (config.source.kind, config.training.steps) == ("python-docs", 5)
    assert config.synthesis.llm_samples >= 25


def test_absolute_source_path_stays(load):
    assert load('[source]\npath = "/data/pairs.jsonl"').source.path == Path("/data/pairs.jsonl")


def test_source_path_may_begin_at_home(load, monkeypatch):
    monkeypatch.setenv("HOME", "/home/of/somebody")
    assert load('[source]\npath = "~/pairs.jsonl"').source.path == Path("/home/of/somebody/pairs.jsonl")


@pytest.mark.parametrize("url", ["http://[bad/v1", "127.0.0.1:8000", "ftp://host/v1", "http://host:99999/v1", ""])
def test_base_url_that_is_none(load, url):
    line = refused(load, f'[source]\npath = "x"\n[llm]\nbase_url = "{url}"')
    assert "llm.base_url" in line


@pytest.mark.parametrize(
    ("override", "value"),
    [
        ("training.steps=7", lambda c: c.training.steps == 7),
        (" training.steps = 7", lambda c: c.training.steps == 7),
        ("training.pooling=mean", lambda c: c.training.pooling == "mean"),
        ('training.pooling="mean"', lambda c: c.training.pooling == "mean"),
        ("training.controls=false", lambda c: c.training.controls is False),
        ('source.packages=["numpy", "scipy"]', lambda c: c.source.packages == ("numpy", "scipy")),
        ("llm.base_url=http://localhost/v=1", lambda c: c.llm.base_url == "http://localhost/v=1"),
        ("seed=3", lambda c: c.seed == 3),
    ],
)
def test_set_wins_over_the_file(load, override, value):
    assert value(load('seed = 1\n[training]\nsteps = 5\npooling = "anchor"\n' + DOCS, override))


def test_the_last_set_wins(load):
    assert load(DOCS, "seed=1", "seed=2").seed == 2


@pytest.mark.parametrize("override", ["training.steps", "=3", "training.=3", ".steps=3", "", "seed.x=3"])
def test_set_of_the_wrong_form(load, override):
    assert refused(load, "seed = 1\n" + DOCS, override).startswith("--set: got ")


def test_set_of_an_unknown_key(load):
    assert "Did you mean steps?" in refused(load, DOCS, "training.step=3")


def test_set_of_a_wrong_value(load):
    assert "training.steps: got 'abc'" in refused(load, DOCS, "training.steps=abc")


def test_config_cannot_be_changed_after_it_was_checked(load):
    with pytest.raises(ValueError, match="frozen"):
        load(DOCS).training.steps = 3


def test_mapping_is_checked_like_a_file():
    assert parse_config({"source": {"kind": "python-docs"}}, "here").seed == 0
    with pytest.raises(InputError, match=r"here: seed: got -1"):
        parse_config({"seed": -1, "source": {"kind": "python-docs"}}, "here")


@pytest.mark.parametrize(
    "override",
    ["seed=4294967296", "training.learning_rate=inf", "training.scale=nan", "llm.timeout=inf", "training.backbone="],
)
def test_values_that_no_library_takes_are_refused(load, override):
    assert override.partition("=")[0] in refused(load, DOCS, override)


@pytest.mark.parametrize("key", ["training.steps", "training.learning_rate", "llm.max_cost", "llm.thinking_tokens"])
def test_true_is_no_number(load, key):
    assert f"{key}: got True; wanted a number" in refused(load, DOCS, f"{key}=true")


@pytest.mark.parametrize(
    ("value", "message"),
    [("{ model = 'x', n = 2 }", "model, n: finegrade says that itself"), ("{ a = 07:32:00 }", "JSON")],
)
def test_parameters_that_are_finegrade_s_own_or_no_json(load, value, message):
    assert message in refused(load, f"{DOCS}[llm]\nparameters = {value}")


def test_a_second_line_in_a_setting_is_refused(load):
    assert "section.key=value" in refused(load, DOCS, "training.steps=5\n[llm]")


def test_a_bare_value_where_a_list_or_section_is_wanted_says_so(load):
    assert 'wanted a list like ["a", "b"]' in refused(load, f'{DOCS}test_groups = "keys"')
    assert "wanted a section with keys" in refused(load, f"training = 5\n{DOCS}")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ({"kind": "documents"}, "needs path"),
        ({"kind": "beir"}, "queries.jsonl"),
        ({"kind": "pairs", "path": "x", "dataset": "a/b"}, 'dataset is for kind "documents"'),
        ({"kind": "documents", "path": "x", "dataset": "a/b"}, "name one of them"),
        ({"kind": "pairs", "path": "x", "queries": "y"}, 'queries is for kind "documents"'),
    ],
)
def test_sources_that_do_not_go_together_are_reported(source, message):
    with pytest.raises(InputError, match=message):
        parse_config({"source": source}, "test")
