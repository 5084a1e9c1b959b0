"""finegrade.toml: one section a stage, each value checked, with the sane default beside it."""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from finegrade.errors import InputError

_PATHS = (
    ("source", "path"), ("llm", "model"), ("verification", "scorer"), ("training", "backbone"),
    ("evaluation", "sts_data"),
)  # fmt: skip


class Section(BaseModel):
    """A section of finegrade.toml: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class SourceConfig(Section):
    """Where queries and the texts that answer them come from, and how they are split."""

    kind: Literal["pairs", "python-docs"] = "pairs"
    path: Path | None = None
    """JSONL file of pairs (kind "pairs"); {"query", "positive"} and optionally "group" in each row."""
    packages: tuple[str, ...] = ()
    """Installed packages to read besides the standard library (kind "python-docs"). Empty: all of them."""
    test_groups: tuple[str, ...] = ()
    """Groups held out for testing. Empty: groups are drawn until test_share of the pairs is held out."""
    test_share: float = Field(0.2, gt=0, lt=1)
    max_train: int = Field(20_000, ge=8)
    """At most this many queries are trained on (drawn with the seed)."""
    max_test: int = Field(2_000, ge=1)
    """At most this many queries are tested with; the corpus they search is never cut."""

    @model_validator(mode="after")
    def _pairs_need_a_path(self) -> "SourceConfig":
        if self.kind == "pairs" and self.path is None:
            raise ValueError('kind "pairs" needs path, a JSONL file with "query" and "positive" in each row')
        return self


class LLMConfig(Section):
    """Which LLM writes. A remote one is used only when base_url names it."""

    model: str = "qwen2.5-coder-1.5b"
    """Catalogue name, .gguf path or Hugging Face id of the embedded LLM; with base_url, the server's model name."""
    base_url: str | None = None
    """An OpenAI-compatible server, e.g. "http://127.0.0.1:8000/v1". None: the embedded LLM, a local process."""
    api_key_env: str | None = None
    """Name of the environment variable that holds the server's key, e.g. "OPENAI_API_KEY". None: no key is sent. The
    key itself is never written anywhere."""
    concurrency: int = Field(1, ge=1, le=1024)
    """Requests under way at once. The embedded LLM gains nothing from more than 1."""
    timeout: float = Field(120.0, gt=0)
    """Seconds until a request counts as failed."""
    context: int = Field(4096, ge=512)
    """Tokens of context given to the embedded LLM."""

    @field_validator("base_url")
    @classmethod
    def _is_a_url(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                parts = urlsplit(value)
                good = (
                    parts.scheme in ("http", "https")
                    and bool(parts.hostname)
                    and not (parts.username or parts.password or parts.query or parts.fragment)
                    and (parts.port or 1) > 0
                )
            except ValueError:
                good = False
            if not good:
                raise ValueError("must be a URL like http://127.0.0.1:8000/v1, without user, password or query")
        return value

    @field_validator("api_key_env")
    @classmethod
    def _names_a_variable(cls, value: str | None) -> str | None:
        if value is not None and not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", value):
            # never echo: it may be the key itself
            raise ValueError("must be the NAME of an environment variable, not the key")
        return value


class SynthesisConfig(Section):
    """How negatives are written and mined."""

    llm_samples: int = Field(100, ge=0)
    """How many rewritten texts to get past the gates: the hardest level of that many samples."""
    max_requests: int = Field(1_000, ge=0)
    """Hard cap on the requests to the LLM."""
    temperature: float = Field(0.2, ge=0, le=2)
    max_passage_chars: int = Field(600, ge=120)
    """Longer positives are not rewritten: the time an LLM takes grows with them."""
    min_changed: int = Field(2, ge=1)
    """A rewrite that differs from the positive in fewer content words (gone and new together) is a near-copy."""


class VerificationConfig(Section):
    """How negatives are checked."""

    scorer: str = "reranker-en"
    """Catalogue name, local ONNX folder, or Hugging Face id of a cross-encoder."""
    margin: float = Field(0.5, ge=0)
    """A negative is false unless it scores at least this much (logits) below the positive."""
    max_length: int = Field(192, ge=16)
    """Tokens of query and text together that the scorer reads."""


class TrainingConfig(Section):
    """How the model is trained."""

    backbone: str = "all-minilm-l6-v2"
    """Catalogue name, local folder or Hugging Face id."""
    pooling: Literal["anchor", "mean"] = "anchor"
    schedule: str = "coarse-to-fine"
    """coarse-to-fine, reverse, shuffled, or fixed:K (level K only)."""
    controls: bool = True
    """Also train the control rows: in-batch + mean, in-batch + anchor, mined + mean."""
    steps: int = Field(100, ge=1)
    batch_size: int = Field(64, ge=2)
    learning_rate: float = Field(1e-4, gt=0)
    warmup_share: float = Field(0.1, ge=0, lt=1)
    """Share of the steps in which the learning rate rises."""
    max_length: int = Field(128, ge=8)
    """Tokens of a text that the model reads."""
    scale: float = Field(20.0, gt=0)
    """Cosine similarities are multiplied by this before the softmax (1 / temperature)."""
    bf16: bool | None = None
    """bfloat16 autocast. None: on where the processor computes in it."""
    checkpoint_every: int = Field(10, ge=1)
    """Steps between checkpoints: what a kill can cost."""

    @field_validator("schedule")
    @classmethod
    def _known_schedule(cls, value: str) -> str:
        if not re.fullmatch(r"coarse-to-fine|reverse|shuffled|fixed:[1-9]\d*", value):
            raise ValueError("must be coarse-to-fine, reverse, shuffled or fixed:K with K a level")
        return value


class EvaluationConfig(Section):
    """How the rows are scored."""

    sts: bool = True
    """Also score STS-B test (English), so that forgetting shows."""
    sts_data: str = "sts-b"
    """Catalogue name, local folder with sts-test.csv (tab-separated; column 5 score, 6 and 7 sentences), or the Hugging
    Face id of a data set with columns sentence1, sentence2, score."""
    resamples: int = Field(1_000, ge=100)
    """Bootstrap resamples behind every interval."""
    confidence: float = Field(0.95, gt=0.5, lt=1)
    batch_size: int = Field(32, ge=1)


class Config(Section):
    """Everything finegrade.toml can say."""

    seed: int = Field(0, ge=0)
    source: SourceConfig
    llm: LLMConfig = LLMConfig()
    synthesis: SynthesisConfig = SynthesisConfig()
    verification: VerificationConfig = VerificationConfig()
    training: TrainingConfig = TrainingConfig()
    evaluation: EvaluationConfig = EvaluationConfig()


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
        _apply(data, override)
    _resolve_paths(data, path.parent)
    return parse_config(data, str(path))


def _resolve_paths(data: dict[str, Any], folder: Path) -> None:
    """Relative paths are taken from the file's folder; a model's name counts as a path where it leads somewhere."""
    for section, key in _PATHS:
        values = data.get(section)
        if isinstance(values, dict) and isinstance(value := values.get(key), str):
            found = folder / user_path(value)
            if section == "source" or ("/" in value and found.exists() and not values.get("base_url")):
                values[key] = str(found)


def user_path(text: str) -> Path:
    """A path as a user writes it: ~ is the home folder."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  (Path.expanduser raises where there is no such user)


def parse_config(data: Mapping[str, Any], origin: str) -> Config:
    """Checks a configuration that is already a mapping.

    Args:
        data: Sections by name.
        origin: Where it came from, for the error line.
    """
    try:
        return Config.model_validate(data)
    except ValidationError as error:
        raise _explain(error, origin) from None


def _read_toml(path: Path) -> dict[str, Any]:
    wanted, remedy = "a finegrade.toml", "Name it with --config FILE; README shows a short one."
    try:
        text = path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InputError(f"{path}", got=error.strerror or error, wanted=wanted, remedy=remedy) from None
    except UnicodeDecodeError as error:
        got = f"byte 0x{error.object[error.start]:02x} at offset {error.start}"
        raise InputError(f"{path}", got=got, wanted="UTF-8 text", remedy="Save the file as UTF-8.") from None
    if not text.strip():
        raise InputError(f"{path}", got="an empty file", wanted=wanted, remedy=remedy)
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError(f"{path}", got=error, wanted="valid TOML", remedy="Mend that line.") from None


def _apply(data: dict[str, Any], override: str) -> None:
    name, sign, value = override.partition("=")
    keys = name.strip().split(".")
    if not sign or not all(keys):
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


def _explain(error: ValidationError, origin: str) -> InputError:
    errors = error.errors(include_url=False, include_input=True)
    first = min(errors, key=lambda e: e["type"] != "extra_forbidden")  # a misspelt section shows as a missing one too
    location = [str(part) for part in first["loc"]]
    name = ".".join(location) or "the file"
    if first["type"] == "extra_forbidden":
        return _unknown_key(location, origin)
    if first["type"] == "missing":
        return InputError(f"{origin}: {name}", got="nothing", wanted="a value", remedy=f"Add {name}.")
    secret = location[-1:] in (["api_key_env"], ["base_url"])
    got = "something else" if secret else repr(first["input"])
    if isinstance(first["input"], dict):
        got = "the section as it is"
    wanted = first["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
    return InputError(f"{origin}: {name}", got=got, wanted=wanted, remedy=f"Correct {name}.")


def _unknown_key(location: list[str], origin: str) -> InputError:
    model: type[BaseModel] = Config
    for part in location[:-1]:
        model = model.model_fields[part].annotation  # type: ignore[assignment]
    known = sorted(model.model_fields)
    near = difflib.get_close_matches(location[-1], known, n=1, cutoff=0.5)
    remedy = f"Did you mean {near[0]}?" if near else "Remove it."
    return InputError(
        f"{origin}: unknown key", got=".".join(location), wanted=f"one of {', '.join(known)}", remedy=remedy
    )
