"""`finegrade.verify`: rows in memory go in, and what was kept, what was left out and why comes out."""

import asyncio
import inspect
import json
from math import isclose

import datasets
import pandas as pd
import pytest

import finegrade
from finegrade.config import VerificationConfig
from finegrade.errors import InputError
from finegrade.records import IN_BENCHMARK, Negative
from finegrade.verification.rules import ANSWERS, FALSE_NEGATIVE, WEAK_POSITIVE
from helpers.verification import ROWS, Words, sample

PLAIN = [{"query": query, "positive": positive, "negatives": negatives} for query, positive, negatives in ROWS]


def row(number, *kinds, positive="answer"):
    negatives = [f"{kind} {number} text" for kind in kinds]
    return {"query": f"query {number}", "positive": f"{positive} {number}", "negatives": negatives}


WRITTEN = {**row(20), "negatives": [{"text": "same 20 text", "level": 4, "source": "llm"}]}


def test_the_result_says_what_was_kept_what_was_left_out_and_why():
    rows = [*PLAIN, row(20, "near", "far", "same", "better"), row(21, "far", positive="weak")]
    result = finegrade.verify(rows, scorers=Words())
    own, promoted = [one for one in result.kept if one.query == "query 20"]
    assert [(one.text, one.level) for one in own.negatives] == [("far 20 text", 1), ("near 20 text", 3)]
    assert (promoted.positive, promoted.negatives) == ("better 20 text", own.negatives)
    (gone,) = result.left_out
    assert (gone.query, gone.reason) == ("query 21", WEAK_POSITIVE)
    assert result.decisions == {"kept": 22, "dropped": 1, "promoted": 1}
    assert result.reasons == {FALSE_NEGATIVE: 1, ANSWERS: 1, WEAK_POSITIVE: 1}
    assert [verdict.score for verdict in result.verdicts[:2]] == [0.1, 0.5]
    assert result.to_dicts()[0]["negatives"][0]["level"] == 1


def test_dicts_records_data_sets_and_frames_are_verified_alike():
    records = [
        sample(number).model_copy(
            update={"negatives": tuple(Negative(text=t, level=None, source="external") for t in negatives)}
        )
        for number, (_, _, negatives) in enumerate(ROWS)
    ]
    found = [
        finegrade.verify(rows, scorers=[Words()]).verdicts
        for rows in (PLAIN, records, datasets.Dataset.from_list(PLAIN), pd.DataFrame(PLAIN))
    ]
    decided = [[(one.text, one.level_after, one.score, one.results) for one in verdicts] for verdicts in found]
    assert decided == [decided[0]] * 4


def test_it_works_inside_a_running_event_loop(fake_llm, tmp_path):
    def answer(request):
        _, known, text = request["messages"][-1]["content"].split("\n")
        said = "same" if known[3:] in text else "unrelated"
        return fake_llm.reply(json.dumps({"answer": said, "reason": ""}))

    async def notebook():
        llm = {"base_url": fake_llm.base_url, "model": "m"}
        return finegrade.verify([*PLAIN, WRITTEN], scorers=["bm25", Words()], llm=llm, folder=tmp_path / "kept")

    fake_llm.answer = answer
    for _ in range(2):
        result = asyncio.run(notebook())
        assert [one.scorer for one in result.verdicts[-1].results] == ["bm25", "Words", "llm"]
        assert len(result.kept) == len(PLAIN) + 1
    assert len(fake_llm.requests) == 16 + 1  # tried on eight queries; what the folder holds is not asked again


def test_too_few_rows_to_calibrate_on_are_told_and_others_serve():
    with pytest.raises(InputError, match=r"calibration of Words: got 3 samples; wanted at least 8.*calibrate_on"):
        finegrade.verify(PLAIN[:3], scorers=[Words()])
    result = finegrade.verify(PLAIN[:3], scorers=[Words()], calibrate_on=PLAIN)
    assert result.decisions == {"kept": 6}


