"""Reads finegrade.toml and --set, and writes a commented finegrade.toml."""

import difflib
import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from finegrade.config import Config, SourceConfig, user_path
from finegrade.config.base import Section
from finegrade.errors import InputError, unreadable
from finegrade.text import encodable, without_control_characters

AnySection = TypeVar("AnySection", bound=Section)

_PATHS = (
    ("source", "path"), ("source", "queries"), ("llm", "model"), ("verification", "scorer"),
    ("verification", "committee"), ("verification", "second_opinion"), ("verification", "second_opinion_written"),
    ("verification", "benchmarks"), ("training", "backbone"), ("evaluation", "sts_data"),
)  # fmt: skip


def load_config(path: Path, overrides: Sequence[str] = ()) -> Config:
    """Reads and checks a finegrade.toml.

    Args:
        path: The TOML file. Relative paths in it are taken from its folder.
        overrides: "section.key=value" strings that win over the file; the value is TOML, or else a bare string.

    Raises:
        InputError: The file is missing, empty, not UTF-8 or not TOML, or holds an unknown key or a wrong value.
    """
    data = _read_toml(path)
    for override in overrides:
        apply_setting(data, override)
    _resolve_paths(data, path.parent)
    return parse_config(data, str(path))


def plain_config(overrides: Sequence[str] = ()) -> Config:
    """The configuration of commands that read no source, where there is no finegrade.toml, from "section.key=value"."""
    data: dict[str, Any] = {"source": {"kind": "python-docs"}}
    for override in overrides:
        apply_setting(data, override)
    return parse_config(data, "--set")


def _resolve_paths(data: dict[str, Any], folder: Path) -> None:
    """Relative paths are taken from the file's folder; a model's name counts as a path where one exists."""
    for section, key in _PATHS:
        values = data.get(section)
        if not isinstance(values, dict):
            continue
        value = values.get(key)
        if isinstance(value, str):
            values[key] = _resolved(value, folder, section, key, values)
        elif isinstance(value, list):
            values[key] = [
                _resolved(one, folder, section, key, values) if isinstance(one, str) else one for one in value
            ]


def _resolved(value: str, folder: Path, section: str, key: str, values: Mapping[str, Any]) -> str:
    found = folder / user_path(value)
    may_lead = ("/" in value or key == "benchmarks") and not values.get("base_url")
    return str(found) if section == "source" or (may_lead and found.exists()) else value


def parse_config(data: Mapping[str, Any], origin: str) -> Config:
    """Checks a configuration that is already a mapping of sections."""
    return parse_section(Config, data, origin)


def parse_section(kind: type[AnySection], data: Mapping[str, Any], origin: str) -> AnySection:
    """Checks a mapping; ``origin`` says in the error line where its values came from.

    Raises:
        InputError: It holds an unknown key or a wrong value.
    """
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise _explain(error, kind, origin) from None


def _read_toml(path: Path) -> dict[str, Any]:
    wanted, remedy = "a finegrade.toml", "Make one with `finegrade init FOLDER`, or name yours with --config FILE."
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise unreadable(path, error, wanted, remedy) from None
    except UnicodeDecodeError as error:
        got = f"byte 0x{error.object[error.start]:02x} at offset {error.start}"
        raise InputError(f"{path}", got=got, wanted="UTF-8 text", remedy="Save the file as UTF-8.") from None
    if not text.strip():
        raise InputError(f"{path}", got="an empty file", wanted=wanted, remedy=remedy)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise unreadable(path, error, "valid TOML", "Correct that line.") from None


def apply_setting(data: dict[str, Any], override: str) -> None:
    """Puts "section.key=value" into a mapping; the value is TOML, or else a bare string."""
    name, equals, value = override.partition("=")
    keys = name.strip().split(".")
    if not equals or not all(keys) or "\n" in override:
        got = name.split()[0] if name.split() else "nothing"  # never more: what follows may be a key
        raise InputError("--set", got=got, wanted="section.key=value", remedy="e.g. --set training.steps=50")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value
    target: Any = data
    for key in keys[:-1]:
        target = target.setdefault(key, {})
        if not isinstance(target, dict):
            raise InputError("--set", got=name, wanted="section.key=value", remedy=f"{key} is not a section.")
    target[keys[-1]] = parsed


_A_SECTION = "a section with keys, like [training]"
_WANTED = {"tuple_type": 'a list like ["a", "b"]', "model_type": _A_SECTION, "model_attributes_type": _A_SECTION}


def _explain(error: ValidationError, kind: type[Section], origin: str) -> InputError:
    errors = error.errors(include_url=False, include_input=True)
    first = min(errors, key=lambda e: e["type"] != "extra_forbidden")  # a misspelt section shows as a missing one too
    location = [str(part) for part in first["loc"]]
    name = ".".join(location) or "the file"
    if first["type"] == "extra_forbidden":
        return _unknown_key(location, kind, origin)
    if first["type"] == "missing":
        return InputError(f"{origin}: {name}", got="nothing", wanted="a value", remedy=f"Add {name}.")
    secret = location[-1:] in (["api_key_env"], ["base_url"])
    got = "something else" if secret else repr(first["input"])
    if isinstance(first["input"], dict):
        got = "the section as it is"
    wanted = _WANTED.get(first["type"]) or first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return InputError(f"{origin}: {name}", got=got, wanted=wanted, remedy=f"Correct {name}.")


def _unknown_key(location: list[str], kind: type[Section], origin: str) -> InputError:
    model: type[BaseModel] = kind
    for part in location[:-1]:
        model = model.model_fields[part].annotation  # type: ignore[assignment]
    known = sorted(model.model_fields)
    near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
    remedy = f"Did you mean {near[0]}?" if near else "Remove it."
    return InputError(
        f"{origin}: unknown key", got=".".join(location), wanted=f"one of {', '.join(known)}", remedy=remedy
    )


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
    """The values that are set in a configuration, as TOML, below ``head`` as comments.

    Paths inside ``folder``, where the file will stand, are written relative to it.

    Raises:
        InputError: A path is not Unicode, so that no TOML can name it.
    """
    lines = [f"# {without_control_characters(encodable(line))}" for line in head.split("\n")]
    there = {name: getattr(config, name) for name in type(config).model_fields if name in config.model_fields_set}
    lines += [f"{name} = {_value(value, folder)}" for name, value in there.items() if not isinstance(value, Section)]
    for name, value in there.items():
        lines += _section(name, value, folder) if isinstance(value, Section) else []
    lines += ["", _LANGUAGES] + ([] if config.llm.base_url else [_REMOTE_LLM])
    return "\n".join(lines) + "\n"


def _section(name: str, section: Section, folder: Path) -> list[str]:
    lines = ["", f"[{name}]"]
    for key in (key for key in type(section).model_fields if key in section.model_fields_set):
        comment = _COMMENTS.get(f"{name}.{key}")
        lines.append(f"{key} = {_value(getattr(section, key), folder)}" + (f"   # {comment}" if comment else ""))
    if isinstance(section, SourceConfig) and section.has_documents and not section.queries:
        lines.append(_OWN_QUERIES)
    return lines


def _value(value: Any, folder: Path) -> str:
    """A value in TOML, which takes JSON's strings, numbers and lists but for one character."""
    if isinstance(value, Path):
        inside = value.is_relative_to(folder.absolute())
        value = str(value.relative_to(folder.absolute()) if inside else value)
    if isinstance(value, str) and encodable(value) != value:
        remedy = "Rename it, or its folder."
        raise InputError(ascii(value), got="a name that is not Unicode", wanted="one that TOML can hold", remedy=remedy)
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007F")
