"""The report stage: one self-contained HTML file about a run, and a smaller one about verification alone.

Whatever a model or a file wrote is escaped by the template; the page's policy forbids scripts and outside requests.
"""

import json
import platform
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

from markupsafe import Markup

from finegrade.config import Config, SourceConfig
from finegrade.records import LeftOut, Sample, Verdict
from finegrade.report.cards import CARD, write_card
from finegrade.report.charts import level_name, levels_chart, loss_chart, scores_chart
from finegrade.report.html import render_page
from finegrade.report.summary import RE_EMBED, findings, load_snippet
from finegrade.storage.atomic import read_json, replacing
from finegrade.storage.run_folder import (
    LEFT_OUT,
    MODEL,
    REPORT,
    SAMPLES,
    SCORES,
    SET_ASIDE,
    VERDICTS,
    VERIFICATION_REPORT,
    VERIFIED,
    RunFolder,
)
from finegrade.storage.tables import iterate_rows
from finegrade.training.variants import FINEGRADE, trained_rows
from finegrade.verification.findings import DRAWN, Findings, beside_their_samples, find

_VERSIONS = (
    "finegrade", "sentence-transformers", "transformers", "torch", "datasets", "bm25s", "onnxruntime", "xllamacpp",
)  # fmt: skip
_SET_ASIDE_SHOWN = _LEFT_OUT_SHOWN = 12


def make_report(run: RunFolder, config: Config) -> None:
    """Writes ``report.html``, which shows the whole configuration, and ``README.md`` into the model's folder."""
    details = [run.record(name)["details"] for name in _before_verification(config.source)]
    settings = {"config": config.model_dump(mode="json"), "told": details}
    with run.stage("report", settings, after=["synthesize", "verify", "evaluate"]) as stage:
        if stage.done:
            return
        _write_page(run.path(REPORT), _facts(run, config))
        write_card(run)
        stage.finish([run.path(REPORT), run.path(CARD)], {})


def write_verification_report(run: RunFolder, levels: int) -> Path:
    """Writes ``verification.html``, the part of the report that needs no stage but verify, and returns its path."""
    path = run.path(VERIFICATION_REPORT)
    found = find(iterate_rows(run.path(VERDICTS), Verdict))
    _write_page(path, _verification_facts(run, levels, found))
    return path


def _write_page(path: Path, facts: dict[str, Any]) -> None:
    """Its template has the page's name."""
    html = render_page(path.name, facts)
    with replacing(path) as temporary:
        temporary.write_text(html, encoding="utf-8")


def _verification_facts(run: RunFolder, levels: int, found: Findings) -> dict[str, Any]:
    before, after = ({level: one.values for level, one in side.items()} for side in (found.before, found.after))
    return {
        "verification": run.record("verify")["details"],
        "found": found,
        "drawn": DRAWN,
        "levels_chart": Markup(levels_chart(before, after, levels)),
        "disputed": beside_their_samples(found.disputed, iterate_rows(run.path(SAMPLES), Sample)),
        "left_out": list(islice(iterate_rows(run.path(LEFT_OUT), LeftOut), _LEFT_OUT_SHOWN)),
        "level_name": lambda level: level_name(int(level), levels),
    }


def _facts(run: RunFolder, config: Config) -> dict[str, Any]:
    found = find(iterate_rows(run.path(VERDICTS), Verdict), config.seed)
    training = run.record(FINEGRADE.stage)["details"]
    scores = read_json(run.path(SCORES))
    return _verification_facts(run, config.synthesis.levels, found) | {
        "findings": findings(run),
        "scores": scores,
        "scores_chart": Markup(scores_chart(scores, FINEGRADE.name)),
        "loss_chart": Markup(loss_chart(training["steps"])),
        "synthesis": run.record("synthesize")["details"],
        "source_counts": _source_counts(run, config.source),
        "seeds": run.record("seeds")["details"],
        "stages": _stages(run, config),
        "samples": _samples(run, found),
        "set_aside": _set_aside(run),
        "snippet": load_snippet(run.path(MODEL)),
        "re_embed": RE_EMBED,
        "versions": {"python": platform.python_version()} | {n: version(n) for n in _VERSIONS} | training["versions"],
        "machine": f"{platform.system()} {platform.machine()}",
        "config": config.model_dump_json(indent=1, exclude={"llm": {"api_key_env"}}),
    }


def _source_counts(run: RunFolder, source: SourceConfig) -> dict[str, dict[str, int]]:
    """What was read and written before there were seeds, and what of it was left out."""
    if source.is_tasks:
        tasks = run.record("tasks")["details"]
        return {"tasks": tasks["kinds"], "tasks set aside": tasks["set_aside"]}
    if not source.has_documents:
        return {}
    documents, queries = run.record("documents")["details"], run.record("queries")["details"]
    return {
        "documents": documents["counts"],
        "files of other formats": documents["passed_over"],
        "queries set aside": queries["set_aside"],
        "queries kept": queries["styles"],
    }


def _before_verification(source: SourceConfig) -> list[str]:
    first = ["tasks"] if source.is_tasks else ["documents", "queries"] if source.has_documents else []
    return [*first, "seeds", "synthesize"]


def _stages(run: RunFolder, config: Config) -> list[dict[str, Any]]:
    """Seconds and tokens of every stage; the control rows are stages of their own."""
    rows = trained_rows(config.training.controls)
    names = [*_before_verification(config.source), "verify", *(row.stage for row in rows)]
    names += ["score-bm25", "score-base", *(f"score-{row.name}" for row in rows), "evaluate"]
    records = {name: run.record(name) for name in names}
    return [
        {"name": name, "seconds": record["seconds"], "usage": record["details"].get("usage", {})}
        for name, record in records.items()
    ]


def _samples(run: RunFolder, found: Findings) -> list[dict[str, Any]]:
    """Samples to read, with what was decided on each of their negatives, hardest first."""
    judged = {verdicts[0].sample: verdicts for verdicts in found.to_read}
    samples = {sample.id: sample for sample in iterate_rows(run.path(VERIFIED), Sample) if sample.id in judged}
    return [
        {"sample": samples[name], "verdicts": sorted(judged[name], key=lambda v: -(v.level_before or 0))}
        for name in judged
        if name in samples
    ]


def _set_aside(run: RunFolder) -> list[dict[str, Any]]:
    with run.path(SET_ASIDE).open(encoding="utf-8", newline="\n") as lines:  # str.splitlines would cut at U+2028 too
        return [json.loads(line) for line in islice(lines, _SET_ASIDE_SHOWN)]
