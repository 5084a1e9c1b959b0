"""The findings of a run in words: the first lines of the report and the last ones of the console."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from finegrade.storage.atomic import read_json
from finegrade.storage.run_folder import MODEL, REPORT, SCORES, RunFolder
from finegrade.training.variants import FINEGRADE

TEST_QUERIES = {
    "synthetic": "Scores on synthetic queries: an LLM wrote them for chunks of documents that were held out.",
    "tasks": "Scores on synthetic queries: an LLM wrote them and their answers, for tasks that were held out.",
    "labelled": "Scores on your own labelled queries, for documents that were held out.",
}
"""Where test queries come from, if not from the source itself: printed with every score."""

RE_EMBED = "Re-embed your index: old and new vectors do not mix."
SMALL_RUN_ROWS = 20_000
"""Training rows below which a run shows that the pipeline works, not what the method is worth."""


def load_snippet(folder: Path) -> str:
    """Python that loads the trained model."""
    trust = ", trust_remote_code=True" if any(folder.glob("*.py")) else ""  # mean pooling needs no code of ours
    return (
        "from sentence_transformers import SentenceTransformer\n"
        f"model = SentenceTransformer({str(folder)!r}{trust})\n"
        'vectors = model.encode(["your text"])'
    )


def accepted(decisions: dict[str, int]) -> int:
    """Negatives that are kept, from counts by decision."""
    return decisions.get("kept", 0) + decisions.get("regraded", 0)


def findings(run: RunFolder) -> list[str]:
    """Sentences: the share of LLM-written texts, what the run can show, and finegrade against every other row."""
    scores, training = read_json(run.path(SCORES)), run.record(FINEGRADE.stage)["details"]
    verified = {source: accepted(found) for source, found in run.record("verify")["details"]["by_source"].items()}
    llm, all_of_them = verified.get("llm", 0), sum(verified.values())
    lines = [TEST_QUERIES[scores["test_queries"]]] if scores["test_queries"] else []
    lines.append(
        f"An LLM wrote {llm} of the {all_of_them:,} verified negatives ({llm / (all_of_them or 1):.1%}); "
        f"{training['rows_llm']} of the {training['rows']:,} training rows use one. The others come from the corpus."
    )
    if training["rows"] < SMALL_RUN_ROWS:
        lines.append(
            f"A run of {training['rows']:,} training rows shows that the pipeline works from end to end; it is too "
            "small to judge the method."
        )
    lines.append("One training seed: the intervals below cover the choice of test queries, not of the seed.")
    lines.append(f"Every model reads the first {scores['max_length']} tokens of a text, BM25 all of it.")
    for difference in scores["differences"]:
        lines.append(_compared(difference, scores["confidence"]))
    return lines


def _compared(difference: dict[str, Any], confidence: float) -> str:
    other = difference["title"].removeprefix("finegrade − ")
    found = difference["scores"]["nDCG@10"]
    if found["low"] > 0:
        verdict = "finegrade is above"
    elif found["high"] < 0:
        verdict = "finegrade is below"
    else:
        verdict = "finegrade cannot be distinguished from"
    interval = f"nDCG@10 {found['value']:+.3f} [{found['low']:+.3f}, {found['high']:+.3f}]"
    return f"{verdict} {other}: {interval} ({100 * confidence:g}% interval)."


def print_summary(run: RunFolder) -> None:
    """Prints the score table, the findings, and what to do next."""
    console = Console(stderr=True, highlight=False)
    scores = read_json(run.path(SCORES))
    console.print(_table(scores["rows"], scores["metrics"], scores["test_queries"]))
    if scores["own"]:
        console.print(f"{scores['own']['answered']} of your own queries, judged by the scorer:")
        console.print(_table(scores["own"]["rows"], ["judged nDCG@10"]))
    for line in findings(run):
        console.print(Text(line), soft_wrap=True)
    console.print()
    console.print(Text(load_snippet(run.path(MODEL))), soft_wrap=True)
    console.print(Text(RE_EMBED), soft_wrap=True)
    console.print(Text(f"report: {run.path(REPORT)}"), soft_wrap=True)


def _table(rows: list[dict[str, Any]], metrics: list[str], queries: str = "") -> Table:
    table = Table("row", *metrics, title=f"{queries} queries" if queries else None)
    for row in rows:
        cells = [f"{row['scores'][m]['value']:.3f}" if m in row["scores"] else "–" for m in metrics]
        table.add_row(Text(row["title"]), *cells)
    return table
