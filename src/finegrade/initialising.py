"""``finegrade init``: looks at the user's data and writes a short configuration for it."""

import json
from collections import Counter
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from finegrade.config import Config, SourceConfig
from finegrade.config_file import parse_config
from finegrade.console import say
from finegrade.errors import InputError
from finegrade.estimating import CHARS_PER_TOKEN, QUERIES_KEPT, Estimate, estimate
from finegrade.sources.chunking import chunk_document
from finegrade.sources.document import Document
from finegrade.sources.documents import open_documents
from finegrade.sources.languages import frequent_languages
from finegrade.sources.pairs import read_pairs
from finegrade.sources.tokens import by_characters
from finegrade.store import replacing

_LOOKED_AT = 200  # documents
_CHUNK_TOKENS = 150
_ASKED = (
    5000, 3000, 2000, 1500, 1000, 800, 600, 500, 400, 300, 250, 200, 160, 130, 100, 80, 60, 50, 40, 30, 25, 20, 16,
)  # fmt: skip
"""How many chunks the LLM may be asked about: the first that fits the time is taken."""

_MARGIN = 0.85  # of the time: the estimate is one


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


def write_config(path: Path, minutes: float, output: Path, queries: Path | None) -> None:
    """Writes a configuration, and says what was found and what the run will take.

    Args:
        path: The data.
        minutes: What a run may take on two cores.
        output: The file to write; one that is there is not touched.
        queries: The user's own queries.

    Raises:
        InputError: There is nothing to read, or the output is there already.
    """
    if output.exists():
        remedy = "Remove it, or name another with --output."
        raise InputError(str(output), got="a file that is there already", wanted="a new file", remedy=remedy)
    found = look_at(path)
    config = fitting(found, path, minutes, queries)
    text = as_toml(config, found, minutes, output.parent)
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    say(f"{path}: {found.told}")
    expected = sum(_estimate(config, found).minutes.values())
    say(f"{output}: written; a run will take about {expected:.0f} minutes on two cores. Look at it, then:")
    say(f"    finegrade run -c {output}")
    if expected > minutes:
        say(f"That is more than the {minutes:.0f} minutes you named: less is not worth a run.")
    if any(language != "en" for language in found.spoken):
        say(f"Languages: {', '.join(found.spoken)}. The embedded models speak English: see the comments in {output}.")


def look_at(path: Path) -> Found:
    """What lies there, from the names of all files and a look into some."""
    if (path / "corpus.jsonl").is_file() and (path / "queries.jsonl").is_file():
        return _look_at_documents(SourceConfig(kind="beir", path=path))
    if path.is_file() and path.suffix in (".jsonl", ".ndjson") and _holds_pairs(path):
        number = sum(1 for _ in read_pairs(path))
        texts = [pair.positive for pair in islice(read_pairs(path), _LOOKED_AT)]
        return Found("pairs", f"{number:,} pairs", number, list(frequent_languages(texts)))
    return _look_at_documents(SourceConfig(kind="documents", path=path))


def _holds_pairs(path: Path) -> bool:
    with path.open("rb") as file:
        try:
            row = json.loads(file.readline())
        except (ValueError, RecursionError):
            return False
    return isinstance(row, dict) and {"query", "positive"} <= row.keys()


def _look_at_documents(source: SourceConfig) -> Found:
    documents = open_documents(source, 0)
    behind, number, pieces = 1, 0, 0
    texts: list[str] = []

    count = by_characters(CHARS_PER_TOKEN)
    for place, found in islice(documents.read(lambda *_: None), _LOOKED_AT):
        if isinstance(found, Document):
            cut = list(chunk_document(found, _CHUNK_TOKENS, count))
            behind, number, pieces = max(behind, place), number + 1, pieces + len(cut)
            texts += [piece.text for piece in cut[:3]]
    if not pieces:
        remedy = "Name a folder with text in it."
        raise InputError(documents.name, got="no text", wanted="documents", remedy=remedy)
    share = max(1.0, documents.size / behind) if number >= _LOOKED_AT else 1.0
    passed = ", ".join(f"{n} {ending}" for ending, n in Counter(documents.passed_over).most_common(4))
    about = "about " if share > 1 else ""
    told = (
        f"{about}{number * share:,.0f} documents, {documents.size / 1e6:,.1f} MB, {about}{pieces * share:,.0f} chunks"
    )
    return Found(
        source.kind,
        told + (f"; not read: {passed}" if passed else ""),
        round(pieces * share),
        list(frequent_languages(texts)),
    )


