"""The report is one file that shows everything and runs nothing, whatever an LLM or a corpus wrote."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

import finegrade.stages.report
from finegrade.config import Config
from finegrade.records import LeftOut, Negative, Sample, ScorerResult, SetAside, Verdict
from finegrade.report.cards import CARD
from finegrade.report.summary import TEST_QUERIES, load_snippet, print_summary
from finegrade.stages.pipeline import write_report
from finegrade.storage.atomic import write_json
from finegrade.storage.run_folder import (
    LEFT_OUT,
    MODEL,
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
from helpers.pages import HOSTILE, SCRIPT, Page, hostile

MARK = re.compile(r"\b(zz\w+)")


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
            results=tuple(
                ScorerResult(
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


@pytest.mark.slow
def test_hostile_text_stays_text_wherever_it_stands(html: str) -> None:
    page = Page(html)
    assert not {"script", "img", "iframe", "object", "embed", "link", "base", "form"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert SCRIPT not in html
    assert "<img" not in html
    for name in (
        "query", "positive", "group", "negative1", "negative2", "negative3", "negative4", "reason4", "reason3", "reply",
        "asked", "refused", "finegrade", "inbatchmean", "otherbm", "testgroup", "count", "why", "reasoncount", "model",
        "scorer", "opinion", "leftoutcount", "scale", "leftquery", "leftpositive", "leftreason", "leftevidence",
    ):  # fmt: skip
        shown = page.text[page.text.index(f"zz{name} ") :]
        if name == "model":  # JSON in the configuration
            assert json.loads(f'"{shown[: shown.index(chr(10))].rstrip(",").removesuffix(chr(34))}"') == hostile(name)
        else:
            assert shown.startswith(hostile(name)), name


@pytest.mark.slow
def test_every_place_of_hostile_text_is_checked(html: str) -> None:
    """A new place in the template shows up here until the list above knows it."""
    known = {"otherba", "otherin", "bm25", "base", "inbatchanchor", "minedmean"}
    listed = {
        "query", "positive", "group", "negative1", "negative2", "negative3", "negative4", "reason4", "reason3", "reply",
        "asked", "refused", "finegrade", "inbatchmean", "otherbm", "testgroup", "count", "why", "reasoncount", "model",
        "scorer", "opinion", "leftoutcount", "scale", "leftquery", "leftpositive", "leftreason", "leftevidence",
    }  # fmt: skip
    assert {name.removeprefix("zz") for name in MARK.findall(Page(html).text)} == listed | known


def test_the_file_loads_nothing_from_anywhere(html: str) -> None:
    page = Page(html)
    assert "default-src 'none'; style-src 'unsafe-inline'" in html
    loading = ("src", "href", "xlink:href", "action", "data", "poster", "srcset")
    assert [value for name, value in page.attributes if name in loading and not value.startswith("#")] == []
    styles = "".join(re.findall(r"<style.*?</style>", html, re.DOTALL))
    assert "@import" not in styles
    assert re.findall(r"url\((?!#)[^)]*\)", html) == []
    assert page.tags.count("svg") == 3


def test_levels_have_both_names(html: str) -> None:
    text = Page(html).text
    for level, name in ((4, "N1"), (3, "N2"), (2, "N3"), (1, "N4")):
        assert f"level {level} ({name})" in text
    assert "level 3 (N2) → 4" in text


def test_the_first_lines_say_what_share_an_llm_wrote_and_how_finegrade_stands(html: str) -> None:
    first = html[html.index("<ul>") : html.index("</ul>")]
    assert "An LLM wrote 2 of the 8 verified negatives (25.0%); 3 of the 32 training rows use one." in first
    assert "shows that the pipeline works" in first
    assert [
        f"finegrade {message} " in first for message in ("is above", "is below", "cannot be distinguished from")
    ] == [True] * 3
    assert "Every model reads the first 99 tokens" in first
    assert "nDCG@10 +0.300 [+0.200, +0.350] (95% interval)" in first


def test_the_report_ends_with_how_to_load_the_model_and_to_re_embed(html: str, whole: RunFolder) -> None:
    end = Page(html).text[-400:]
    assert load_snippet(whole.path(MODEL)) in end
    assert "Re-embed your index: old and new vectors do not mix." in end


def test_the_load_snippet_asks_for_trust_only_where_the_folder_has_code(tmp_path: Path) -> None:
    assert f"SentenceTransformer({str(tmp_path)!r})\n" in load_snippet(tmp_path)
    (tmp_path / "anchor_pooling.py").touch()
    assert f"SentenceTransformer({str(tmp_path)!r}, trust_remote_code=True)\n" in load_snippet(tmp_path)


def test_time_tokens_versions_and_corpus_are_there(html: str) -> None:
    text = Page(html).text
    for message in (
        "4,321",
        "1,234",
        "sentence-transformers 6",
        "torch 2.0-of-training",
        "corpus abcdef",
        "train-finegrade",
        "score-bm25",
    ):
        assert message in text


def test_the_name_of_the_keys_variable_is_not_shown(run: RunFolder) -> None:
    config = Config.model_validate({"source": {"path": "x"}, "llm": {"api_key_env": "MY_SECRET_VARIABLE"}})
    write_report(config, run)
    assert "MY_SECRET_VARIABLE" not in run.path(REPORT).read_text(encoding="utf-8")


@pytest.mark.parametrize("character", ["\u2028", "\u2029", "\x85", "\x0b", "\x1c", "\r", "\0"], ids=ascii)
def test_any_character_in_a_reply_can_be_shown(character: str, run: RunFolder, config: Config) -> None:
    write_set_aside(run, f"before{character}after")
    write_report(config, run)
    assert "after" in run.path(REPORT).read_text(encoding="utf-8")


def test_an_unchanged_report_is_kept(run: RunFolder, config: Config) -> None:
    write_report(config, run)
    written = run.path(REPORT).stat().st_mtime_ns
    write_report(config, run)
    assert run.path(REPORT).stat().st_mtime_ns == written
    run.path(REPORT).write_text("torn", encoding="utf-8")
    write_report(config, run)
    assert "</html>" in run.path(REPORT).read_text(encoding="utf-8")


def test_other_counts_of_an_earlier_stage_are_another_report(run: RunFolder, config: Config) -> None:
    write_report(config, run)
    record = json.loads(run.path("stages", "synthesize.json").read_text())
    record["details"]["set_aside"] = {"a reason that was not there": 12345}
    run.path("stages", "synthesize.json").write_text(json.dumps(record))
    write_report(config, run)
    assert "a reason that was not there" in run.path(REPORT).read_text(encoding="utf-8")


def synthetic(run: RunFolder) -> Config:
    """Makes the run one of documents, tested with queries that an LLM wrote; gives its configuration."""
    counts = {hostile("documentcount"): 7}
    details: dict[str, dict[str, Any]] = {
        "documents": {"counts": counts, "passed_over": {".png": 3}},
        "queries": {
            "set_aside": {"too long": 4}, "styles": {"keywords": 9},
            "usage": {"requests": 5, "replies": 5, "prompt_tokens": 1, "completion_tokens": 2},
        },
    }  # fmt: skip
    for name, value in details.items():
        with run.stage(name, {}) as stage:
            stage.finish([], value)
    own = [{"name": "finegrade", "title": "finegrade", "scores": {"judged nDCG@10": interval(0.6)}}]
    scores = made_scores() | {
        "test_queries": "synthetic",
        "own": {"queries": 12, "answered": 8, "rows": own},
        "test_groups": [f"group{i}" for i in range(30)],
    }
    write_json(run.path(SCORES), scores)
    return Config.model_validate({"source": {"kind": "documents", "path": "docs"}})


def test_scores_on_synthetic_queries_say_so_in_report_card_and_console(
    run: RunFolder, capsys: pytest.CaptureFixture[str]
) -> None:
    write_report(synthetic(run), run)
    page = Page(run.path(REPORT).read_text(encoding="utf-8")).text
    assert page.lstrip().partition("\n")[0]
    assert TEST_QUERIES["synthetic"] in page
    assert "12 held-out synthetic queries" in page
    assert "and 22 more" in page
    assert "8 of 12 queries have an answer in the pool" in page
    assert "zzdocumentcount" in page
    assert TEST_QUERIES["synthetic"].replace("(", "\\(") in run.path(CARD).read_text(encoding="utf-8")
    print_summary(run)
    message = capsys.readouterr().err
    assert "synthetic queries" in message
    assert "8 of your own queries, judged by the scorer" in message


def test_the_card_has_scores_and_no_text_of_the_user_s(run: RunFolder, config: Config) -> None:
    write_report(config, run)
    card = run.path(CARD).read_text(encoding="utf-8")
    assert "| row | nDCG@10 | Recall@1 | MRR |" in card
    assert "0.500 [0.400, 0.550]" in card
    assert "path/to/this/folder" in card
    assert str(run.root) not in card
    for name in ("query", "positive", "negative1", "group", "reply"):
        assert f"zz{name} " not in card
    assert "<script>" not in card
    assert "Re-embed your index" in card


def test_control_signs_do_not_reach_a_terminal(run: RunFolder, config: Config) -> None:
    write_set_aside(run, "red \x1b[31m and \x00 and \x9b")
    write_report(config, run)
    html = run.path(REPORT).read_bytes()
    assert not [sign for sign in (b"\x1b", b"\x00", "\x9b".encode()) if sign in html]
