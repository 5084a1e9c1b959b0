"""The model card: what the saved model is, how it scored and on what, how to load it."""

from collections import Counter
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from finegrade.machine import VERSION
from finegrade.models.catalogue import CATALOGUE
from finegrade.records import IN_BENCHMARK, LeftOut, Sample
from finegrade.report.summary import RE_EMBED, findings, load_snippet
from finegrade.storage.atomic import read_json, replacing
from finegrade.storage.run_folder import EXTERNAL, LEFT_OUT, MODEL, SCORES, STAGES, RunFolder
from finegrade.storage.tables import iterate_rows
from finegrade.text import for_markdown
from finegrade.training.variants import FINEGRADE

CARD = f"{MODEL}/README.md"


def write_card(run: RunFolder) -> None:
    """Writes ``model/README.md``. Of the user's data it holds counts and a hash, never a text."""
    with replacing(run.path(CARD)) as path:
        path.write_text(_card(run), encoding="utf-8")


def _card(run: RunFolder) -> str:
    scores = read_json(run.path(SCORES))
    snippet = load_snippet(run.path(MODEL)).replace(repr(str(run.path(MODEL))), repr("path/to/this/folder"))
    lines = ["---", "library_name: sentence-transformers", "---", "", "# A text-embedding model made by finegrade", ""]
    lines += [f"- {for_markdown(line)}" for line in findings(run)]
    conditions = (
        f"{scores['queries']:,} queries, {scores['documents']:,} texts, {100 * scores['confidence']:g}% bootstrap "
        f"intervals over the queries, one training seed, {scores['steps']} steps of {scores['batch_size']}; "
        f"corpus {scores['corpus_hash']}."
    )
    lines += ["", *_table(scores), "", for_markdown(conditions), "", "```python", snippet, "```", "", RE_EMBED, ""]
    return "\n".join(lines)


