"""The ledger: what was answered once is there for good."""

import json
import signal
import sqlite3
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from finegrade.errors import InputError
from finegrade.llm.ledger import Ledger, Reply

REPLY = Reply(text="the reply", finish_reason="stop", prompt_tokens=7, completion_tokens=3, seconds=0.5, cost=0.25)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run" / "ledger.sqlite"


def test_reply_is_found_after_reopening(path):
    with Ledger(path, "test") as ledger:
        ledger.asked("key", {"a": 1})
        ledger.replied("key", REPLY)
        assert ledger.find("key") == REPLY
    with Ledger(path, "test") as ledger:
        assert ledger.find("key") == REPLY
        assert ledger.find("other") is None


def test_words_that_utf8_cannot_hold_cost_nobody_their_reply(path):
    odd = Reply(**dict(REPLY) | {"text": "\ud800", "finish_reason": "\udfff"})
    with Ledger(path, "test") as ledger, ledger.transaction():
        for key in ("odd", "good"):
            ledger.asked(key, {})
        ledger.replied("odd", odd)
        ledger.replied("good", REPLY)
        assert ledger.find("good") == REPLY


def test_request_is_written_before_the_reply(path):
    with Ledger(path, "test") as ledger:
        ledger.asked("key", {"question": "wörd"})
        other = sqlite3.connect(path)
        [(key, request, reply)] = other.execute("SELECT key, request, reply FROM requests").fetchall()
        assert (key, json.loads(request), reply) == ("key", {"question": "wörd"}, None)
        other.close()
        assert ledger.find("key") is None
        assert ledger.totals()["requests"] == 1
        assert ledger.totals()["replies"] == 0


def test_asking_again_keeps_one_row_and_never_loses_a_reply(path):
    with Ledger(path, "test") as ledger:
        ledger.asked("key", {})
        ledger.asked("key", {})
        ledger.replied("key", REPLY)
        ledger.asked("key", {})
        assert ledger.find("key") == REPLY
        assert ledger.totals() == {
            "requests": 1, "replies": 1, "prompt_tokens": 7, "completion_tokens": 3, "seconds": 0.5, "cost": 0.25,
        }  # fmt: skip


@pytest.mark.parametrize("damage", ["reply = CAST(x'ff' AS TEXT)", "seconds = 'x'", "finish_reason = NULL"])
def test_a_damaged_reply_is_one_line(path, damage):
    with Ledger(path, "test") as ledger:
        ledger.asked("key", {})
        ledger.replied("key", REPLY)
        ledger.execute(f"UPDATE requests SET {damage}")
        with pytest.raises(InputError, match=r"a damaged reply.*Restore the file, or move it away"):
            ledger.find("key")


def test_totals_of_an_empty_ledger_are_zero(path):
    with Ledger(path, "test") as ledger:
        assert set(ledger.totals().values()) == {0}


def test_kill_right_after_the_reply_was_written_keeps_it(path):
    code = (
        "import os, signal; from pathlib import Path; from finegrade.llm.ledger import Ledger, Reply\n"
        f"ledger = Ledger(Path({str(path)!r}), 'test'); ledger.asked('one', {{}}); ledger.asked('two', {{}})\n"
        f"ledger.replied('one', Reply(**{REPLY.model_dump()!r})); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == -signal.SIGKILL
    with Ledger(path, "test") as ledger:
        assert ledger.find("one") == REPLY
        assert ledger.find("two") is None


def test_disk_is_asked_to_keep_every_reply(path):
    with Ledger(path, "test") as ledger:
        assert ledger._db.execute("PRAGMA synchronous").fetchone() == (2,)  # FULL
        assert ledger._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40)
@given(text=st.text(max_size=50))
def test_any_text_is_kept_as_it_is(path, text):
    with Ledger(path, "test") as ledger:
        ledger.asked(text, {"text": text})
        ledger.replied(text, REPLY.model_copy(update={"text": text}))
        assert ledger.find(text).text == text


def test_reply_with_a_lone_surrogate_is_kept(path):
    with Ledger(path, "test") as ledger:
        ledger.asked("key", {})
        ledger.replied("key", Reply(**{**REPLY.model_dump(), "text": "odd \ud800 text"}))
        found = ledger.find("key")
        assert found
        assert "odd" in found.text


def test_file_that_is_no_database_is_told_in_one_line(path):
    path.parent.mkdir()
    path.write_text("no database at all, but long enough to look at" * 100)
    with pytest.raises(InputError, match="wanted a finegrade ledger") as error:
        Ledger(path, "test")
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)
    assert path.read_text().startswith("no database")


def test_place_that_is_a_folder_is_told_in_one_line(path):
    path.mkdir(parents=True)
    with pytest.raises(InputError, match="wanted a finegrade ledger"):
        Ledger(path, "test")


def test_full_disk_is_told_in_one_line_and_loses_nothing(path):
    with Ledger(path, "test") as ledger:
        ledger.asked("key", {})
        ledger.replied("key", REPLY)
        ledger._db.execute("PRAGMA max_page_count = 3")  # SQLite's own way to be full
        with pytest.raises((InputError, OSError)):
            ledger.asked("more", {"text": "x" * 100_000})
    with Ledger(path, "test") as ledger:
        assert ledger.find("key") == REPLY
