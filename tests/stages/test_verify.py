"""The verify stage: files, counts, who is asked, resuming, and one line for what is wrong."""

import json
from collections import Counter
from math import nan

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.config.toml import parse_config
from finegrade.errors import InputError
from finegrade.records import IN_BENCHMARK, LeftOut, Negative, Sample, Verdict
from finegrade.report.summary import accepted
from finegrade.stages.pipeline import call_stage
from finegrade.stages.verify import count_verdicts, in_parts
from finegrade.storage.run_folder import LEFT_OUT, SAMPLES, VERDICTS, VERIFIED, RunFolder
from finegrade.storage.tables import part_paths, read_rows, write_parts, write_rows
from finegrade.verification.rules import ANSWERS, FALSE_NEGATIVE, NOT_FOR_SIBLING, OUT_OF_ORDER, WEAK_POSITIVE
from helpers.verification import Words, made, sample  # noqa: F401  (fixtures)

PLAIN = [sample(number, ("far", 1), ("near", 2)) for number in range(10, 22)]
"""Enough to calibrate on: random texts are at 0, positives at 10."""


def make_run(folder, *samples):
    """A run folder whose synthesize stage is done."""
    run = RunFolder(folder)
    with run.stage("synthesize", {}) as stage:
        stage.finish(write_parts(run.path(SAMPLES), [*samples, *PLAIN], Sample, 7), {})
    return run


@pytest.fixture
def scorers(monkeypatch):
    """Name -> the scorer that is loaded for it; loaded anew each time."""
    loaded = {}
    monkeypatch.setattr(
        "finegrade.verification.ensemble.load_scorer", lambda name, length: loaded.setdefault((name, length), Words())
    )
    return loaded


def verify(config, run):
    call_stage("verify", config, run)


def config(**verification):
    """One scorer, if nothing else is said."""
    return parse_config({"source": {"kind": "python-docs"}, "verification": {"committee": [], **verification}}, "test")


def verdicts_of(run, number):
    return [v for v in read_rows(run.path(VERDICTS), Verdict) if v.sample == str(number)]


def test_stage_writes_samples_verdicts_and_counts(tmp_path, scorers, capsys):
    run = make_run(tmp_path, sample(1, ("near", 1), ("far", 2), ("same", 4)))
    verify(config(), run)
    left, *others = read_rows(run.path(VERIFIED), Sample)
    assert [(n.text, n.level) for n in left.negatives] == [("far 1 text", 1), ("near 1 text", 2)]
    assert others == PLAIN
    assert [(v.decision, v.reason) for v in verdicts_of(run, 1)] == [
        ("regraded", OUT_OF_ORDER), ("regraded", OUT_OF_ORDER), ("dropped", FALSE_NEGATIVE),
    ]  # fmt: skip
    details = run.record("verify")["details"]
    assert details["decisions"] == {"kept": 24, "regraded": 2, "dropped": 1}
    assert details["by_source"] == {"mined": {"kept": 24, "regraded": 2, "dropped": 1}}
    assert details["scorers"]["reranker-en"] == {"zero": 0.0, "one": 10.0, "told_apart": 1.0, "tried": 13}
    told = capsys.readouterr().err
    assert "reranker-en tells positives from random texts in 100% of 13 queries" in told
    assert "of 27 negatives 24 kept, 2 regraded, 1 dropped" in told


def test_a_verdict_holds_every_score(tmp_path, scorers):
    run = make_run(tmp_path, sample(1, ("near", 4, "mined", "sibling")))
    verify(config(committee=["another"]), run)
    (verdict,) = verdicts_of(run, 1)
    assert (verdict.positive_score, verdict.score, verdict.sibling_score) == (1.0, 0.5, 1.1)
    assert [(o.scorer, o.positive, o.score, o.sibling, o.raw) for o in verdict.results] == [
        ("reranker-en", 1.0, 0.5, 1.1, 5.0), ("another", 1.0, 0.5, 1.1, 5.0),
    ]  # fmt: skip


def test_a_rewrite_that_does_not_answer_its_sibling_goes(tmp_path, scorers):
    run = make_run(tmp_path, sample(1, ("near", 4, "mined", "query 99")))
    verify(config(), run)
    assert [v.reason for v in verdicts_of(run, 1)] == [NOT_FOR_SIBLING]


