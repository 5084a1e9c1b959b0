"""The model card: what the saved model is, how it scored and on what, how to load it."""

from typing import Any

from finegrade.storage.atomic import read_json, replacing
from finegrade.storage.run_folder import MODEL, SCORES, RunFolder
from finegrade.summary import RE_EMBED, findings, load_snippet
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
    lines += [
        "",
        *_table(scores),
        "",
        for_markdown(_conditions(scores)),
        "",
        "```python",
        snippet,
        "```",
        "",
        RE_EMBED,
        "",
    ]
    return "\n".join(lines)


def _table(scores: dict[str, Any]) -> list[str]:
    metrics = scores["metrics"]
    lines = ["| row | " + " | ".join(metrics) + " |", "|---" * (len(metrics) + 1) + "|"]
    for row in scores["rows"]:
        cells = [_cell(row["scores"].get(metric)) for metric in metrics]
        name = f"**{for_markdown(row['title'])}**" if row["name"] == FINEGRADE.name else for_markdown(row["title"])
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
    return lines


def _cell(found: dict[str, float] | None) -> str:
    return f"{found['value']:.3f} [{found['low']:.3f}, {found['high']:.3f}]" if found else "–"


def _conditions(scores: dict[str, Any]) -> str:
    return (
        f"{scores['queries']:,} queries, {scores['documents']:,} texts, {100 * scores['confidence']:g}% bootstrap "
        f"intervals over the queries, one training seed, {scores['steps']} steps of {scores['batch_size']}; "
        f"corpus {scores['corpus_hash']}."
    )