def test_several_scorers_are_asked_together_and_a_second_opinion_decides():
    first, second = Words(), Words()
    rows = [*PLAIN, row(20, "same")]
    result = finegrade.verify(rows, scorers=[first, second, "bm25"])
    assert [one.scorer for one in result.verdicts[0].results] == ["Words", "Words 2", "bm25"]
    result = finegrade.verify(rows, scorers=[Words()], second_opinion=[second], doubt=0.01)
    assert [[one.scorer for one in verdict.results] for verdict in result.verdicts[-2:]] == [
        ["Words"],
        ["Words", "Words 2"],
    ]


class Grades:
    """A judge that finds every text different."""

    best = 3.0

    def __init__(self):
        self.asked = []

    def know(self, answers):
        self.answers = answers

    def scores(self, pairs):
        for query, text in pairs:
            self.asked.append(text)
            yield self.best if any(known in text for known in self.answers.get(query, ())) else 0.0

    def reason(self, pair):
        return "another"


def test_an_llm_is_asked_about_written_texts_in_doubt_and_only_where_one_is_named():
    dropped = finegrade.verify([*PLAIN, WRITTEN], scorers=[Words()])
    assert dropped.reasons == {FALSE_NEGATIVE: 1}
    judge = Grades()
    kept = finegrade.verify([*PLAIN, WRITTEN], scorers=[Words()], llm=judge)
    assert kept.verdicts[-1].results[-1].reason == "another"
    assert kept.decisions == {"kept": 21}
    assert not any(text.startswith("far") for text in judge.asked)
    with pytest.raises(InputError, match="llm: got None; wanted a model to ask"):
        finegrade.verify(PLAIN, scorers=["llm"])


def test_what_a_benchmark_holds_is_left_out(tmp_path):
    (tmp_path / "benchmark.jsonl").write_text(json.dumps({"query": "Query 3!"}) + "\n")
    result = finegrade.verify(PLAIN, scorers=[Words()], benchmarks=[str(tmp_path / "benchmark.jsonl")])
    assert [one.query for one in result.left_out] == ["query 3"]
    assert result.left_out[0].reason.startswith(IN_BENCHMARK)


def test_a_folder_keeps_the_scores_of_models(tmp_path, monkeypatch):
    scorer = Words()
    monkeypatch.setattr("finegrade.verification.ensemble.load_scorer", lambda name, length: scorer)
    monkeypatch.setattr("finegrade.verification.ensemble.model_identity", lambda name: name)
    first = finegrade.verify(PLAIN, scorers="model", folder=tmp_path / "scores")
    asked = len(scorer.asked)
    second = finegrade.verify(PLAIN, scorers="model", folder=tmp_path / "scores", margin=0.3)
    assert len(scorer.asked) == asked > 0
    assert all(isclose(a.score, b.score) for a, b in zip(first.verdicts, second.verdicts, strict=True))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"margin": -1}, "margin: got -1"),
        ({"scorers": []}, "scorer"),
        ({"scorers": ["bm25", "bm25"]}, "bm25"),
        ({"doubt": 0.2}, "second_opinion"),
        ({"benchmarks": ["gone"]}, "the benchmark gone"),
    ],
)
def test_a_wrong_value_is_one_line(arguments, message):
    with pytest.raises(InputError, match=message) as error:
        finegrade.verify(PLAIN, **{"scorers": ["bm25"], **arguments})
    assert "\n" not in str(error.value)


def test_defaults_are_those_of_finegrade_toml():
    config, defaults = VerificationConfig(), inspect.signature(finegrade.verify).parameters
    shared = VerificationConfig.model_fields.keys() & defaults.keys()
    assert shared == VerificationConfig.model_fields.keys() - {"scorer", "committee", "second_opinion_written"}
    for name in shared | {"scorers"}:
        assert defaults[name].default == getattr(config, name)
