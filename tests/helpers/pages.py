"""Reads HTML pages, and texts that would break them."""

from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

import finegrade.stages.report
from finegrade.config import Config
from finegrade.records import LeftOut, Negative, Opinion, Sample, SetAside, Verdict
from finegrade.stages.report import write_report
from finegrade.storage.atomic import write_json
from finegrade.storage.run_folder import (
    LEFT_OUT,
    REPORT,
    SAMPLES,
    SCORES,
    SET_ASIDE,
    VERDICTS,
    VERIFIED,
    RunFolder,
)
from finegrade.storage.tables import write_rows
from finegrade.training.variants import TRAINED_ROWS

SCRIPT, IMAGE = "<script>alert(1)</script>", '"><img src=x onerror=alert(2)>'


HOSTILE = f"{SCRIPT} {IMAGE} {{{{ 7 * 7 }}}} </td></pre></svg><svg/onload=alert(3)> ]]> 'x"


def hostile(name: str) -> str:
    """A hostile text that can be told from the others."""
    return f"zz{name} {HOSTILE}"


def made_sample() -> tuple[Sample, list[Verdict]]:
    negatives = [(4, "llm", "dropped"), (3, "mined", "regraded"), (2, "mined", "kept"), (1, "random", "kept")]
    sample = Sample(
        id="s",
        query=hostile("query"),
        positive=hostile("positive"),
        negatives=tuple(Negative(text=hostile(f"negative{n}"), level=n, source="mined") for n in (1, 2, 4)),
        group=hostile("group"),
    )
    verdicts = [
        Verdict(
            sample="s",
            text=hostile(f"negative{level}"),
            source=source,  # type: ignore[arg-type]
            level_before=level,
            level_after={"dropped": None, "regraded": 4, "kept": level}[decision],
            decision=decision,  # type: ignore[arg-type]
            reason="" if decision == "kept" else hostile(f"reason{level}"),
            positive_score=2.0,
            score=level / 4,
            sibling_score=1.5 if source == "llm" else None,
            opinions=tuple(
                Opinion(
                    scorer=hostile("scorer"),
                    positive=2.0,
                    score=score,
                    sibling=None,
                    raw=score,
                    reason=hostile("opinion"),
                )
                for score in (level / 4, level / 2)
            ),
        )
        for level, source, decision in negatives
    ]
    return sample, verdicts


def interval(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.1, "high": value + 0.05}


def made_scores() -> dict[str, Any]:
    names = ["bm25", "base", "in-batch-mean", "in-batch-anchor", "mined-mean", "finegrade"]
    metrics = ["nDCG@10", "Recall@1", "MRR"]
    rows = [
        {"name": n, "title": hostile(n.replace("-", "")), "scores": {m: interval(0.5) for m in metrics}} for n in names
    ]
    differences = [
        {"name": n, "title": f"finegrade − {hostile('other' + n[:2])}", "scores": {m: interval(value) for m in metrics}}
        for n, value in zip(names[:3], (0.3, -0.2, 0.01), strict=True)
    ]
    return {
        "metrics": metrics, "queries": 12, "documents": 34, "confidence": 0.95, "resamples": 100, "rows": rows,
        "differences": differences, "corpus_hash": "abcdef", "test_groups": [hostile("testgroup")], "seed": 0,
        "steps": 4, "batch_size": 8, "max_length": 99, "test_queries": "", "own": None,
    }  # fmt: skip


def make_run(folder: Path) -> RunFolder:
    """A run folder as evaluate leaves it, with hostile text wherever text can be."""
    run = RunFolder(folder)
    sample, verdicts = made_sample()
    usage = {"requests": 9, "replies": 9, "prompt_tokens": 4321, "completion_tokens": 1234, "seconds": 6.0}
    steps = [{"step": i, "level": i, "loss": 1.0 / i, "learning_rate": 1e-4} for i in range(1, 5)]
    trained = {"steps": steps, "rows_llm": 3, "rows": 32, "versions": {"torch": "2.0-of-training"}}
    details: dict[str, dict[str, Any]] = {
        "seeds": {"counts": {hostile("count"): 5}, "corpus_hash": "abcdef", "test_groups": [hostile("testgroup")]},
        "synthesize": {
            "set_aside": {hostile("why"): 2},
            "usage": usage,
            "samples": 1,
            "negatives": {},
            "probe": {"one": 0.75, "other": None},
        },
        "verify": {
            "decisions": {"kept": 6, "regraded": 2, "dropped": 2},
            "reasons": {hostile("reasoncount"): 2},
            "by_source": {"llm": {"kept": 1, "regraded": 1, "dropped": 2}, "mined": {"kept": 5, "regraded": 1}},
            "left_out": {hostile("leftoutcount"): 1},
            "scorers": {hostile("scale"): {"zero": -11.0, "one": 4.0, "told_apart": 0.99}},
        },
        **{row.stage: trained for row in TRAINED_ROWS},
        **{f"score-{name}": {} for name in ("bm25", "base", *(row.name for row in TRAINED_ROWS))},
        "evaluate": {},
    }
    write_rows(run.path(VERIFIED), [sample], Sample)
    write_rows(run.path(VERDICTS), verdicts, Verdict)
    write_rows(run.path(SAMPLES), [sample], Sample)
    left_out = {name: hostile(f"left{name}") for name in ("query", "positive", "reason", "evidence")}
    write_rows(run.path(LEFT_OUT), [LeftOut(sample="other", **left_out)], LeftOut)
    write_json(run.path(SCORES), made_scores())
    write_set_aside(run, hostile("reply"))
    for name, value in details.items():
        with run.stage(name, {}) as stage:
            stage.finish([], value)
    return run


def write_set_aside(run: RunFolder, reply: str) -> None:
    row = SetAside(order="s", query=hostile("asked"), level=4, reason=hostile("refused"), text=reply)
    run.path(SET_ASIDE).write_text(row.model_dump_json() + "\n", encoding="utf-8")


@pytest.fixture(scope="module")
def config() -> Config:
    return Config.model_validate({"source": {"path": f"/{HOSTILE}.jsonl"}, "llm": {"model": hostile("model")}})


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory, config: Config) -> RunFolder:
    """A run with its report."""
    run = make_run(tmp_path_factory.mktemp("run"))
    write_report(config, run)
    return run


@pytest.fixture
def html(whole: RunFolder) -> str:
    return whole.path(REPORT).read_text(encoding="utf-8")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunFolder:
    """A run whose report has no charts, which take a while to draw."""
    for name in ("scores_chart", "levels_chart", "loss_chart"):
        monkeypatch.setattr(finegrade.stages.report, name, lambda *_: "")
    return make_run(tmp_path / "run")


class Page(HTMLParser):
    """What a browser would see."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_data(self, data: str) -> None:
        self.text += f"\n{data}"
