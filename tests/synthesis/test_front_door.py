"""finegrade.write_queries and finegrade.write_negatives: rows in memory, an LLM of the caller's own or a server."""

import asyncio
import json

import pytest

import finegrade
from finegrade.errors import InputError
from helpers.corpus import made_seeds
from helpers.fake_openai import made_up
from helpers.scripted_llm import ScriptedLLM

ROWS = [{"query": seed.query, "positive": seed.positives[0]} for seed in made_seeds()[:6]]


def invented(request):
    body = {"messages": [message.model_dump() for message in request.messages], "seed": request.seed}
    return made_up(body | {"response_format": {"json_schema": {"schema": request.reply_schema}}})


def test_negatives_are_written_for_each_row_and_verified_rows_can_be_made_of_them():
    llm = ScriptedLLM(invented)
    written = finegrade.write_negatives(ROWS, llm=llm)
    assert [one.query for one in written.kept] == [row["query"] for row in ROWS]
    assert all([one.level for one in sample.negatives] == [1, 2, 3, 4] for sample in written.kept)
    assert {one.source for sample in written.kept for one in sample.negatives} == {"llm"}
    assert len(llm.requests) == len(ROWS)
    again = finegrade.write_negatives(written.kept, llm=llm)  # nothing lacks: nothing is asked
    assert len(llm.requests) == len(ROWS)
    assert (again.kept, again.left_out) == (written.kept, [])


def test_a_row_that_the_llm_could_not_complete_keeps_its_own_negatives():
    row = ROWS[0] | {"negatives": [{"text": "Bread is baked from flour.", "level": 1}]}
    written = finegrade.write_negatives([row], llm=ScriptedLLM(lambda request: "no"), levels=2, mode="stepwise")
    assert [[one.text for one in sample.negatives] for sample in written.kept] == [["Bread is baked from flour."]]
    assert written.set_aside


def test_levels_that_a_row_has_stay_and_only_the_others_are_asked_for():
    row = ROWS[0] | {"negatives": [{"text": "Bread is baked from flour.", "level": 1}]}
    llm = ScriptedLLM(invented)
    (sample,) = finegrade.write_negatives([row], llm=llm, levels=2, mode="stepwise").kept
    assert [one.source for one in sample.negatives] == ["external", "llm"]
    assert len(llm.requests) == 1


def test_what_is_not_used_has_a_reason():
    written = finegrade.write_negatives([ROWS[0], ROWS[0]], llm=ScriptedLLM(lambda request: "no"))
    assert written.kept == []
    assert [row.reason for row in written.left_out] == ["repeats an earlier row", "no negative that passed the checks"]
    assert written.reasons["not the JSON that was asked for"] == 1
    alone = finegrade.write_negatives(ROWS[:1], llm=ScriptedLLM(invented), mode="sibling")
    assert alone.reasons == {"no near query to rewrite it for": 1}


def test_queries_are_rows_for_the_other_functions():
    texts = [row["positive"] for row in ROWS]
    answers = {"keywords": "valve closes bar", "question": "Who wrote this text?"}
    written = finegrade.write_queries(texts[:2], llm=ScriptedLLM(lambda request: answers), per_text=2)
    assert [(one.query, one.positive, one.style) for one in written.kept] == [
        ("valve closes bar", texts[0], "keywords")
    ]
    assert written.reasons == {"speaks of the text": 2, "same as another query": 1}
    assert {row.positive for row in written.left_out} == set(texts[:2])
    assert finegrade.write_negatives(written.to_dicts(), llm=ScriptedLLM(invented)).kept


def test_both_work_where_an_event_loop_is_running():
    async def notebook():
        llm = ScriptedLLM(lambda request: {"keywords": "valve closes bar"})
        queries = finegrade.write_queries([{"text": ROWS[0]["positive"]}], llm=llm, per_text=1).kept
        return queries, finegrade.write_negatives(ROWS, llm=ScriptedLLM(invented)).kept

    queries, negatives = asyncio.run(notebook())
    assert len(queries) == 1
    assert len(negatives) == len(ROWS)


def test_a_server_is_not_asked_again_where_a_folder_keeps_the_replies(fake_llm, tmp_path, no_retries):
    fake_llm.answer = lambda body: fake_llm.reply(json.dumps(made_up(body)))
    llm = {"base_url": fake_llm.base_url, "model": "m"}
    first = finegrade.write_negatives(ROWS, llm=llm, folder=tmp_path)
    asked = len(fake_llm.requests)
    assert finegrade.write_negatives(ROWS, llm=llm, folder=tmp_path) == first
    assert len(fake_llm.requests) == asked == len(ROWS)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda llm: finegrade.write_negatives(ROWS, llm=llm, levels=9), "levels"),
        (lambda llm: finegrade.write_negatives(ROWS, llm={"modle": "m"}), "modle"),
        (lambda llm: finegrade.write_queries(["a"], llm=llm, per_text=4), "per_text: got 4; wanted 1 to 3"),
        (lambda llm: finegrade.write_queries([{"title": "a"}], llm=llm), r"documents\[0\]"),
        (lambda llm: finegrade.write_queries("one text", llm=llm), "rows: got str"),
    ],
)
def test_wrong_values_are_named(call, message):
    with pytest.raises(InputError, match=message):
        call(ScriptedLLM(invented))
