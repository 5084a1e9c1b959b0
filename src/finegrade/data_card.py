"""The data card: who wrote the samples, how they were asked, what there is of each level and source, what it cost."""

from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from finegrade import __version__
from finegrade.catalogue import CATALOGUE
from finegrade.durable import replacing
from finegrade.records import Sample
from finegrade.store import STAGES, RunFolder
from finegrade.text import for_markdown

_ASKING_STAGES = ("tasks", "queries", "synthesize")


def write_data_card(
    run: RunFolder, folder: Path, samples: Iterable[Sample], rows: Mapping[str, int], verified: bool
) -> None:
    """Writes ``README.md`` beside the data. Of the samples it holds counts only, of the prompts every word.

    Args:
        run: Where they were made.
        folder: Where they are.
        samples: What is counted.
        rows: File -> its rows.
        verified: Whether the negatives were verified.
    """
    negatives: Counter[tuple[int, str]] = Counter()
    kinds: Counter[str] = Counter()
    for sample in samples:
        negatives.update((negative.level, negative.source) for negative in sample.negatives)
        kinds[sample.kind or "pairs of the source"] += 1
    made = run.record("synthesize")["details"]
    lines = [
        *("---", "task_categories:", "- sentence-similarity", "- feature-extraction", "configs:"),
        *(f"- config_name: {name}\n  data_files: {file}" for name, file in _configurations(rows).items()),
        *("---", "", "# Graded negatives, made by finegrade", ""),
        f"finegrade {__version__}; negatives {'verified' if verified else 'NOT verified'}; "
        f"the LLM was {for_markdown(made['model'])}, mode {made['mode']}, {made['levels']} levels "
        f"(level {made['levels']} is the hardest, N1).",
        "",
        *_table("file", "rows", rows.items()),
        *_table("kind", "samples", kinds.most_common()),
        *_levels(negatives),
        *_costs(run),
        *_table("set aside", "texts", made["set_aside"].items()),
        *_probe(made["probe"]),
        "## Prompts",
        "",
        *(f"**{name}**: {for_markdown(text)}\n" for name, text in made["prompts"].items()),
        "## Licence",
        "",
        _licence(made["model"]),
        "",
    ]
    with replacing(folder / "README.md") as path:
        path.write_text("\n".join(lines), encoding="utf-8")


def _configurations(rows: Mapping[str, int]) -> dict[str, str]:
    return {Path(name).stem: name for name in rows}


def _levels(negatives: Counter[tuple[int, str]]) -> list[str]:
    entries = [(f"{level} | {source}", number) for (level, source), number in sorted(negatives.items(), reverse=True)]
    return _table("level | source", "negatives", entries)


def _costs(run: RunFolder) -> list[str]:
    """Of all that was ever asked in the run folder, replies that were set aside included."""
    entries = []
    for stage in _ASKING_STAGES:
        if run.path(STAGES, f"{stage}.json").is_file() and (usage := run.record(stage)["details"].get("usage")):
            tokens = f"{usage['prompt_tokens']:,} | {usage['completion_tokens']:,}"
            entries.append((f"{stage} | {usage['requests']:,} | {tokens}", usage.get("cost", 0)))
    return _table("stage | requests | tokens in | tokens out", "cost", entries)


def _probe(found: Mapping[str, float | None]) -> list[str]:
    told = [(name, value) for name, value in found.items() if value is not None]
    return _table("can a linear model tell them apart? (0.5: no, 1: always)", "area under the ROC curve", told)


def _table(left: str, right: str, entries: Iterable[tuple[str, Any]]) -> list[str]:
    rows = [f"| {name} | {value:,} |" for name, value in entries]
    if not rows:
        return []
    return [f"| {left} | {right} |", "|---" * (left.count("|") + 2) + "|", *rows, ""]


def _licence(model: str) -> str:
    known = f" ({CATALOGUE[model].licence})" if model in CATALOGUE else ""
    return (
        f"What {for_markdown(model)} wrote stands under the terms of that model and its provider{known}: some forbid "
        "that their output trains other models. What comes from the source's own documents and pairs stands under the "
        "licence that they had before. finegrade claims nothing of either."
    )
