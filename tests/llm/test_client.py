"""The one client: asks once, keeps replies, and never lets the key out."""

import asyncio
import socket
import sys
import threading
import time
from contextlib import closing, suppress

import openai
import pytest

from finegrade.config import LLMConfig
from finegrade.errors import InputError
from finegrade.llm.accounts import Budget, LocalLedger
from finegrade.llm.client import LLMClient
from finegrade.llm.connection import hiding
from finegrade.llm.ledger import Ledger, Reply
from finegrade.llm.request import REFUSED
from helpers.client import KEY, LOST, SCHEMA, ask, path, request  # noqa: F401  (fixtures)


def ledger_bytes(path) -> bytes:
    return b"".join(file.read_bytes() for file in path.parent.glob("ledger.sqlite*"))


def refused(ask, *parts, **options) -> str:
    with pytest.raises(InputError) as error:
        ask(request(), to_the_end=True, **options)
    line = str(error.value)
    for part in (*parts, "the LLM at ", "wanted a reply", "Replies so far are kept."):
        assert part in line
    assert "\n" not in line
    assert KEY not in line
    assert error.value.__suppress_context__ or error.value.__context__ is None
    return line


def test_request_is_sent_as_it_was_made(ask, fake_llm):
    replies = ask(request())
    assert replies[0].text == '{"passage": "A text."}'
    assert (replies[0].finish_reason, replies[0].prompt_tokens, replies[0].completion_tokens) == ("stop", 7, 3)
    assert replies[0].seconds >= 0
    (sent,) = fake_llm.requests
    assert sent["model"] == "m"
    assert sent["messages"] == [{"role": "user", "content": "Write."}]
    assert (sent["max_tokens"], sent["temperature"], sent["seed"]) == (50, 0.2, 3)
    assert sent["response_format"]["json_schema"]["schema"] == SCHEMA
    assert fake_llm.keys == [f"Bearer {KEY}"]


def test_what_the_ledger_holds_is_not_asked_again(ask, fake_llm):
    first = ask(request())
    fake_llm.answer = lambda body: fake_llm.reply("another")
    second = ask(request(), request())
    assert second == first * 2
    assert len(fake_llm.requests) == 1


@pytest.mark.parametrize(
    "other",
    [
        request("Other."), request(model="n"), request(max_tokens=51), request(temperature=0.3), request(seed=4),
        request(reply_schema={}),
    ],
    ids=["messages", "model", "max_tokens", "temperature", "seed", "schema"],
)  # fmt: skip
def test_whatever_is_in_a_request_decides_its_key(ask, fake_llm, other):
    assert other.key() != request().key()
    ask(request(), other)
    assert len(fake_llm.requests) == 2


def test_request_is_in_the_ledger_before_it_is_sent(ask, fake_llm, path):
    seen = []

    def answer(body):
        with Ledger(path, "test") as ledger:
            seen.append((ledger.totals()["requests"], ledger.totals()["replies"]))
        return fake_llm.reply("x")

    fake_llm.answer = answer
    ask(request())
    assert seen == [(1, 0)]


def test_key_is_in_no_byte_of_the_ledger(ask, path):
    ask(request())
    assert b"A text." in ledger_bytes(path)
    assert KEY.encode() not in ledger_bytes(path)


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "got a refusal of the key"), (403, "got a refusal of the key"),
        (404, "got HTTP status 404"), (429, "got HTTP status 429"), (500, "got HTTP status 500"),
    ],
)  # fmt: skip
def test_refusal_is_one_line_that_never_repeats_what_the_server_echoes(ask, fake_llm, path, status, told, capsys):
    fake_llm.answer = lambda body: (status, {"error": {"message": f"Incorrect API key provided: {KEY}", "code": KEY}})
    refused(ask, told)
    assert KEY.encode() not in ledger_bytes(path)
    assert KEY not in "".join(capsys.readouterr())


def test_earlier_replies_survive_a_refusal(ask, fake_llm):
    ask(request())
    fake_llm.answer = lambda body: (500, {})
    with pytest.raises(InputError):
        ask(request("Other."))
    replies = ask(request())
    assert replies[0].text == '{"passage": "A text."}'
    assert len(fake_llm.requests) == 2


