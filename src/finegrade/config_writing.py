"""A configuration as a file for people: what is set, with a word on each."""

import json
from pathlib import Path
from typing import Any

from finegrade.config import Config, SourceConfig
from finegrade.errors import InputError
from finegrade.section import Section
from finegrade.text import encodable, without_control_signs

_COMMENTS = {
    "source.queries": "your own; the labelled ones test",
    "source.test_share": "of the documents or groups: nothing of them is trained on",
    "source.max_chunks": "what is searched and mined",
    "queries.chunks": "for how many of them the LLM writes queries",
    "synthesis.llm_samples": "for so many the LLM writes negatives",
    "training.max_length": "tokens that the model reads of a text",
    "llm.api_key_env": "the name of the variable that holds the key",
    "llm.price_in": "for a million tokens",
    "llm.max_cost": "never more than that",
}
_OWN_QUERIES = '# queries = "real.jsonl"   # your own queries: {"query"}, with "path" or "positive" if you know it'
_LANGUAGES = """\
# The models that come along speak English. For another language name three that speak yours:
# llm.model (or llm.base_url), training.backbone, verification.scorer and committee."""
_REMOTE_LLM = """\
#
# [llm]                # another LLM than the embedded one; nothing is sent anywhere unless you name it
# base_url = "https://..."
# model = "..."
# api_key_env = "MY_KEY"   # the name of the variable that holds the key
# price_in = 0.1       # for a million tokens
# price_out = 0.4
# max_cost = 5.0       # never more than that
# concurrency = 16
# batch = true         # through the server's Batch API: cheaper, within a day"""


def as_toml(config: Config, head: str, folder: Path) -> str:
    """What is set in a configuration, as TOML.

    Args:
        config: What to write.
        head: Lines for the top, as comments.
        folder: Where the file will stand: paths inside it are written relative to it.

    Raises:
        InputError: A path is not Unicode, so that no TOML can name it.
    """
    lines = [f"# {without_control_signs(encodable(line))}" for line in head.split("\n")]
    there = {name: getattr(config, name) for name in type(config).model_fields if name in config.model_fields_set}
    lines += [f"{name} = {_value(value, folder)}" for name, value in there.items() if not isinstance(value, Section)]
    for name, value in there.items():
        lines += _section(name, value, folder) if isinstance(value, Section) else []
    lines += ["", _LANGUAGES] + ([] if config.llm.base_url else [_REMOTE_LLM])
    return "\n".join(lines) + "\n"


def _section(name: str, section: Section, folder: Path) -> list[str]:
    lines = ["", f"[{name}]"]
    for key in type(section).model_fields:
        if key in section.model_fields_set:
            comment = _COMMENTS.get(f"{name}.{key}")
            lines.append(f"{key} = {_value(getattr(section, key), folder)}" + (f"   # {comment}" if comment else ""))
    if isinstance(section, SourceConfig) and section.has_documents and not section.queries:
        lines.append(_OWN_QUERIES)
    return lines


def _value(value: Any, folder: Path) -> str:
    """A value in TOML, which takes JSON's strings, numbers and lists but for three signs."""
    if isinstance(value, Path):
        inside = value.is_relative_to(folder.absolute())
        value = str(value.relative_to(folder.absolute()) if inside else value)
    if isinstance(value, str) and encodable(value) != value:
        remedy = "Rename it, or its folder."
        raise InputError(ascii(value), got="a name that is not Unicode", wanted="one that TOML can hold", remedy=remedy)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