def test_a_text_that_answers_becomes_a_positive(tmp_path, scorers):
    run = make_run(tmp_path, sample(1, ("far", 1), ("better", 3)))
    verify(config(), run)
    assert [(v.decision, v.reason) for v in verdicts_of(run, 1)] == [("kept", ""), ("promoted", ANSWERS)]
    own, new = read_rows(run.path(VERIFIED), Sample)[:2]
    assert (own.positive, new.positive, new.query) == ("answer 1", "better 1 text", own.query)
    assert own.negatives == new.negatives


def test_a_weak_positive_takes_its_sample_along(tmp_path, scorers):
    weak = sample(1, ("far", 1), positive="weak")
    run = make_run(tmp_path, weak)
    verify(config(weakest_positive=0.1, committee=["another"]), run)
    (row,) = read_rows(run.path(LEFT_OUT), LeftOut)
    assert (row.sample, row.query, row.positive, row.reason) == ("1", weak.query, weak.positive, WEAK_POSITIVE)
    assert "scores 0.00 (reranker-en 0.00, another 0.00)" in row.evidence
    assert read_rows(run.path(VERIFIED), Sample) == PLAIN
    assert verdicts_of(run, 1) == []
    assert run.record("verify")["details"]["left_out"] == {WEAK_POSITIVE: 1}


def test_what_a_benchmark_holds_leaves_with_the_evidence(tmp_path, scorers):
    told = "which of the two wires has to be cut first before the clock comes to its end"
    leaking = sample(1, ("far", 1)).model_copy(update={"query": told})
    (tmp_path / "benchmark.jsonl").write_text(json.dumps({"query": told.upper()}) + "\n")
    run = make_run(tmp_path / "run", leaking)
    verify(config(benchmarks=[str(tmp_path / "benchmark.jsonl")]), run)
    (row,) = read_rows(run.path(LEFT_OUT), LeftOut)
    assert (row.sample, row.query) == ("1", told)
    assert "benchmark.jsonl" in row.reason
    assert told.upper() in row.evidence
    assert read_rows(run.path(VERIFIED), Sample) == PLAIN


def test_a_text_of_a_benchmark_is_not_promoted(tmp_path, scorers):
    tested = "better 1 text of the benchmark that nobody is to train on in any way at all"
    one = sample(1, ("far", 1))
    one = one.model_copy(update={"negatives": (*one.negatives, Negative(text=tested, level=2, source="mined"))})
    (tmp_path / "benchmark.jsonl").write_text(json.dumps({"positive": tested}) + "\n")
    for benchmarks, decision in (([], "promoted"), ([str(tmp_path / "benchmark.jsonl")], "dropped")):
        run = make_run(tmp_path / f"run {decision}", one)
        verify(config(benchmarks=benchmarks), run)
        (verdict,) = [v for v in verdicts_of(run, 1) if v.text == tested]
        assert verdict.decision == decision
        assert verdict.reason.startswith(IN_BENCHMARK if decision == "dropped" else ANSWERS)
        assert any(row.positive == tested for row in read_rows(run.path(VERIFIED), Sample)) == (decision == "promoted")
        counts = run.record("verify")["details"].get("benchmarks", {})
        assert [sum(roles.values()) for roles in counts.values()] == [1 for _ in benchmarks]


def test_samples_of_a_query_agree_on_what_is_false(tmp_path, scorers):
    first, second = sample(1, ("better", 1), ("near", 2)), sample(1, ("better", 1), positive="same")
    run = make_run(tmp_path, first, second.model_copy(update={"id": "2"}))
    verify(config(), run)
    samples = [one for one in read_rows(run.path(VERIFIED), Sample) if one.query == "query 1"]
    assert [one.positive for one in samples] == ["answer 1", "better 1 text", "same 1"]
    assert [[n.text for n in one.negatives] for one in samples] == [["near 1 text"], ["near 1 text"], []]


def test_the_second_are_asked_where_the_first_are_in_doubt(tmp_path, scorers):
    run = make_run(tmp_path, sample(1, ("far", 1), ("same", 3)))
    verify(config(second_opinion=["other"], doubt=0.2), run)
    asked = set(scorers["other", 192].asked)
    assert {("query 1", "answer 1"), ("query 1", "same 1 text")} <= asked
    assert ("query 1", "far 1 text") not in asked
    results = {v.text: [one.scorer for one in v.results] for v in verdicts_of(run, 1)}
    assert results == {"far 1 text": ["reranker-en"], "same 1 text": ["reranker-en", "other"]}


