"""What the LLM is asked, and what is made of whatever it answers."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.llm.ledger import Reply
from finegrade.llm.request import RequestSettings
from finegrade.llm.structured import UnreadableError, read
from finegrade.synthesis.prompts.sibling import SIBLING_EXAMPLES, Passage, passage_schema, sibling_request

SETTINGS = RequestSettings(model="m", temperature=0.2, seed=5)
POSITIVE = "The rows are compared over all columns and the first of each group is kept."


def ask(query="Remove rows.", positive=POSITIVE, sibling="Mark rows."):
    return sibling_request(query, positive, sibling, SETTINGS)


def test_request_holds_query_passage_and_sibling():
    last = ask().messages[-1]
    assert last.role == "user"
    assert last.content == f"query A: Remove rows.\npassage: {POSITIVE}\nquery B: Mark rows."


def test_two_worked_examples_come_before_in_turns():
    roles = [message.role for message in ask().messages]
    assert roles == ["system", "user", "assistant", "user", "assistant", "user"]
    assert [parse_passage(m.content) for m in ask().messages if m.role == "assistant"] == [
        rewritten for *_, rewritten in SIBLING_EXAMPLES
    ]


def test_fixed_part_is_the_same_for_every_request():
    assert ask().messages[:-1] == ask("Other?", "Other text of another kind.", "More?").messages[:-1]


@settings(deadline=None)
@given(st.text('"\\ab \n', max_size=20), st.text('"\\ab', max_size=20), st.text('"\\ab', max_size=20))
def test_quotes_and_backslashes_never_reach_the_model(query, positive, sibling):
    content = ask(query, positive, sibling).messages[-1].content
    assert '"' not in content
    assert "\\" not in content


def test_inner_quotes_become_single_ones():
    assert "say 'yes' in C:dir" in ask(positive='say "yes" in C:\\dir').messages[-1].content


def test_the_embedded_llm_cannot_say_what_it_is_to_change():
    query, sibling = "Return the first keys of rows.", "Return the last keys of columns."
    positive = "The first rows come before the others."
    banned = ask(query, positive, sibling).parameters["logit_bias"]
    assert [word for word, bias in banned if bias is False and word.startswith(" ")] == [
        " first", " First", " rows", " Rows",
    ]  # fmt: skip
    elsewhere = SETTINGS.model_copy(update={"server": "http://127.0.0.1:1/v1"})
    assert sibling_request(query, positive, sibling, elsewhere).parameters == {}
    own = SETTINGS.model_copy(update={"parameters": {"top_k": 1, "logit_bias": []}})
    assert sibling_request(query, positive, sibling, own).parameters == own.parameters


def test_schema_bounds_the_length_of_the_passage():
    schema = passage_schema(100)
    assert schema["required"] == ["passage"]
    assert schema["additionalProperties"] is False
    assert schema["properties"]["passage"] == {"type": "string", "minLength": 60, "maxLength": 140}
    assert ask().reply_schema == passage_schema(len(POSITIVE))


def test_token_limit_has_room_for_the_longest_passage():
    assert ask().max_tokens >= 1.4 * len(POSITIVE) / 4


def test_settings_are_in_the_request_and_in_its_key():
    assert (ask().model, ask().temperature, ask().seed) == ("m", 0.2, 5)
    assert ask().key() == ask().key()
    assert ask().key() != ask(sibling="Count rows.").key()


def parse_passage(text):
    """The passage, or None."""
    reply = Reply(text=text, finish_reason="stop", prompt_tokens=1, completion_tokens=1, seconds=0)
    try:
        return read(reply, Passage).passage
    except UnreadableError:
        return None


@pytest.mark.parametrize(
    ("reply", "passage"),
    [
        ('{"passage": "A text."}', "A text."),
        ('  {"passage": "A\\n\\t text.  "}\n', "A text."),
        ('{"passage": "A text.", "more": 1}', "A text."),
        ('{"passage": "a\\u0000b\\u001b[31mc\\u202ed\\u2028e\\ud800f"}', "a b [31mc d e f"),
        ('{"passage": "日本語 😀 é"}', "日本語 😀 é"),
    ],
)
def test_passage_is_read_and_made_printable(reply, passage):
    assert parse_passage(reply) == passage


@pytest.mark.parametrize(
    "reply",
    [
        "", "A text.", "null", "[]", "3", '"a"', "{}", '{"passage": null}', '{"passage": 3}', '{"passage": ["a"]}',
        '{"passage": ""}', '{"passage": " \\n "}', '["passage"]', '{"Passage": "a"}',
        "[" * 100_000,
        '{"passage": ' * 100_000, "{" * 10_000_000, "\ud800", "\x00",
    ],
    ids=lambda reply: ascii(reply[:20]),
)  # fmt: skip
def test_reply_that_is_not_what_was_asked_for_is_none(reply):
    assert parse_passage(reply) is None


json_values = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["passage", "b"]), inner, max_size=2),
    max_leaves=8,
)


@settings(deadline=None)
@given(st.one_of(st.text(), json_values.map(json.dumps)))
def test_any_reply_gives_a_printable_text_or_none(reply):
    passage = parse_passage(reply)
    assert passage is None or (passage.isprintable() and passage == passage.strip() and passage)