def _table(scores: dict[str, Any]) -> list[str]:
    metrics = scores["metrics"]
    lines = ["| row | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    for row in scores["rows"]:
        found = [row["scores"].get(metric) for metric in metrics]
        cells = [f"{one['value']:.3f} [{one['low']:.3f}, {one['high']:.3f}]" if one else "–" for one in found]
        name = f"**{for_markdown(row['title'])}**" if row["name"] == FINEGRADE.name else for_markdown(row["title"])
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


_LEAKS_SHOWN = 20
_ASKING_STAGES = ("tasks", "queries", "synthesize", "verify")


def write_data_card(
    run: RunFolder, folder: Path, samples: Iterable[Sample], rows: Mapping[str, int], verified: bool
) -> None:
    """Writes ``README.md`` beside the data: counts of samples and of each file's ``rows``, and how prompts begin."""
    negatives: Counter[tuple[int, str]] = Counter()
    kinds: Counter[str] = Counter()
    for sample in samples:
        negatives.update((negative.rank, negative.source) for negative in sample.negatives)
        kinds[sample.kind or "pairs of the source"] += 1
    levels = [(f"{level} | {source}", number) for (level, source), number in sorted(negatives.items(), reverse=True)]
    made = run.record("synthesize")["details"]
    asked = {name: run.record(name)["details"] for name in _ASKING_STAGES if run.path(STAGES, f"{name}.json").is_file()}
    llm = f"the LLM was {for_markdown(made['model'])}, mode {made['mode']}"
    areas = [(name, value) for name, value in made["probe"].items() if value is not None]
    probe = "can a linear model recognise LLM-written texts? (0.5: no, 1: always)"
    lines = [
        *("---", "task_categories:", "- sentence-similarity", "- feature-extraction", "configs:"),
        *(f"- config_name: {Path(name).stem}\n  data_files: {name}" for name in rows),
        *("---", "", "# Graded negatives, made by finegrade", ""),
        f"finegrade {VERSION}; negatives {'verified' if verified else 'NOT verified'}; "
        f"{llm if made['orders'] else 'no LLM wrote any of them'}, "
        f"{made['levels']} levels (level {made['levels']} is the hardest, N1). "
        "What the run tests with is not in it.",
        "",
        *_counts_table("file", "rows", rows.items()),
        *_counts_table("kind", "samples", kinds.most_common()),
        *_counts_table("level | source", "negatives", levels),
        *_costs(asked),
        *_counts_table("set aside", "texts", made["set_aside"].items()),
        *(_verification(run) if verified else ()),
        *_counts_table(probe, "area under the ROC curve", areas),
        *("## Prompts", "", "What each kind of request begins with; the task, the texts and the draws follow.", ""),
        *(
            f"**{name}**: {for_markdown(text)}\n"
            for details in asked.values()
            for name, text in details.get("prompts", {}).items()
        ),
        *("## Licence", "", _licence(made), ""),
    ]
    with replacing(folder / "README.md") as path:
        path.write_text("\n".join(lines), encoding="utf-8")


def write_external_card(run: RunFolder, about: str, written: Iterable[Path]) -> None:
    """Writes ``README.md`` into the folder of a run that verified external training data; ``about`` says what it is."""
    made, decided = (run.record(stage)["details"] for stage in (EXTERNAL, "verify"))
    lines = [
        *("# Training data, verified by finegrade", "", f"finegrade {VERSION}. {for_markdown(about)}.", ""),
        *("Written:", "", *(f"- {for_markdown(str(path))}" for path in written), ""),
        *_counts_table("taken in", "number", [(name, made[name]) for name in ("rows", "negatives")]),
        *_counts_table("set aside", "rows", ((for_markdown(k), v) for k, v in made["passed_over"].items())),
        *_costs({"verify": decided}),
        *_verification(run),
        *_counts_table("why", "negatives", ((for_markdown(why), n) for why, n in decided["reasons"].items())),
    ]
    with replacing(run.path("README.md")) as path:
        path.write_text("\n".join(lines), encoding="utf-8")


def _verification(run: RunFolder) -> list[str]:
    """What verification decided and left out, and the evidence for some samples that are in a benchmark."""
    details = run.record("verify")["details"]
    rows = iterate_rows(run.path(LEFT_OUT), LeftOut)
    shown = list(islice((row for row in rows if row.reason.startswith(IN_BENCHMARK)), _LEAKS_SHOWN))
    evidence = [f"- {for_markdown(row.reason)}: {for_markdown(row.evidence)}" for row in shown]
    compared = [
        (f"{for_markdown(name)} | {role}", number)
        for name, counts in details.get("benchmarks", {}).items()
        for role, number in counts.items()
    ]
    return [
        *_counts_table("verification", "negatives", details["decisions"].items()),
        *_counts_table("samples left out", "samples", ((for_markdown(k), v) for k, v in details["left_out"].items())),
        *_counts_table("benchmark kept out | its texts", "number", compared),
        *(["What the first of them share with a benchmark:", "", *evidence, ""] if evidence else ()),
    ]


def _costs(asked: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Of all requests of the run folder, also those whose replies were set aside."""
    entries = []
    for stage, details in asked.items():
        if usage := details.get("usage"):
            tokens = f"{usage['prompt_tokens']:,} | {usage['completion_tokens']:,}"
            entries.append((f"{stage} | {usage['requests']:,} | {tokens}", usage["cost"] or "no prices named"))
    return _counts_table("stage | requests | tokens in | tokens out", "cost", entries)


def _counts_table(left: str, right: str, entries: Iterable[tuple[str, Any]]) -> list[str]:
    rows = [f"| {name} | {value if isinstance(value, str) else f'{value:,}'} |" for name, value in entries]
    if not rows:
        return []
    return [f"| {left} | {right} |", "|---" * (left.count("|") + 2) + "|", *rows, ""]


def _licence(made: Mapping[str, Any]) -> str:
    own = "Texts of the source's own documents and pairs keep their licence. finegrade claims no rights to them."
    if not made["orders"]:
        return own
    model = made["model"]
    known = f" ({CATALOGUE[model].licence})" if model in CATALOGUE else ""
    return (
        f"For texts that {for_markdown(model)} wrote, the terms of that model and its provider hold{known}. Some "
        f"forbid training other models on their output. {own}"
    )