def test_a_cascade_asks_the_model_about_what_words_leave_open(tmp_path, scorers):
    def worded(number):
        query = f"query {number}"
        texts = [f"far {number} text", f"same {number} text with the {query}"]
        negatives = tuple(Negative(text=text, level=level, source="mined") for level, text in enumerate(texts, 1))
        return Sample(
            id=str(number),
            query=query,
            positive=f"answer {number} to the {query}",
            negatives=negatives,
            group=f"{number}",
        )

    run = RunFolder(tmp_path)
    with run.stage("synthesize", {}) as stage:
        stage.finish(write_parts(run.path(SAMPLES), map(worded, range(60, 72)), Sample, 7), {})
    verify(config(scorer="bm25", committee=[], second_opinion=["model"], doubt=0.15), run)
    assert {v.reason for v in verdicts_of(run, 60) if v.text.startswith("same")} == {FALSE_NEGATIVE}
    asked = {text for _, text in scorers["model", 192].asked}
    assert any(text.startswith("same") for text in asked)
    assert not any(text.startswith("far") for text in asked)


def test_nobody_loads_the_second_where_there_is_no_doubt(tmp_path, scorers):
    verify(config(second_opinion_written=["other", "llm"]), make_run(tmp_path))
    assert list(scorers) == [("reranker-en", 192)]


def test_second_run_loads_no_scorer_and_another_margin_scores_nothing_again(tmp_path, scorers):
    run = make_run(tmp_path)
    verify(config(), run)
    (asked,) = (len(scorer.asked) for scorer in scorers.values())
    scorers.clear()
    verify(config(), run)
    assert not scorers
    verify(config(margin=0.3), run)
    assert scorers["reranker-en", 192].asked == []
    verify(config(max_length=64), run)
    assert len(scorers["reranker-en", 64].asked) == asked


def test_each_pair_is_scored_once(tmp_path, scorers):
    run = make_run(tmp_path, *PLAIN)
    verify(config(), run)
    asked = scorers["reranker-en", 192].asked
    assert len(asked) == len(set(asked))


@pytest.fixture
def small_parts(monkeypatch):
    monkeypatch.setattr("finegrade.stages.verify.SAMPLES_A_PART", 5)


def written(run):
    """All that verification wrote for later stages."""
    folders = map(run.path, (VERIFIED, LEFT_OUT, VERDICTS))
    return {path: path.read_bytes() for folder in folders for path in part_paths(folder)}


def delete(path):
    path.unlink()


def junk(path):
    path.write_bytes(b"junk")


def junk_behind_the_rows(path):
    """A damage that a look at the schema does not show."""
    whole = path.read_bytes()
    path.write_bytes(b"PAR1" + b"x" * 40 + whole[44:])


@pytest.mark.parametrize("damage", [delete, junk, junk_behind_the_rows])
@pytest.mark.parametrize("name", [VERIFIED, LEFT_OUT, VERDICTS])
def test_a_part_is_made_again_of_which_a_file_is_gone_or_damaged_and_no_other(
    tmp_path, scorers, small_parts, made, name, damage
):
    run = make_run(tmp_path)
    verify(config(), run)
    whole, record = written(run), run.record("verify")
    assert len(whole) == 3 * 3
    damage(part_paths(run.path(name))[1])
    made.clear()
    verify(config(), run)
    assert made == [5]
    assert written(run) == whole
    again = run.record("verify")
    assert (again["outputs"], again["details"]) == (record["outputs"], record["details"])


@pytest.mark.parametrize("told", [None, "", "junk", "[]", "{}", '{"found": {}}'])
def test_a_part_is_made_again_whose_record_is_gone_or_damaged(tmp_path, scorers, small_parts, made, told):
    run = make_run(tmp_path)
    verify(config(), run)
    whole = written(run)
    run.path("stages", "verify.json").unlink()
    record = run.path(VERDICTS, "part-000001.json")
    record.unlink() if told is None else record.write_text(told)
    made.clear()
    verify(config(), run)
    assert made == [5]
    assert written(run) == whole


def test_files_that_another_run_left_in_a_part_are_not_taken_for_its_own(tmp_path, scorers, small_parts, made):
    """Begun with other rules, killed, and the old rules are back: the part's record is, one of its files is not."""
    run = make_run(tmp_path)
    verify(config(), run)
    whole = written(run)
    write_rows(part_paths(run.path(VERIFIED))[0], [], Sample)
    made.clear()
    verify(config(), run)
    assert made == [5]
    assert written(run) == whole