@pytest.mark.parametrize("base_url", ["http://127.0.0.1:1/v1", "localhost:8000", "no-url", "http://h:99999999/v1"])
def test_server_that_cannot_be_reached(ask, base_url):
    assert "no connection" in refused(ask, "no connection", "llm.base_url", base_url=base_url)


@pytest.fixture
def rude_server():
    """Reads a request, says what it is told to, at once or drop by drop, and hangs up; gives its URL."""
    sockets = []

    def serve(said: bytes, drop_by_drop: bool = False) -> str:
        listening = socket.create_server(("127.0.0.1", 0))
        sockets.append(listening)

        def work():
            connection, _ = listening.accept()
            with connection:
                connection.recv(1 << 16)
                with suppress(OSError):
                    for drop in [said[i : i + 1] for i in range(len(said))] if drop_by_drop else [said]:
                        connection.sendall(drop)
                        time.sleep(0.02 * drop_by_drop)

        threading.Thread(target=work, daemon=True).start()
        return f"http://127.0.0.1:{listening.getsockname()[1]}/v1"

    yield serve
    for listening in sockets:
        listening.close()


CUT = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 99\r\n\r\n{"


@pytest.mark.parametrize("said", [b"", CUT], ids=["before", "within"])
def test_a_connection_that_breaks_off_may_have_been_paid_for(ask, rude_server, path, said):
    refused(ask, "no connection", base_url=rude_server(said))
    with Ledger(path, "test") as ledger:
        assert ledger.lost() == [(request().model_dump(mode="json"), 1)]


@pytest.mark.slow
def test_an_answer_that_drips_does_not_hold_up_the_run(ask, rude_server, path):
    began = time.monotonic()
    refused(ask, "no answer in time", base_url=rude_server(CUT + b" " * 1000, drop_by_drop=True), timeout=0.3)
    assert time.monotonic() - began < 5
    with Ledger(path, "test") as ledger:
        assert ledger.lost() == [(request().model_dump(mode="json"), 1)]


def test_server_that_speaks_another_protocol(ask, rude_server):
    refused(ask, "llm.base_url", "an answer of another form", base_url=rude_server(b"SSH-2.0-server\r\n\r\n"))


def test_a_remote_server_is_asked_through_the_proxy_of_the_environment(ask, fake_llm, monkeypatch):
    monkeypatch.setenv("http_proxy", fake_llm.base_url.removesuffix("/v1"))
    assert ask(request(), base_url="http://llm.example.org/v1")[0].text == '{"passage": "A text."}'


def test_password_in_the_base_url_is_not_repeated(ask):
    line = refused(ask, base_url="http://me:pass-word@127.0.0.1:1/v1")
    assert "pass-word" not in line


def test_server_that_does_not_answer_in_time(ask, fake_llm):
    over = threading.Event()
    fake_llm.answer = lambda body: (over.wait(10), fake_llm.reply("x"))[1]
    try:
        assert "no answer in time" in refused(ask, "no answer in time", "llm.timeout", timeout=0.1)
    finally:
        over.set()


def test_a_redirection_is_not_followed(ask, monkeypatch):
    asked = []

    def answer(request):
        asked.append(str(request.url))
        return httpx.Response(307, headers={"location": "http://127.0.0.1:9/v1/chat/completions"})

    httpx = sys.modules[openai.DefaultAsyncHttpxClient.__base__.__module__.partition(".")[0]]
    transport = httpx.MockTransport(answer)
    own = lambda trust_env, **options: httpx.AsyncClient(transport=transport, **options)  # noqa: E731
    monkeypatch.setattr(openai, "DefaultAioHttpClient", own)
    assert "a redirection" in refused(ask, "llm.base_url")
    assert len(asked) == 1


@pytest.mark.parametrize("at", ["text", "finish_reason"])
def test_a_key_that_the_server_echoes_is_not_kept(ask, fake_llm, path, at):
    status, body = fake_llm.reply(f"Your key is {KEY}, is it not?" if at == "text" else "x")
    if at == "finish_reason":
        body["choices"][0]["finish_reason"] = KEY
    fake_llm.answer = lambda _: (status, body)
    (reply,) = ask(request())
    assert KEY not in reply.model_dump_json()
    assert "[key]" in reply.model_dump_json()
    assert KEY.encode() not in ledger_bytes(path)


def test_what_stands_for_a_key_is_no_secret(ask, fake_llm):
    fake_llm.answer = lambda _: fake_llm.reply("there is none")
    assert ask(request(), key="none")[0].text == "there is none"


def test_who_does_not_say_why_it_ended_was_not_stopped(ask, fake_llm):
    status, body = fake_llm.reply("x")
    body["choices"][0]["finish_reason"] = None
    fake_llm.answer = lambda _: (status, body)
    assert ask(request())[0].finish_reason == "stop"


@pytest.mark.parametrize("key", [f"{KEY}\n", f"{KEY} ü", f"{KEY}€"])
def test_key_that_no_header_can_carry_is_one_line_too(ask, key):
    with pytest.raises(InputError, match="a key that no header can carry") as error:
        ask(request(), key=key)
    assert KEY not in str(error.value)


@pytest.mark.parametrize(
    "body",
    [
        {}, {"choices": []}, {"choices": None}, {"choices": [{}]}, {"choices": [{"message": None}]}, [], "text", None,
        {"error": {"message": f"bad key {KEY}"}}, {"choices": [{"message": {"content": {"a": 1}}}]},
        {"choices": [{"message": {"content": "x"}}], "usage": {"prompt_tokens": None, "completion_tokens": "many"}},
    ],
    ids=["empty", "no choice", "null choices", "empty choice", "no message", "list", "string", "null", "error",
         "object", "usage"],
)  # fmt: skip
def test_garbage_with_status_200_is_one_line_or_an_empty_reply(ask, fake_llm, path, body):
    fake_llm.answer = lambda _: (200, body)
    try:
        replies = ask(request())
        assert all(isinstance(reply, Reply) for reply in replies)
    except InputError as error:
        assert "\n" not in str(error)
        assert KEY not in str(error)
        assert "the LLM at 127.0.0.1" in str(error)


@pytest.mark.parametrize("kind", ["text/html", "application/json"])
@pytest.mark.parametrize("body", ["<html>a proxy's page</html>", "", '{"choices": [', "[" * 100_000])
def test_answer_that_is_no_json_is_one_line(ask, monkeypatch, kind, body):
    httpx = sys.modules[openai.DefaultAsyncHttpxClient.__base__.__module__.partition(".")[0]]  # httpx or httpx2
    transport = httpx.MockTransport(lambda _: httpx.Response(200, text=body, headers={"content-type": kind}))
    monkeypatch.setattr(openai, "DefaultAioHttpClient", lambda **options: httpx.AsyncClient(transport=transport))
    assert "llm.base_url" in refused(ask)


def test_a_body_without_end_is_not_read_to_its_end(ask, fake_llm, monkeypatch):
    monkeypatch.setattr("finegrade.llm.connection.LONGEST_BODY", 100_000)
    fake_llm.answer = lambda _: fake_llm.reply("x" * 100_001)
    refused(ask, "an answer of another form")


@pytest.mark.parametrize("escaped", [r"\u0073k-secret-KEY-123", r"sk-secret-KEY\u002d123", r"sk\-secret-KEY-123"])
def test_a_key_behind_escapes_is_taken_out_too(escaped):
    hide = hiding("sk-secret-KEY-123")
    assert hide(f'{{"text": "{escaped}"}}') == "[key]"
    assert hide(r'{"text": "\u0073k-another"}') == r'{"text": "\u0073k-another"}'


@pytest.mark.parametrize(
    "usage",
    [None, {}, "many", [1], {"prompt_tokens": 0, "completion_tokens": None},
     {"prompt_tokens": -5, "completion_tokens": 10**12, "total_tokens": 0}],
)  # fmt: skip
def test_without_a_sensible_count_a_reply_costs_the_most_that_it_can(ask, fake_llm, usage):
    status, body = fake_llm.reply("x")
    body["choices"][0]["message"]["content"] = None
    body["usage"] = usage
    fake_llm.answer = lambda _: (status, body)
    (reply,) = ask(request())
    assert (reply.text, reply.finish_reason) == ("", "stop")
    assert (reply.prompt_tokens, reply.completion_tokens) == (request().size(), request().max_tokens)


def test_a_request_that_was_refused_or_never_arrived_costs_nothing(ask, fake_llm, tmp_path):
    fake_llm.answer = lambda _: (400, {})
    assert ask(request())[0].finish_reason == "refused"
    with pytest.raises(InputError):
        ask(request(), base_url="http://127.0.0.1:1/v1")
    with Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
        assert ledger.lost() == []


def test_a_request_without_an_answer_in_time_may_have_been_paid_for(ask, fake_llm, tmp_path):
    fake_llm.answer = lambda body: (time.sleep(0.5), fake_llm.reply("x"))[1]
    with pytest.raises(InputError, match="no answer in time"):
        ask(request(), timeout=0.1)
    with Ledger(tmp_path / "ledger.sqlite", "test") as ledger:
        assert ledger.lost() == [(request().model_dump(mode="json"), 1)]


@pytest.mark.parametrize("text", ["\ud800", "a\x00b", "x" * 3_000_000, "\u2028\x1b[31m"], ids=ascii)
@pytest.mark.slow
def test_hostile_replies_are_kept(ask, fake_llm, text):
    fake_llm.answer = lambda _: fake_llm.reply(text)
    first = ask(request())
    second = ask(request())
    assert first[0].text[:1] == second[0].text[:1]
    assert len(fake_llm.requests) == 1


def test_environment_names_no_server(ask, fake_llm, monkeypatch):
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-the-environment")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-the-environment")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-the-environment")
    ask(request())
    assert fake_llm.keys == [f"Bearer {KEY}"]
    (headers,) = fake_llm.headers
    assert "of-the-environment" not in str(headers)


