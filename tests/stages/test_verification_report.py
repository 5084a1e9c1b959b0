"""What verification found, on a page of its own: from the verify stage alone, and whatever the texts say."""

import pytest

from finegrade.cli.verify_input import verify_external
from finegrade.config.toml import plain_config
from finegrade.errors import InputError
from finegrade.records import IN_BENCHMARK, LeftOut, Sample, ScorerResult, Verdict
from finegrade.report.charts import levels_chart
from finegrade.stages.pipeline import run_stage
from finegrade.stages.report import write_verification_report
from finegrade.stages.verify import verify_samples
from finegrade.storage.run_folder import EXTERNAL, LEFT_OUT, SAMPLES, VERDICTS, VERIFICATION_REPORT, RunFolder
from finegrade.storage.tables import write_rows
from finegrade.verification.rules import FALSE_NEGATIVE
from helpers.pages import IMAGE, SCRIPT, Page, hostile
from helpers.verification import ROWS, Words, flag_embedding, sample

CONFIG = plain_config()
LONG = "long " * 2_000


def made_run(folder, verdicts, samples=(), left_out=(), **details):
    """A run folder as the verify stage leaves it, and nothing else."""
    run = RunFolder(folder)
    write_rows(run.path(VERDICTS), verdicts, Verdict)
    write_rows(run.path(SAMPLES), samples, Sample)
    write_rows(run.path(LEFT_OUT), left_out, LeftOut)
    with run.stage("verify", {}) as stage:
        counts = {"decisions": {}, "reasons": {}, "by_source": {}, "scorers": {}}
        stage.finish([], counts | {"left_out": {row.reason: 1 for row in left_out}} | details)
    return run


def page_of(run):
    return Page(write_verification_report(run, 4).read_text(encoding="utf-8"))


def verdict(score=0.5, **changes):
    results = (ScorerResult(scorer="one", positive=1.0, score=score, sibling=None, raw=score),)
    made = Verdict(
        sample="1", text="a text", source="external", level_before=None, level_after=2, decision="kept", reason="",
        positive_score=1.0, score=score, sibling_score=None, results=results,
    )  # fmt: skip
    return made.model_copy(update=changes)


def folded(page):
    return " ".join(page.text.split())


@pytest.fixture
def scorers(monkeypatch):
    monkeypatch.setattr("finegrade.verification.ensemble.load_scorer", lambda name, length: Words())


def test_data_of_others_get_their_rate_of_false_negatives_and_the_disputed_ones(tmp_path, scorers):
    rows = [*ROWS, ("query 20", "answer 20", ["same 20 text", "answer 20", "far 20 text"])]
    run = RunFolder(tmp_path / "run")
    data, alone = flag_embedding(tmp_path / "data.jsonl", rows), plain_config(["verification.committee=[]"])
    verify_external(data, tmp_path / "out.jsonl", alone, run.root, lambda run, ahead: None)
    page = page_of(run)
    assert "external none 23 1 1 0 8.7 %" in folded(page)
    assert "verification negatives kept 21 dropped 2 — scores too near to the positive 1 — is the positive 1" in folded(
        page
    )
    first = page.text[page.text.index("The most disputed") :]
    assert first.index("answer 20") < first.index("same 20 text") < first.index("near 0 text")
    assert page.tags.count("svg") == 1
    assert page.tags.count("details") == 20


def test_finegrade_verify_says_where_the_page_is(tmp_path, scorers, monkeypatch, capsys):
    run = RunFolder(tmp_path / "run")
    made = made_run(run.root, [verdict()], [sample(1)])
    monkeypatch.setattr("finegrade.stages.pipeline.stage_order", lambda config: ("verify",))
    monkeypatch.setattr("finegrade.stages.pipeline.call_stage", lambda name, config, run: None)
    run_stage("verify", CONFIG, made)
    assert f"verify: what it found: {run.path(VERIFICATION_REPORT)}" in capsys.readouterr().err.replace("\n", "")
    assert "</html>" in run.path(VERIFICATION_REPORT).read_text(encoding="utf-8")