def test_where_all_parts_are_there_nothing_is_loaded_and_no_benchmark_is_read(
    tmp_path, scorers, small_parts, made, monkeypatch
):
    (tmp_path / "benchmark.jsonl").write_text(json.dumps({"query": "what is there to ask"}) + "\n")
    rules = config(benchmarks=[str(tmp_path / "benchmark.jsonl")])
    run = make_run(tmp_path / "run")
    verify(rules, run)
    record = run.record("verify")
    run.path("stages", "verify.json").unlink()
    scorers.clear()
    made.clear()
    monkeypatch.setattr("finegrade.stages.verify.benchmark_index", None)
    verify(rules, run)
    assert not scorers
    assert not made
    assert run.record("verify")["details"] == record["details"]


def test_the_record_tells_of_a_scorer_that_only_an_earlier_session_needed(tmp_path, scorers, small_parts):
    rules, run = config(second_opinion=["other"], doubt=0.2), make_run(tmp_path, sample(1, ("same", 3)))
    verify(rules, run)
    record = run.record("verify")
    assert list(record["details"]["scorers"]) == ["reranker-en", "other"]
    run.path("stages", "verify.json").unlink()
    part_paths(run.path(VERDICTS))[2].unlink()  # in which nothing is in doubt
    scorers.clear()
    verify(rules, run)
    assert list(scorers) == [("reranker-en", 192)]
    assert run.record("verify")["details"] == record["details"]


def test_parts_are_cut_by_samples_and_by_negatives(monkeypatch):
    monkeypatch.setattr("finegrade.stages.verify.SAMPLES_A_PART", 3)
    monkeypatch.setattr("finegrade.stages.verify.NEGATIVES_A_PART", 4)

    def parts(*negatives):
        made = (sample(number, *[("far", 1)] * many) for number, many in enumerate(negatives))
        return [[len(one.negatives) for one in part] for part in in_parts(made)]

    assert parts(1, 1, 1, 1, 1) == [[1, 1, 1], [1, 1]]
    assert parts(2, 2, 1, 3, 2, 0, 0) == [[2, 2], [1, 3], [2, 0, 0]]
    assert parts(0, 9, 1, 9) == [[0], [9], [1], [9]]
    assert parts(2, 2) == [[2, 2]]
    assert parts() == [[]]


def test_samples_of_a_query_that_follow_each_other_are_in_one_part(monkeypatch):
    monkeypatch.setattr("finegrade.stages.verify.SAMPLES_A_PART", 2)
    monkeypatch.setattr("finegrade.stages.verify.SAMPLES_TOGETHER", 4)

    def parts(queries):
        return [len(part) for part in in_parts(sample(0).model_copy(update={"query": query}) for query in queries)]

    assert parts("abbbc") == [4, 1]
    assert parts("aabcc") == [2, 3]
    assert parts("aaaaaaa") == [4, 3]  # not without end


def test_parts_that_were_cut_otherwise_are_made_again(tmp_path, scorers, made, monkeypatch):
    run = make_run(tmp_path)
    verify(config(), run)
    run.path("stages", "verify.json").unlink()
    made.clear()
    monkeypatch.setattr("finegrade.stages.verify.SAMPLES_A_PART", 5)
    verify(config(), run)
    assert made == [5, 5, 2]
    assert read_rows(run.path(VERIFIED), Sample) == PLAIN


@pytest.mark.parametrize("version", ["RULES", "SCORING", "prompt_version"])
def test_other_rules_scorers_or_prompts_verify_anew(tmp_path, scorers, made, monkeypatch, version):
    rules, run = config(second_opinion=["llm"], doubt=0.1), make_run(tmp_path)
    verify(rules, run)
    made.clear()
    monkeypatch.setattr(f"finegrade.stages.verify.{version}", (lambda: "new") if version == "prompt_version" else 99)
    verify(rules, run)
    assert made == [12]


def test_a_bad_benchmark_shows_before_a_scorer_is_loaded(tmp_path, scorers):
    with pytest.raises(InputError, match="the benchmark gone"):
        verify(config(benchmarks=["gone"]), make_run(tmp_path))
    assert not scorers


