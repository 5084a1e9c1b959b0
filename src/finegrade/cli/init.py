"""``finegrade init``: looks at the user's data and writes a short configuration for it."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import Any

from finegrade.cli.estimate import QUERIES_KEPT, Estimate, estimate, told_money
from finegrade.config import CHUNK_TOKENS, Config, SourceConfig
from finegrade.config.toml import apply_setting, as_toml, parse_config
from finegrade.console import say
from finegrade.data.chunking import CHARS_PER_TOKEN, by_characters, chunk_document
from finegrade.data.documents import open_documents
from finegrade.data.languages import frequent_languages
from finegrade.data.pairs import holds_pairs, read_pairs
from finegrade.data.readers.document import Document
from finegrade.data.user_queries import read_own_queries
from finegrade.errors import InputError
from finegrade.storage.atomic import replacing

_LOOKED_AT = 200  # documents, or pairs


@dataclass(frozen=True)
class Found:
    """What lies there.

    Attributes:
        kind: As source.kind.
        told: For people.
        texts: Chunks, or pairs, as far as can be told from looking at some.
        spoken: Languages, most frequent first.
    """

    kind: str
    told: str
    texts: int
    spoken: list[str] = field(default_factory=list)


def look_at(path: Path, chosen: Mapping[str, Any] = MappingProxyType({})) -> Found:
    """What lies there.

    Args:
        path: A folder or file of documents, a BEIR folder, or a JSONL file of pairs.
        chosen: Settings of the source that say how to read it.

    Raises:
        InputError: There is nothing to read.
    """
    if (path / "corpus.jsonl").is_file() and (path / "queries.jsonl").is_file():
        return _look_at_documents(SourceConfig(**{"kind": "beir", "path": path, **chosen}))
    if path.is_file() and path.suffix in (".jsonl", ".ndjson") and holds_pairs(path):
        number = sum(1 for _ in read_pairs(path))
        texts = [pair.positive for pair in islice(read_pairs(path), _LOOKED_AT)]
        return Found("pairs", f"{number:,} pairs", number, list(frequent_languages(texts)))
    return _look_at_documents(SourceConfig(**{"kind": "documents", "path": path, **chosen}))


def _look_at_documents(source: SourceConfig) -> Found:
    documents = open_documents(source, 0)
    behind, number, pieces = 1, 0, 0
    texts: list[str] = []
    count = by_characters(CHARS_PER_TOKEN)
    for place, found in islice(documents.read(lambda *_: None), _LOOKED_AT):
        if isinstance(found, Document):
            cut = list(chunk_document(found, source.chunk_tokens, count))
            behind, number, pieces = max(behind, place), number + 1, pieces + len(cut)
            texts += [piece.text for piece in cut[:3]]
    if not pieces:
        remedy = "Name a folder with text in it."
        raise InputError(documents.name, got="no text", wanted="documents", remedy=remedy)
    share = max(1.0, documents.size / behind) if number >= _LOOKED_AT else 1.0
    about = "about " if share > 1 else ""
    told = (
        f"{about}{number * share:,.0f} documents, {documents.size / 1e6:,.1f} MB, {about}{pieces * share:,.0f} chunks"
    )
    if documents.passed_over:
        endings = Counter(documents.passed_over).most_common(4)
        told += "; not read: " + ", ".join(f"{number} {ending}" for ending, number in endings)
    return Found(source.kind, told, round(pieces * share), list(frequent_languages(texts)))


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


def write_config(
    path: Path, minutes: float, output: Path, queries: Path | None = None, settings: Sequence[str] = ()
) -> None:
    """Writes a configuration, and says what was found and what the run will take.

    Args:
        path: The data.
        minutes: What a run may take on two cores.
        output: The file to write; one that is there is not touched.
        queries: The user's own queries.
        settings: "section.key=value" strings that are the user's choice. With a remote LLM the run is fitted to its
            cap, too.

    Raises:
        InputError: There is nothing to read, a setting is wrong, or the output is there already.
    """
    if output.exists():
        remedy = "Remove it, or name another with --output."
        raise InputError(str(output), got="a file that is there already", wanted="a new file", remedy=remedy)
    found = look_at(path, _source_settings(path, settings))
    config = fitted(found, path, minutes, queries, settings)
    read_own_queries(config.source)  # what is wrong with them shows here, not after an hour
    told = f"Fitted to {minutes:.0f} minutes on two cores"
    if config.llm.max_cost is not None:
        told += f" and {config.llm.max_cost} for the LLM"
    head = f"{found.told}.\n{told}. `finegrade estimate` tells what each change makes of that."
    text = as_toml(config, head, output.parent)
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    run = expected(config, found)
    taken = sum(run.minutes.values())
    say(f"{path}: {found.told}")
    say(f"{output}: written; a run will take about {taken:.0f} minutes on two cores; {told_money(run.cost)}")
    say(f"Look at it, then: finegrade run -c {output}")
    if not fits(config, run, minutes, share=1.0):
        say("That is more than the minutes or the cap you named: less is not worth a run.")
    if any(language != "en" for language in found.spoken):
        say(f"Languages: {', '.join(found.spoken)}. The embedded models speak English: see the comments in {output}.")


def _source_settings(path: Path, settings: Sequence[str]) -> dict[str, Any]:
    """What the settings say of the source, checked."""
    data: dict[str, Any] = {"source": {"path": str(path)}}
    for setting in settings:
        apply_setting(data, setting)
    source = parse_config(data, "init").source
    return source.model_dump(include=source.model_fields_set - {"path"})