def _estimate(config: Config, found: Found) -> Estimate:
    if found.kind == "pairs":
        return estimate(config, queries=found.texts)
    return estimate(config, chunks=found.texts)


def fitting(found: Found, path: Path, minutes: float, queries: Path | None) -> Config:
    """The largest run that fits the time."""
    config = None
    for asked in _ASKED:
        config = _configured(found, path, min(asked, found.texts), queries)
        if sum(_estimate(config, found).minutes.values()) <= _MARGIN * minutes:
            break
    assert config is not None
    return config


def _configured(found: Found, path: Path, asked: int, queries: Path | None) -> Config:
    train = round(asked * (1 if found.kind == "pairs" else QUERIES_KEPT) * 0.75)
    batch = max(4, min(64, 2 ** (train // 6).bit_length() // 2))
    steps = max(8, 4 * round(2 * train / batch / 4))
    source: dict[str, Any] = {"kind": found.kind, "path": str(path.absolute()), "test_share": 0.25}
    if queries:
        source["queries"] = str(queries.absolute())
    if found.kind == "pairs":
        source["max_train"] = max(train, 8)
        source["max_test"] = 400
    else:
        source["max_chunks"] = max(16, min(found.texts, 15 * asked, 20_000))
    data = {
        "source": source,
        "queries": {"chunks": max(8, asked)},
        "synthesis": {"llm_samples": max(1, train // 12), "max_passage_chars": 800, "max_requests": max(2, train // 4)},
        "training": {"steps": steps, "batch_size": batch, "max_length": 160},
    }
    return parse_config(data, "init")


def as_toml(config: Config, found: Found, minutes: float, folder: Path) -> str:
    """The configuration as a file for people: what matters, with a word on each.

    Args:
        config: What to write.
        found: What it is for.
        minutes: What it was fitted to.
        folder: Where the file will stand: paths are relative to it.
    """
    source, training = config.source, config.training
    lines = [
        f"# {found.told}.",
        f"# Fitted to {minutes:.0f} minutes on two cores. `finegrade estimate` tells what each change makes of that.",
        "",
        "[source]",
        f'kind = "{source.kind}"',
        f"path = {_quoted(source.path, folder)}",
    ]
    if source.queries:
        lines.append(f"queries = {_quoted(source.queries, folder)}   # your own; the labelled ones test")
    else:
        lines.append(
            '# queries = "real.jsonl"   # your own queries: {"query"}, with "path" or "positive" if you know it'
        )
    lines.append(f"test_share = {source.test_share}   # of the documents or groups: nothing of them is trained on")
    if found.kind == "pairs":
        lines += [f"max_train = {source.max_train}", f"max_test = {source.max_test}"]
    else:
        lines += [
            f"chunk_tokens = {source.chunk_tokens}",
            f"max_chunks = {source.max_chunks}   # what is searched and mined",
            "",
            "[queries]",
            f"chunks = {config.queries.chunks}   # for how many of them the LLM writes queries",
        ]
    lines += [
        "",
        "[synthesis]",
        f"llm_samples = {config.synthesis.llm_samples}   # near misses that the LLM writes",
        f"max_requests = {config.synthesis.max_requests}   # for them, at most",
        f"max_passage_chars = {config.synthesis.max_passage_chars}",
        "",
        "[training]",
        f"steps = {training.steps}",
        f"batch_size = {training.batch_size}",
        f"max_length = {training.max_length}   # tokens that the model reads of a text",
        "",
        "# The models that come along speak English. For another language name three that speak yours:",
        "# llm.model (or llm.base_url), training.backbone, verification.scorer.",
        "#",
        "# [llm]                # another LLM than the embedded one; nothing is sent anywhere unless you name it",
        '# base_url = "https://..."',
        '# model = "..."',
        '# api_key_env = "MY_KEY"   # the name of the variable that holds the key',
        "# price_in = 0.1       # for a million tokens",
        "# price_out = 0.4",
        "# max_cost = 5.0       # never more than that",
        "# concurrency = 16",
    ]
    return "\n".join(lines) + "\n"


def _quoted(path: Path | None, folder: Path) -> str:
    assert path is not None
    inside = path.is_relative_to(folder.absolute())
    return json.dumps(str(path.relative_to(folder.absolute()) if inside else path))
