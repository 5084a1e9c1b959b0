"""How the LLM is asked where nothing is said, and settings of writing that do not go together."""

import pytest

from finegrade.config.toml import parse_config
from finegrade.errors import InputError

SERVER = "http://127.0.0.1:1/v1"


def config(source="pairs", model="m", base_url=SERVER, **synthesis):
    sources = {"kind": source} if source in ("tasks", "python-docs") else {"kind": source, "path": "x"}
    llm = {"model": model} | ({"base_url": base_url} if base_url else {})
    return parse_config({"source": sources, "llm": llm, "synthesis": synthesis}, "test")


@pytest.mark.parametrize(
    ("model", "mode"),
    [
        ("some-model", "one-call"), ("Qwen2.5-72B-Instruct", "one-call"), ("llama-3.1-8b", "one-call"),
        ("model-7B", "one-call"), ("mixtral-8x7b", "one-call"), ("gpt-4b1", "one-call"), ("v0.5beta", "one-call"),
        ("x-1.5b", "small"), ("SmolLM2-135M_0.1B", "small"), ("qwen2.5:3b", "small"), ("org/gemma-2-2b-it", "small"),
        ("6.9b", "small"), ("gemma-3-270m-it", "small"), ("SmolLM2-360M", "small"), ("x-70000m", "one-call"),
    ],
)  # fmt: skip
def test_a_server_s_llm_writes_all_at_once_unless_its_name_says_that_it_is_small(model, mode):
    assert config(model=model).writing_mode == ("sibling" if mode == "small" else mode)
    assert config("tasks", model=model).writing_mode == ("stepwise" if mode == "small" else mode)
    assert config(model=model, mode="stepwise").writing_mode == "stepwise"


@pytest.mark.parametrize(
    ("source", "mode"),
    [("pairs", "sibling"), ("documents", "sibling"), ("python-docs", "sibling"), ("tasks", "stepwise")],
)
def test_the_embedded_llm_writes_one_thing_at_a_time(source, mode):
    assert config(source, model="qwen2.5-coder-1.5b", base_url=None).writing_mode == mode
    assert config(source, model="any-72b.gguf", base_url=None).writing_mode == mode


ALL_LLM = {str(level): {"llm": 1} for level in range(1, 5)}


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"source": "tasks", "mode": "sibling"}, "rewrites answers that there are"),
        ({"mode": "sibling", "sources": ALL_LLM}, "writes the hardest level only"),
        (
            {"base_url": None, "model": "x", "sources": {"1": {"llm": 0.1, "random": 1}}},
            "writes the hardest level only",
        ),
        ({"source": "tasks", "style_guard": True}, "of tasks the LLM writes all texts"),
        ({"levels": 1}, "levels"),
        ({"levels": 9}, "levels"),
        ({"mode": "all"}, "mode"),
        ({"sources": {"4": {"web": 1}}}, "sources"),
        ({"sources": {"4": {}}}, "weight above 0"),
        *(
            ({"levels": 3, "sources": {level: {"mined": 1}}}, "no level from 1 to 3")
            for level in ("0", "4", "03", "x", "٣")
        ),
    ],
    ids=str,
)
def test_settings_that_do_not_go_together_are_reported_in_one_line(settings, message):
    with pytest.raises(InputError, match=message) as error:
        config(**settings)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "settings",
    [
        {"mode": "sibling", "sources": {"4": {"llm": 1, "mined": 1}, "1": {"llm": 0, "mined": 1}}},
        {"mode": "one-call", "sources": ALL_LLM},
        {"source": "tasks", "mode": "stepwise", "levels": 8},
        {"mode": "stepwise", "style_guard": True},
    ],
    ids=str,
)
def test_settings_that_go_together_pass(settings):
    assert config(**settings)


def test_kinds_of_tasks_that_do_not_exist_are_reported():
    with pytest.raises(InputError, match="short-medium; there are short-long"):
        parse_config({"source": {"kind": "tasks"}, "tasks": {"kinds": {"short-medium": 1, "sts": 1}}}, "test")