def test_parts_of_an_earlier_longer_run_go(tmp_path, scorers, small_parts):
    verify(config(), make_run(tmp_path, *(sample(number, ("far", 1)) for number in range(30, 42))))
    run = make_run(tmp_path)
    verify(config(), run)
    assert len(written(run)) == 3 * 3
    assert len(list(run.path(VERDICTS).iterdir())) == 2 * 3
    assert read_rows(run.path(VERIFIED), Sample) == PLAIN
    assert len(read_rows(run.path(VERDICTS), Verdict)) == 24


def test_sample_may_lose_all_its_negatives(tmp_path, scorers):
    run = make_run(tmp_path, sample(1, ("same", 4)))
    verify(config(), run)
    assert read_rows(run.path(VERIFIED), Sample)[0].negatives == ()


@pytest.mark.parametrize("name", ["bert", "onnx"])
def test_a_folder_that_is_no_scorer_is_one_line(tmp_path, name):
    folder = tmp_path / name
    folder.mkdir()
    if name == "bert":
        (folder / "config.json").write_text('{"architectures": ["BertModel"]}')
    else:
        (folder / "model.onnx").write_bytes(b"broken")
        (folder / "tokenizer.json").write_text("{}")
    wanted = {"bert": "got BertModel; wanted a cross-encoder", "onnx": r"wanted a folder with tokenizer\.json"}[name]
    with pytest.raises(InputError, match=wanted) as error:
        verify(config(scorer=str(folder)), make_run(tmp_path / "run"))
    assert "\n" not in str(error.value)


def test_too_few_samples_to_calibrate_on_are_one_line(tmp_path, scorers, monkeypatch):
    monkeypatch.setitem(globals(), "PLAIN", PLAIN[:3])
    with pytest.raises(InputError, match="calibration of reranker-en: got 3 samples; wanted at least 8"):
        verify(config(), make_run(tmp_path))


def test_needs_the_synthesize_stage(tmp_path):
    with pytest.raises(InputError, match="Run `finegrade synthesize` first"):
        verify(config(), RunFolder(tmp_path))


def test_what_the_llm_said_of_a_negative_stays_with_it(tmp_path, scorers):
    told = Negative(text="far 1 text", level=3, source="mined", flaw="another year")
    run = make_run(tmp_path, sample(1).model_copy(update={"negatives": (told,)}))
    verify(config(), run)
    assert read_rows(run.path(VERIFIED), Sample)[0].negatives == (told,)


def test_grades_that_could_not_be_read_are_counted_and_told(tmp_path, scorers, monkeypatch, capsys):
    class Silent(Words):
        best = 3.0

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def know(self, answers):
            self.answers = answers

        def scores(self, pairs):
            for query, text in pairs:
                answers = any(known in text for known in self.answers.get(query, ()))
                yield nan if text.startswith("same") else 3.0 if answers else 0.0

        def reason(self, pair):
            return "no grade: cut at the token limit" if pair[1].startswith("same") else ""

    monkeypatch.setattr("finegrade.stages.verify.LlmJudge", lambda *given: Silent())
    verify(config(committee=["llm"]), make_run(tmp_path, sample(1, ("same", 1), ("far", 2))))
    run = RunFolder(tmp_path)
    assert run.record("verify")["details"]["no_grade"] == {"cut at the token limit": 1}
    told = capsys.readouterr().err
    assert "the LLM gave no grade for 1 negatives: cut at the token limit (1)" in told


some_verdicts = st.lists(
    st.builds(
        Verdict, sample=st.text(), text=st.text(), source=st.sampled_from(["llm", "mined"]),
        level_before=st.integers(1, 4), level_after=st.none() | st.integers(1, 4),
        decision=st.sampled_from(["kept", "regraded", "promoted", "dropped"]), reason=st.sampled_from(["", "a", "b"]),
        positive_score=st.just(1.0), score=st.just(0.0), sibling_score=st.none(), results=st.just(()),
    )
)  # fmt: skip


@settings(deadline=None)
@given(some_verdicts)
def test_counts_count_every_verdict(verdicts):
    counts = count_verdicts(verdicts, [])
    assert sum(counts["decisions"].values()) == len(verdicts)
    assert sum(counts["reasons"].values()) == sum(v.reason != "" for v in verdicts)
    by_source = Counter()
    for decisions in counts["by_source"].values():
        by_source.update(decisions)
    assert dict(by_source) == counts["decisions"]
    assert accepted(counts["decisions"]) == sum(v.decision in ("kept", "regraded") for v in verdicts)
