"""The LLM as a judge: what it is asked, what of its replies counts, and that nothing is asked twice."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from math import isnan
from pathlib import Path

import pytest

from finegrade.config import LLMConfig
from finegrade.errors import InputError
from finegrade.llm import session
from finegrade.models.scorers import Judge
from finegrade.records import Negative, Sample
from finegrade.verification import llm_judge
from finegrade.verification.calibration import Calibration
from finegrade.verification.ensemble import CalibratedScorer, PairScores
from finegrade.verification.llm_judge import EXAMPLES, GRADES, HIGHEST, MAX_REASON, LlmJudge, prompt_version
from helpers.fake_llm import FakeLLM

SAID = {
    "the same in other words": ("same", "same"),
    "the opposite": ("different", "turned round"),
    "something else": ("unrelated", ""),
}


@pytest.fixture
def fresh(fake_llm: FakeLLM, tmp_path: Path) -> Iterator[Callable[..., LlmJudge]]:
    """Makes a judge, which has asked nothing yet."""
    with ExitStack() as judges:

        def make(**settings: object) -> LlmJudge:
            config = LLMConfig.model_validate(
                {"base_url": fake_llm.base_url, "model": "m", "concurrency": 4, **settings}
            )
            return judges.enter_context(LlmJudge(config, tmp_path / "ledger.sqlite", tmp_path / "log", seed=3))

        yield make


@pytest.fixture
def judge(fake_llm: FakeLLM, fresh: Callable[..., LlmJudge]) -> LlmJudge:
    def answer(request):
        text = request["messages"][-1]["content"].split("\nB: ")[1]
        said, reason = SAID[text]
        return fake_llm.reply(json.dumps({"answer": said, "reason": reason}))

    fake_llm.answer = answer
    return fresh()


PAIRS = [("q", text) for text in ("something else", "the opposite", "the same in other words")]


def test_grades_and_reasons_come_in_order(judge, fake_llm):
    judge.know({"q": ["what is known"]})
    assert list(judge.scores([*PAIRS, PAIRS[0]])) == [0, 1, 3, 0]
    assert [judge.reason(pair) for pair in PAIRS] == ["", "turned round", "same"]
    assert len(fake_llm.requests) == 3
    assert isinstance(judge, Judge)


def test_the_text_is_read_beside_what_is_known_to_answer(judge, fake_llm):
    judge.know({"q": ["what is known", "what is known, too"]})
    list(judge.scores(PAIRS[:1]))
    (request,) = fake_llm.requests
    assert request["messages"][-1]["content"] == "query: q\nA: what is known\nB: something else"
    assert len(request["messages"]) == 2 * len(EXAMPLES) + 2
    assert request["temperature"] == 0
    assert request["response_format"]["json_schema"]["schema"]["properties"]["answer"]["enum"] == list(GRADES)


def test_what_is_known_to_answer_is_not_asked_about(judge, fake_llm):
    judge.know({"q": ["known", "known, too"]})
    assert list(judge.scores([("q", "known"), ("q", "known, too")])) == [HIGHEST, HIGHEST]
    assert fake_llm.requests == []


def test_without_a_known_answer_there_is_no_grade(judge, fake_llm):
    judge.know({"other": ["known"]})
    assert all(map(isnan, judge.scores(PAIRS)))
    assert fake_llm.requests == []


@pytest.mark.parametrize(
    "reply", ["", "same", '{"answer": "yes", "reason": ""}', '{"answer": null}', '{"reason": "x"}', "[]"]
)
def test_a_reply_that_is_no_grade_is_no_number(judge, fake_llm, reply):
    fake_llm.answer = lambda request: fake_llm.reply(reply)
    judge.know({"q": ["known"]})
    (grade,) = judge.scores(PAIRS[:1])
    assert isnan(grade)
    assert "no grade" in judge.reason(PAIRS[0])


def test_a_hostile_reason_is_one_short_line(judge, fake_llm):
    fake_llm.answer = lambda request: fake_llm.reply(
        json.dumps({"answer": "different", "reason": "a\x1b[31m\nb" * 5_000})
    )
    judge.know({"q": ["known"]})
    assert list(judge.scores(PAIRS[:1])) == [1]
    reason = judge.reason(PAIRS[0])
    assert len(reason) <= MAX_REASON
    assert reason.isprintable()


def test_what_the_ledger_holds_is_not_asked_again(judge, fresh, fake_llm):
    judge.know({"q": ["known"]})
    before = list(judge.scores(PAIRS))
    asked = len(fake_llm.requests)
    again = fresh()
    again.know({"q": ["known"]})
    assert list(again.scores(PAIRS)) == before
    assert again.reason(PAIRS[1]) == "turned round"
    assert len(fake_llm.requests) == asked


def test_the_llm_is_opened_where_the_ledger_lacks_a_reply_and_once(judge, fresh, monkeypatch, capsys):
    judge.know({"q": ["known"]})
    list(judge.scores(PAIRS[:2]))
    opened, open_llm = [], session.open_llm
    monkeypatch.setattr(session, "open_llm", lambda *given: (opened.append(given), open_llm(*given))[1])
    again = fresh()
    again.know({"q": ["known"]})
    list(again.scores(PAIRS[:2]))
    assert not opened
    assert "continues" not in capsys.readouterr().err
    for pairs in (PAIRS, PAIRS[::-1], [("q", "the same in other words")], [("other", "something else")]):
        again.know({"q": ["known"], "other": ["known"]})
        list(again.scores(pairs))
    assert len(opened) == 1
    assert capsys.readouterr().err.count("verify: continues, the ledger holds 2 replies") == 1


def test_an_llm_that_cannot_be_had_is_one_line_however_many_wait_for_it(fresh, tmp_path):
    judge = fresh(base_url=None, model=str(tmp_path / "gone.gguf"))
    judge.know({"q": ["known"]})
    with pytest.raises(InputError, match=r"gone\.gguf"):
        list(judge.scores(PAIRS))


def test_one_that_is_refused_after_others_were_answered_is_no_grade_and_stops_nothing(judge, fresh, fake_llm):
    """Replies of an earlier session, and of an earlier part, show that the server answers."""
    judge.know({"q": ["known"]})
    list(judge.scores(PAIRS))
    fake_llm.answer = lambda request: (400, {"error": {"message": "not this one"}})
    again = fresh()
    for texts in (["something else", "the opposite"], ["refused"], [f"refused {i}" for i in range(3)]):
        again.know({"q": ["known"]})
        grades = list(again.scores([("q", text) for text in texts]))
        assert all(map(isnan, grades)) == texts[0].startswith("refused")
    assert again.reason(("q", "refused 1")).startswith("no grade: request refused")


@pytest.mark.parametrize(
    ("cut", "grade"),
    [
        ('{"answer": "different", "reason": "noon in pla', 1),
        ('{"answer": "same"', HIGHEST),
        ('{"answer": "diff', None),
        ('{"reason": "noon in pla', None),
        ("I think {it is} the same as", None),
        ("<think>Is B the same? If so I say " + '{"answer": "same", "reason": "so', None),
    ],
)
def test_a_reply_that_was_cut_in_its_reason_is_a_grade(judge, fake_llm, cut, grade):
    fake_llm.answer = lambda request: fake_llm.reply(cut, "length")
    judge.know({"q": ["known"]})
    (found,) = judge.scores(PAIRS[:1])
    assert isnan(found) if grade is None else found == grade
    assert judge.reason(PAIRS[0]).startswith("no grade: cut") == (grade is None)


def test_another_prompt_has_another_version(monkeypatch):
    before = prompt_version()
    assert prompt_version() == before
    monkeypatch.setattr(llm_judge, "EXAMPLES", EXAMPLES[:-1])
    assert prompt_version() != before


class Plain:
    """Scores by length; counts what it is asked."""

    def __init__(self):
        self.asked = []

    def scores(self, pairs):
        for pair in pairs:
            self.asked.append(pair)
            yield float(len(pair[1]))


def test_an_ensemble_asks_each_in_its_own_way(judge, fake_llm):
    plain = Plain()
    ensemble = [
        CalibratedScorer("length", plain, Calibration(0, 10, 1, 8)),
        CalibratedScorer("llm", judge, Calibration(0, HIGHEST, 1, 8)),
    ]
    negatives = tuple(Negative(text=text, level=1, source="mined", sibling="sibling") for _, text in PAIRS)
    sample = Sample(id="1", query="q", positive="known text", negatives=negatives, group="g")
    done = []
    scored = PairScores(ensemble, [sample], [(sample, one) for one in negatives], done.append)
    assert sum(done) == pytest.approx(1)
    assert len(plain.asked) == len(set(plain.asked)) == 1 + 3 + 3
    assert len(fake_llm.requests) == 3  # neither about the positive nor about the sibling query
    first, second = scored.results(sample, negatives[1])
    assert (first.scorer, first.positive, first.score, first.sibling, first.reason) == ("length", 1.0, 1.2, 1.2, "")
    assert (second.scorer, second.positive, second.raw, second.sibling) == ("llm", 1.0, 1.0, None)
    assert second.score == pytest.approx(1 / 3)
    assert second.reason == "turned round"
    assert scored.of_positive(sample) == {"length": 1.0}  # the judge takes positives as given
