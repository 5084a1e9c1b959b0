"""The report is one file that shows everything and runs nothing, whatever an LLM or a corpus wrote."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from finegrade.config import Config
from finegrade.report.cards import CARD
from finegrade.report.summary import TEST_QUERIES, load_snippet, print_summary
from finegrade.stages.pipeline import write_report
from finegrade.storage.atomic import write_json
from finegrade.storage.run_folder import (
    MODEL,
    REPORT,
    SCORES,
    RunFolder,
)
from helpers.pages import (  # noqa: F401  (fixtures)
    SCRIPT,
    Page,
    config,
    hostile,
    html,
    interval,
    made_scores,
    run,
    whole,
    write_set_aside,
)

MARK = re.compile(r"\b(zz\w+)")


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
    assert "proves that the road works" in first
    assert [f"finegrade {told} " in first for told in ("is above", "is below", "cannot be told from")] == [True] * 3
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
    for told in (
        "4,321",
        "1,234",
        "sentence-transformers 6",
        "torch 2.0-of-training",
        "corpus abcdef",
        "train-finegrade",
        "score-bm25",
    ):
        assert told in text


def test_the_name_of_the_keys_variable_is_not_told(run: RunFolder) -> None:
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
    told = capsys.readouterr().err
    assert "synthetic queries" in told
    assert "8 of your own queries, judged by the scorer" in told


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
