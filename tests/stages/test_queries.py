"""The queries stage against a fake LLM: what is kept, what is set aside, what is never asked twice."""

import json
from collections import Counter

import pytest

from finegrade.data.user_queries import read_own_queries
from finegrade.errors import InputError
from finegrade.llm.ledger import Reply
from finegrade.llm.structured import UnreadableError, read
from finegrade.records import Chunk, WrittenQuery
from finegrade.stages.pipeline import call_stage
from finegrade.stages.queries import choose_asked, own_queries_test
from finegrade.storage.run_folder import CHUNKS, QUERIES, QUERIES_SET_ASIDE, RunFolder
from finegrade.storage.tables import read_rows
from finegrade.synthesis.filters import query_refusal
from finegrade.synthesis.prompts.query import STYLES, queries_form
from helpers.fake_llm import FakeLLM
from helpers.query_stage import answer, asked_for, config  # noqa: F401  (fixtures)

TEXT = "The valve opens when the pressure rises above two bar, and it closes again below one bar."


@pytest.fixture
def run(config, tmp_path):
    folder = RunFolder(tmp_path / "run")
    call_stage("documents", config(), folder)
    return folder


def kept(run) -> list[WrittenQuery]:
    return read_rows(run.path(QUERIES), WrittenQuery)


def set_aside(run) -> list[dict]:
    return [json.loads(line) for line in run.path(QUERIES_SET_ASIDE).read_text().splitlines()]


def test_queries_are_kept_where_they_find_their_chunk_again(config, run, fake_llm):
    call_stage("queries", config(), run)
    chunks = {chunk.id: chunk for chunk in read_rows(run.path(CHUNKS), Chunk)}
    found = kept(run)
    assert {query.style for query in found} >= {"keywords", "question"}
    assert {chunks[query.chunk].side for query in found} == {"train", "test"}
    for query in found:
        if query.style != "symptom":
            assert query.query in chunks[query.chunk].text
    reasons = Counter(row["reason"] for row in set_aside(run))
    assert reasons["not the JSON that was asked for"] >= 1
    assert reasons["same as another query"] >= 1  # the symptom is always the same
    assert len(fake_llm.requests) == 24
    details = run.record("queries")["details"]
    assert details["asked"] == 24
    assert sum(details["kept"].values()) == len(found)
    assert sum(details["set_aside"].values()) == len(set_aside(run))
    assert details["usage"]["replies"] == 24


@pytest.mark.slow
def test_a_query_that_does_not_lead_back_is_set_aside(config, run, fake_llm):
    chunks = read_rows(run.path(CHUNKS), Chunk)
    other = {chunk.text: chunks[place - 1].text for place, chunk in enumerate(chunks)}

    def lead_astray(body):
        words = other[asked_for(body)].split()
        queries = {style: " ".join(words[i : i + 7]) for i, style in enumerate(STYLES)}
        return FakeLLM.reply(json.dumps(queries))

    fake_llm.answer = lambda body: lead_astray(body) if len(fake_llm.requests) % 2 else answer(body)
    call_stage("queries", config(), run)
    reasons = Counter(row["reason"] for row in set_aside(run))
    assert reasons["its chunk is not among the first 10"] >= 6


def test_a_second_run_asks_nothing_and_gives_the_same(config, run, fake_llm):
    call_stage("queries", config(), run)
    outputs, asked = run.record("queries")["outputs"], len(fake_llm.requests)
    call_stage("queries", config(), run)
    run.path(QUERIES).unlink()
    call_stage("queries", config(), run)
    assert len(fake_llm.requests) == asked
    assert run.record("queries")["outputs"] == outputs


@pytest.mark.slow
def test_more_chunks_ask_only_for_the_new_ones(config, run, fake_llm):
    call_stage("queries", config(), run)
    call_stage("queries", config(chunks=32), run)
    asked = [asked_for(body) for body in fake_llm.requests]
    assert len(asked) == len(set(asked)) == 32


def test_nothing_of_use_is_told_and_what_was_said_is_kept(config, run, fake_llm):
    fake_llm.answer = lambda body: FakeLLM.reply("I cannot do that.")
    with pytest.raises(InputError, match="some to train and some to test"):
        call_stage("queries", config(), run)
    assert len(set_aside(run)) == 24


def test_asked_chunks_are_of_both_sides_from_the_beginning(config, run):
    chunks = read_rows(run.path(CHUNKS), Chunk)
    asked = choose_asked(chunks, 40, 0.2)
    assert len(asked) == 40 == len({chunk.id for chunk in asked})
    assert Counter(chunk.side for chunk in asked)["test"] == 8
    assert {chunk.side for chunk in asked[:6]} == {"train", "test"}


def test_own_queries_that_test_leave_the_llm_to_train(config, run, tmp_path):
    chunks = read_rows(run.path(CHUNKS), Chunk)
    path = next(chunk.path for chunk in chunks if chunk.side == "test")
    (tmp_path / "own.jsonl").write_text(json.dumps({"query": "my own", "path": path}) + "\n")
    own = config(queries=str(tmp_path / "own.jsonl"))
    assert own_queries_test(read_own_queries(own.source), chunks, own.source.test_share, own.seed)
    call_stage("queries", own, run)
    asked = {row.chunk for row in read_rows(run.path(QUERIES), WrittenQuery)}
    assert {chunk.side for chunk in chunks if chunk.id in asked} == {"train"}


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("opening pressure valve", None),
        ("When does the valve close?", None),
        ("What does this passage say about valves?", "speaks of the text"),
        ("12 34", "no words"),
        ("word " * 26, "too long"),
        ("when to prune roses", "copies the prompt's example"),
        ("Seen Before!", "same as another query"),
        ("the valve opens when the pressure rises above two bar", "copied from the text"),
    ],
)
def test_gates(query, reason):
    assert query_refusal(query, "question", TEXT, {"seen before"}) == reason


def parsed(text):
    """Style -> search, or None."""
    reply = Reply(text=text, finish_reason="stop", prompt_tokens=1, completion_tokens=1, seconds=0)
    try:
        return read(reply, queries_form(["keywords", "question"])).model_dump()
    except UnreadableError:
        return None


@pytest.mark.parametrize(
    "reply", ["", "{", "[]", '{"keywords": 3, "question": "x"}', '{"keywords": "x"}', "[" * 100_000, '"x"']
)
def test_replies_of_another_form_are_none(reply):
    assert parsed(reply) is None


def test_control_signs_are_folded_away():
    found = parsed('{"keywords": "x", "question": "a\\u001b[31m b\\n c"}')
    assert found == {"keywords": "x", "question": "a [31m b c"}