@pytest.mark.slow
def test_a_page_goes_when_the_verdicts_do_that_it_tells_of(tmp_path, scorers):
    run = RunFolder(tmp_path / "run")
    data = flag_embedding(tmp_path / "data.jsonl", ROWS)
    alone = plain_config(["verification.committee=[]"])

    def verify(config):
        verify_samples(
            run, verification=config.verification, llm=config.llm, levels=4, seed=config.seed, after=EXTERNAL
        )

    verify_external(data, tmp_path / "out.jsonl", alone, run.root, lambda run, ahead: None)
    verify(alone)
    page = write_verification_report(run, 4)
    verify(alone)
    assert page.exists()
    verify(plain_config(["verification.committee=[]", "verification.margin=0.2"]))
    assert not page.exists()


def test_order_is_shown_scorer_by_scorer(tmp_path):
    def seen(level, after, own, other):
        results = tuple(
            ScorerResult(scorer=name, positive=1.0, score=score, sibling=None, raw=score)
            for name, score in (("deciding", own), ("heard", other))
        )
        return verdict(source="mined", level_before=level, level_after=after, results=results)

    text = folded(page_of(made_run(tmp_path, [seen(1, 2, 0.5, 0.1), seen(2, 1, 0.2, 0.3)], [sample(1)])))
    assert "deciding 100.0 % 1 0.0 % 1 heard 0.0 % 1 100.0 % 1" in text
    assert "by construction" in text


def test_scores_that_are_no_number_are_counted_and_spoil_nothing(tmp_path):
    rows = [verdict(source="mined", level_before=2, score=score) for score in (0.1, float("nan"), 0.2, 0.3)]
    page = page_of(made_run(tmp_path, rows, [sample(1)]))
    assert "1 negatives have a score that is no number" in folded(page)
    assert page.tags.count("details") == 3
    assert page.tags.count("svg") == 1
    assert not [value for name, value in page.attributes if name == "d" and "nan" in value]


def test_nothing_to_show_is_a_page_too(tmp_path):
    page = page_of(made_run(tmp_path, []))
    assert "svg" not in page.tags
    assert levels_chart({}, {}, 4) == ""


def test_without_the_verify_stage_there_is_no_page(tmp_path):
    run = RunFolder(tmp_path)
    with pytest.raises(InputError):
        write_verification_report(run, 4)
    assert not run.path(VERIFICATION_REPORT).exists()


def made_of(name):
    """A run folder with such a text wherever text can be."""
    results = (
        ScorerResult(scorer=name("scorer"), positive=1.0, score=0.5, sibling=0.1, raw=2.0, reason=name("opinion")),
        ScorerResult(scorer=name("other"), positive=1.0, score=0.7, sibling=None, raw=2.0, reason=name("otheropinion")),
    )
    row = verdict(text=name("negative"), reason=name("reason"), decision="dropped", results=results)
    asked = sample(1).model_copy(update={"query": name("query"), "positive": name("positive")})
    gone = LeftOut(
        sample="2", query=name("leftquery"), positive=name("leftpositive"), evidence=name("evidence"),
        reason=f"{IN_BENCHMARK} {name('benchmark')}",
    )  # fmt: skip
    return {
        "verdicts": [row], "samples": [asked], "left_out": [gone],
        "decisions": {name("decision"): 1}, "reasons": {name("count"): 1, FALSE_NEGATIVE: 2},
        "by_source": {name("source"): {"kept": 1}}, "scorers": {name("scale"): {"zero": 0, "one": 1, "told_apart": 1}},
    }  # fmt: skip


def test_hostile_text_stays_text_wherever_it_stands(tmp_path):
    names = []
    run = made_run(tmp_path, **made_of(lambda name: names.append(name) or hostile(name)))
    page = page_of(run)
    html = run.path(VERIFICATION_REPORT).read_text(encoding="utf-8")
    assert SCRIPT not in html
    assert IMAGE not in html
    assert not {"script", "img"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    for name in names:
        assert hostile(name) in page.text, name
    assert "default-src 'none'; style-src 'unsafe-inline'" in html


def test_long_text_is_cut_wherever_it_stands(tmp_path):
    page = page_of(made_run(tmp_path, **made_of(lambda name: f"{name} {LONG}")))
    assert max(len(line) for line in page.text.split("\n")) < 1_500
