"""The largest run that fits the time, and the money, that a user has."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finegrade.config import CHUNK_TOKENS, Config
from finegrade.config.toml import apply_setting, parse_config
from finegrade.estimating import QUERIES_KEPT, Estimate, estimate
from finegrade.sources.looking import Found

_ASKED = (
    100_000, 50_000, 30_000, 20_000, 10_000, 5000, 3000, 2000, 1500, 1000, 800, 600, 500, 400, 300, 250, 200, 160, 130,
    100, 80, 60, 50, 40, 30, 25, 20, 16,
)  # fmt: skip
"""How many chunks the LLM may be asked about: the first that fits is taken."""

_SHARE = 0.85  # of time and money: the estimate is one


def fitted(found: Found, path: Path, minutes: float, queries: Path | None, settings: Sequence[str]) -> Config:
    """The largest run that fits the minutes and the caps of the LLM that is named; the smallest where none does.

    Args:
        found: What lies at the path.
        path: The data.
        minutes: What a run may take on two cores.
        queries: The user's own queries.
        settings: "section.key=value" strings that are the user's choice.
    """
    config = None
    for asked in _ASKED:
        config = _configured(found, path, min(asked, found.texts), queries, settings)
        if fits(config, expected(config, found), minutes):
            break
    assert config is not None
    return config


def expected(config: Config, found: Found) -> Estimate:
    """What a run over what was found will take."""
    return estimate(config, queries=found.texts) if found.kind == "pairs" else estimate(config, chunks=found.texts)


def fits(config: Config, run: Estimate, minutes: float, share: float = _SHARE) -> bool:
    """Whether a run stays below this share of the minutes and of the caps."""
    return (
        sum(run.minutes.values()) <= share * minutes
        and (config.llm.max_cost is None or (run.cost or 0.0) <= share * config.llm.max_cost)
        and (config.llm.max_tokens is None or run.tokens <= share * config.llm.max_tokens)
    )


def _configured(found: Found, path: Path, asked: int, queries: Path | None, settings: Sequence[str]) -> Config:
    train = round(asked * (1 if found.kind == "pairs" else QUERIES_KEPT) * 0.75)
    batch = max(4, min(64, 2 ** (train // 6).bit_length() // 2))
    source: dict[str, Any] = {"kind": found.kind, "path": str(path.absolute())}
    if queries:
        source["queries"] = str(queries.absolute())
    source["test_share"] = 0.25
    data: dict[str, Any] = {"source": source}
    if found.kind == "pairs":
        source |= {"max_train": max(train, 8), "max_test": 400}
    else:
        # texts is a guess, and far too low where a tokenizer cuts words of other languages into pieces
        source |= {"chunk_tokens": CHUNK_TOKENS, "max_chunks": max(16, min(2 * found.texts, 15 * asked, 20_000))}
        data["queries"] = {"chunks": max(8, asked)}
    data["training"] = {"steps": max(8, 4 * round(2 * train / batch / 4)), "batch_size": batch, "max_length": 160}
    for setting in settings:
        apply_setting(data, setting)
    for key, value in _near_misses(train, data.get("llm")).items():
        if isinstance(chosen := data.setdefault("synthesis", {}), dict):
            chosen.setdefault(key, value)
    return parse_config(data, "init")


def _near_misses(train: int, llm: Any) -> dict[str, int]:
    """A small model on two cores writes few rewrites that pass, and takes long over them; a server is there for it."""
    share = 1 if isinstance(llm, dict) and llm.get("base_url") else 5
    return {"llm_samples": max(1, train // share), "max_passage_chars": 800}
