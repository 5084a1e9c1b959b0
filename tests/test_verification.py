"""The verify stage: negatives that are negative, levels in order, and a verdict for each."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.config_file import parse_config
from finegrade.errors import InputError
from finegrade.records import Negative, Sample, Verdict
from finegrade.row_files import read_rows, write_rows
from finegrade.store import SAMPLES, VERDICTS, VERIFIED, RunFolder
from finegrade.verification import (
    FALSE_NEGATIVE,
    NOT_FOR_SIBLING,
    OUT_OF_ORDER,
    accepted,
    apply_verdicts,
    count_verdicts,
    judge,
    verify,
)


class TableScorer:
    """Scores from a table; counts what it is asked."""

    def __init__(self, table):
        self.table, self.asked = table, []

    def scores(self, pairs):
        for pair in pairs:
            self.asked.append(pair)
            yield self.table[pair]


def sample(*negatives, name="1"):
    """A sample from (text, level) or (text, level, sibling)."""
    made = tuple(
        Negative(text=text, level=level, source="llm" if sibling else "mined", sibling=sibling[0] if sibling else None)
        for text, level, *sibling in negatives
    )
    return Sample(id=name, query="q", positive="p", negatives=made, group="g")


def judged(one, margin=1.0, **scores):
    """Verdicts by text; scores by text, those for the sibling query as text_s."""
    table = {("q", text): score for text, score in scores.items()}
    table |= {("s", text.removesuffix("_s")): score for text, score in scores.items() if text.endswith("_s")}
    return {verdict.text: verdict for verdict in judge([one], TableScorer(table), margin)}


def test_clear_negatives_in_order_are_kept():
    verdicts = judged(sample(("a", 1), ("b", 2), ("c", 3)), p=9, a=1, b=2, c=3)
    assert [(v.decision, v.level_after, v.reason) for v in verdicts.values()] == [
        ("kept", 1, ""), ("kept", 2, ""), ("kept", 3, ""),
    ]  # fmt: skip
    assert verdicts["b"].positive_score == 9
    assert verdicts["b"].score == 2


@pytest.mark.parametrize(("score", "dropped"), [(9.0, True), (8.01, True), (8.0, False), (7.9, False), (12.0, True)])
def test_negative_must_score_the_margin_below_the_positive(score, dropped):
    verdict = judged(sample(("a", 1)), margin=1.0, p=9.0, a=score)["a"]
    assert (verdict.decision == "dropped") == dropped
    assert verdict.reason == (FALSE_NEGATIVE if dropped else "")
    assert verdict.level_after == (None if dropped else 1)


@pytest.mark.parametrize(("for_sibling", "dropped"), [(2.0, True), (3.0, True), (3.1, False)])
def test_rewrite_must_answer_its_sibling_better_than_the_query(for_sibling, dropped):
    verdict = judged(sample(("a", 4, "s")), p=9.0, a=3.0, a_s=for_sibling)["a"]
    assert (verdict.decision == "dropped") == dropped
    assert verdict.reason == (NOT_FOR_SIBLING if dropped else "")
    assert verdict.sibling_score == for_sibling


def test_false_negative_comes_before_the_sibling_test():
    assert judged(sample(("a", 4, "s")), p=3.0, a=3.0, a_s=1.0)["a"].reason == FALSE_NEGATIVE


def test_mined_negatives_have_no_sibling_test():
    assert judged(sample(("a", 1)), p=9, a=3)["a"].sibling_score is None


def test_levels_out_of_order_are_dealt_out_again():
    verdicts = judged(sample(("a", 1), ("b", 2), ("c", 4)), p=9, a=3, b=2, c=1)
    assert [(v.level_before, v.level_after, v.decision) for v in verdicts.values()] == [
        (1, 4, "regraded"), (2, 2, "kept"), (4, 1, "regraded"),
    ]  # fmt: skip
    assert verdicts["a"].reason == verdicts["c"].reason == OUT_OF_ORDER


def test_dropped_negatives_take_no_part_in_the_order():
    verdicts = judged(sample(("a", 1), ("b", 2), ("c", 3)), p=5, a=1, b=9, c=2)
    assert [v.decision for v in verdicts.values()] == ["kept", "dropped", "kept"]


def test_equal_scores_change_no_level():
    assert {v.decision for v in judged(sample(("a", 1), ("b", 2)), p=9, a=1, b=1).values()} == {"kept"}


def test_each_pair_is_scored_once():
    samples = [sample(("a", 1), ("b", 2, "s")), sample(("a", 1), ("b", 2, "s"), name="2")]
    scorer = TableScorer({("q", "p"): 9, ("q", "a"): 1, ("q", "b"): 2, ("s", "b"): 5})
    assert len(judge(samples, scorer, 1.0)) == 4
    assert len(scorer.asked) == len(set(scorer.asked)) == 4


levels_and_scores = st.lists(st.tuples(st.floats(-10, 10), st.none() | st.floats(-10, 10)), max_size=4)
cases = st.lists(st.tuples(st.floats(-10, 10), levels_and_scores), max_size=5)


def build(cases):
    samples, table = [], {}
    for number, (positive, negatives) in enumerate(cases):
        table[f"q{number}", f"p{number}"] = positive
        made = []
        for i, (score, sibling) in enumerate(negatives):
            text = f"n{number}.{i}"
            table[f"q{number}", text] = score
            if sibling is not None:
                table[f"s{number}", text] = sibling
            name = None if sibling is None else f"s{number}"
            made.append(Negative(text=text, level=i + 1, source="mined", sibling=name))
        samples.append(
            Sample(id=str(number), query=f"q{number}", positive=f"p{number}", negatives=tuple(made), group="g")
        )
    return samples, TableScorer(table)


@settings(deadline=None)
@given(cases, st.floats(0, 5))
def test_every_negative_has_exactly_one_verdict(cases, margin):
    samples, scorer = build(cases)
    verdicts = judge(samples, scorer, margin)
    assert [(v.sample, v.text) for v in verdicts] == [(s.id, n.text) for s in samples for n in s.negatives]
    for verdict in verdicts:
        assert (verdict.decision == "dropped") == (verdict.level_after is None)
        assert (verdict.decision == "kept") == (verdict.reason == "")
        assert (verdict.decision == "kept") == (verdict.level_after == verdict.level_before)


@settings(deadline=None)
@given(cases, st.floats(0, 5))
def test_what_stays_rises_with_the_score_and_has_the_levels_it_had(cases, margin):
    samples, scorer = build(cases)
    verdicts = judge(samples, scorer, margin)
    result = apply_verdicts(samples, verdicts)
    assert [s.id for s in result] == [s.id for s in samples]
    for before, after in zip(samples, result, strict=True):
        scores = [scorer.table[before.query, n.text] for n in after.negatives]
        assert scores == sorted(scores)
        stayed = {n.text for n in after.negatives}
        assert [n.level for n in after.negatives] == sorted(n.level for n in before.negatives if n.text in stayed)
        assert all(score <= scorer.table[before.query, before.positive] - margin for score in scores)
        others = {"negatives": ()}
        assert after.model_copy(update=others) == before.model_copy(update=others)
        siblings = {n.text: (n.source, n.sibling) for n in before.negatives}
        assert all((n.source, n.sibling) == siblings[n.text] for n in after.negatives)


@settings(deadline=None)
@given(cases, st.floats(0, 5))
def test_counts_count_every_verdict(cases, margin):
    samples, scorer = build(cases)
    verdicts = judge(samples, scorer, margin)
    counts = count_verdicts(verdicts)
    assert sum(counts["decisions"].values()) == len(verdicts)
    assert sum(counts["reasons"].values()) == sum(v.decision != "kept" for v in verdicts)
    by_source = Counter()
    for decisions in counts["by_source"].values():
        by_source.update(decisions)
    assert dict(by_source) == counts["decisions"]
    assert accepted(counts["decisions"]) == sum(v.level_after is not None for v in verdicts)


@pytest.fixture
def run(tmp_path):
    """A run folder whose synthesize stage is done."""
    run = RunFolder(tmp_path / "run")
    with run.stage("synthesize", {}) as stage:
        write_rows(run.path(SAMPLES), [sample(("a", 1), ("b", 2), ("c", 4, "s"))], Sample)
        stage.finish([run.path(SAMPLES)], {})
    return run


TABLE = {("q", "p"): 9.0, ("q", "a"): 2.0, ("q", "b"): 1.0, ("q", "c"): 8.9, ("s", "c"): 9.0}


def config(**verification):
    return parse_config({"source": {"kind": "python-docs"}, "verification": verification}, "test")


def test_stage_writes_samples_verdicts_and_counts(run, monkeypatch, capsys):
    monkeypatch.setattr("finegrade.verification.load_cross_encoder", lambda name, length: TableScorer(TABLE))
    verify(config(), run)
    (left,) = read_rows(run.path(VERIFIED), Sample)
    assert [(n.text, n.level) for n in left.negatives] == [("b", 1), ("a", 2)]
    assert [v.decision for v in read_rows(run.path(VERDICTS), Verdict)] == ["regraded", "regraded", "dropped"]
    details = run.record("verify")["details"]
    assert details["decisions"] == {"regraded": 2, "dropped": 1}
    assert details["by_source"]["llm"] == {"dropped": 1}
    assert "of 3 negatives 2 regraded, 1 dropped; written by the LLM and accepted: 0" in capsys.readouterr().err


def test_second_run_loads_no_scorer_and_another_margin_does(run, monkeypatch):
    loaded = []
    monkeypatch.setattr(
        "finegrade.verification.load_cross_encoder", lambda *given: (loaded.append(given), TableScorer(TABLE))[1]
    )
    verify(config(), run)
    verify(config(), run)
    assert loaded == [("reranker-en", 192)]
    verify(config(margin=0.05), run)
    assert len(loaded) == 2


def test_sample_may_lose_all_its_negatives(run, monkeypatch):
    monkeypatch.setattr(
        "finegrade.verification.load_cross_encoder", lambda *given: TableScorer(dict.fromkeys(TABLE, 1.0))
    )
    verify(config(), run)
    assert [s.negatives for s in read_rows(run.path(VERIFIED), Sample)] == [()]


def test_scorer_that_is_none_is_one_line(run, tmp_path):
    (tmp_path / "bert").mkdir()
    (tmp_path / "bert" / "config.json").write_text('{"architectures": ["BertModel"]}')
    with pytest.raises(InputError, match="got BertModel; wanted a cross-encoder") as error:
        verify(config(scorer=str(tmp_path / "bert")), run)
    assert "\n" not in str(error.value)


def test_broken_onnx_scorer_is_one_line(run, tmp_path):
    (tmp_path / "onnx").mkdir()
    (tmp_path / "onnx" / "model.onnx").write_bytes(b"broken")
    (tmp_path / "onnx" / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"wanted a folder with tokenizer\.json and model\.onnx") as error:
        verify(config(scorer=str(tmp_path / "onnx")), run)
    assert "\n" not in str(error.value)


def test_needs_the_synthesize_stage(tmp_path):
    with pytest.raises(InputError, match="Run `finegrade synthesize` first"):
        verify(config(), RunFolder(tmp_path))


def test_what_the_llm_said_of_a_negative_stays_with_it(run, monkeypatch):
    monkeypatch.setattr("finegrade.verification.load_cross_encoder", lambda *given: TableScorer(TABLE))
    told = Negative(text="a", level=3, source="llm", flaw="another year")
    with run.stage("synthesize", {}) as stage:
        write_rows(run.path(SAMPLES), [sample().model_copy(update={"negatives": (told,)})], Sample)
        stage.finish([run.path(SAMPLES)], {})
    verify(config(), run)
    assert [s.negatives for s in read_rows(run.path(VERIFIED), Sample)] == [(told,)]