@pytest.mark.slow
def test_connection_that_fails_for_a_moment_is_tried_again(fake_llm, path, monkeypatch):
    monkeypatch.setattr(openai.AsyncOpenAI, "_calculate_retry_timeout", lambda *given: 0.0)
    answers = iter([(500, {}), (429, {}), fake_llm.reply("at last")])
    fake_llm.answer = lambda _: next(answers)

    async def go():
        with Ledger(path, "test") as ledger, closing(LocalLedger(ledger, Budget(LLMConfig(), ledger))) as accounts:
            client = LLMClient(fake_llm.base_url, KEY, accounts, 10, LOST)
            try:
                return await client.complete(request())
            finally:
                await client.close()

    assert asyncio.run(go()).text == "at last"
    assert len(fake_llm.requests) == 3


@pytest.mark.parametrize("status", [400, 413, 422])
def test_a_request_that_the_server_refuses_is_an_empty_reply_and_is_asked_again(ask, fake_llm, path, status):
    fake_llm.answer = lambda _: (status, {"error": {"message": f"too long, {KEY}"}})
    replies = ask(request())
    assert (replies[0].text, replies[0].finish_reason) == ("", REFUSED)
    assert KEY.encode() not in ledger_bytes(path)
    fake_llm.answer = lambda _: fake_llm.reply("now")
    assert ask(request())[0].text == "now"


def test_a_server_that_refuses_one_request_after_the_other_is_told(ask, fake_llm):
    fake_llm.answer = lambda _: (400, {})
    with pytest.raises(InputError, match="got HTTP status 400"):
        ask(*(request(str(number)) for number in range(20)))
    assert len({body["messages"][0]["content"] for body in fake_llm.requests}) == 5


def test_refusals_between_answers_stop_nothing(ask, fake_llm):
    answered = {str(number) for number in range(3, 20, 4)}
    fake_llm.answer = lambda body: (400, {}) if body["messages"][0]["content"] not in answered else fake_llm.reply("x")
    replies = ask(*(request(str(number)) for number in range(20)))
    assert [reply.text for reply in replies] == ["", "", "", "x"] * 5
