"""The run folder: files whole or not at all, and stages that know what is done."""

import signal
import subprocess
import sys

import pytest

from finegrade.errors import InputError
from finegrade.records import Negative, Sample, Seed
from finegrade.storage.atomic import file_hash, read_json, replacing, write_json
from finegrade.storage.run_folder import RunFolder, fingerprint
from finegrade.storage.tables import read_rows, write_rows


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def test_replacing_makes_folder_and_file(tmp_path):
    with replacing(tmp_path / "a" / "b.txt") as temporary:
        temporary.write_text("new")
        assert not (tmp_path / "a" / "b.txt").exists()
    assert (tmp_path / "a" / "b.txt").read_text() == "new"
    assert files(tmp_path / "a") == ["b.txt"]


@pytest.mark.parametrize("fault", [ValueError, KeyboardInterrupt])
def test_failure_in_the_block_leaves_the_old_file_and_no_other(tmp_path, fault):
    path = tmp_path / "file.txt"
    path.write_text("old")
    with pytest.raises(fault), replacing(path) as temporary:
        temporary.write_text("half of the n")
        raise fault
    assert path.read_text() == "old"
    assert files(tmp_path) == ["file.txt"]


def test_failed_json_leaves_the_old_file(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        write_json(path, {"a": object()})
    assert read_json(path) == {"a": 1}


def test_kill_in_the_middle_of_writing_leaves_the_old_file_whole(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"old": "whole"})
    code = (
        "import sys; from pathlib import Path; from finegrade.storage.atomic import replacing\n"
        f"with replacing(Path({str(path)!r})) as temporary:\n"
        "    file = temporary.open('w'); file.write('{\"new\": \"ha'); file.flush()\n"
        "    print('writing', flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout and process.stdout.readline() == b"writing\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
    assert read_json(path) == {"old": "whole"}
    write_json(path, {"new": "whole"})
    assert read_json(path) == {"new": "whole"}


def test_rows_are_read_back_as_written(tmp_path):
    seeds = [
        Seed(id="1", query="äöü — 漢字 😀", positives=("a", "b"), group="g"),
        Seed(id="2", query="", positives=("c",), group=""),
    ]
    write_rows(tmp_path / "seeds.parquet", seeds, Seed)
    assert read_rows(tmp_path / "seeds.parquet", Seed) == seeds


def test_samples_with_and_without_negatives_and_siblings_are_read_back(tmp_path):
    mined = Negative(text="m", level=1, source="mined")
    written = Negative(text="w", level=4, source="llm", sibling="s?")
    samples = [
        Sample(id=str(i), query="q", positive="p", negatives=negatives, group="g")
        for i, negatives in enumerate([(), (mined,), (mined, written), ()])
    ]
    for part in (samples, samples[:1], samples[:2]):
        write_rows(tmp_path / "samples.parquet", part, Sample)
        assert read_rows(tmp_path / "samples.parquet", Sample) == part


def test_no_rows_are_read_back_as_no_rows(tmp_path):
    write_rows(tmp_path / "none.parquet", [], Seed)
    assert read_rows(tmp_path / "none.parquet", Seed) == []


def test_file_that_holds_other_rows_or_none_is_reported_in_one_line(tmp_path):
    path = tmp_path / "rows.parquet"
    write_rows(path, [Negative(text="m", level=1, source="mined")], Negative)
    (tmp_path / "text.parquet").write_text("not parquet")
    for bad in (path, tmp_path / "text.parquet", tmp_path / "missing.parquet"):
        with pytest.raises(InputError, match="wanted Seed rows") as error:
            read_rows(bad, Seed)
        assert str(error.value).startswith(str(bad))
        assert "\n" not in str(error.value)


def test_file_hash_is_sha256(tmp_path):
    (tmp_path / "x").write_bytes(b"abc")
    assert file_hash(tmp_path / "x") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_fingerprint_depends_on_values_and_not_on_key_order():
    assert fingerprint({"a": 1, "b": 2}) == fingerprint({"b": 2, "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})
    assert fingerprint("a", "b") != fingerprint("ab")


@pytest.fixture
def run(tmp_path):
    return RunFolder(tmp_path / "run")


def finish(run, settings, text="x", name="one", after=()):
    with run.stage(name, settings, after) as stage:
        if not stage.done:
            run.path(f"{name}.txt").write_text(text)
            stage.finish([run.path(f"{name}.txt")], {"text": text})
        return stage


def ran(run, settings, **options):
    """Whether a stage with these settings would have work to do."""
    with run.stage(options.pop("name", "one"), settings, **options) as stage:
        return not stage.done


def test_finished_stage_is_kept_and_says_so(run, capsys):
    finish(run, {"a": 1})
    capsys.readouterr()
    stage = finish(run, {"a": 1}, text="other")
    assert stage.done
    assert run.path("one.txt").read_text() == "x"
    assert "one: kept from" in capsys.readouterr().err


def test_changed_settings_make_it_run_again_and_say_so(run, capsys):
    finish(run, {"a": 1})
    capsys.readouterr()
    assert ran(run, {"a": 2})
    assert "one: its settings or inputs have changed, runs again" in capsys.readouterr().err


def test_earlier_settings_need_another_run_after_a_change(run):
    finish(run, {"a": 1})
    finish(run, {"a": 2}, text="y")
    assert ran(run, {"a": 1})
    assert not ran(run, {"a": 2})


def test_output_that_a_killed_run_with_other_settings_left_is_not_taken_for_its_own(run):
    finish(run, {"a": 1})
    with run.stage("one", {"a": 2}):
        run.path("one.txt").write_text("of a = 2, and then killed before the record")
    assert ran(run, {"a": 1})


def test_deleted_output_makes_it_run_again(run):
    finish(run, {"a": 1})
    run.path("one.txt").unlink()
    assert ran(run, {"a": 1})


def test_only_the_outputs_of_the_stages_it_reads_count(run):
    finish(run, {"a": 1}, text="input")
    finish(run, {}, name="two", after=["one"])
    finish(run, {"a": 2}, text="input")  # other settings, the same output
    assert not ran(run, {}, name="two", after=["one"])
    finish(run, {"a": 3}, text="another input")
    assert ran(run, {}, name="two", after=["one"])


def test_stage_before_its_input_names_what_to_run(run):
    with pytest.raises(InputError, match="Run `finegrade one` first"):
        run.stage("two", {}, after=["one"])


def test_stage_that_did_not_finish_is_not_done(run):
    with pytest.raises(KeyboardInterrupt), run.stage("one", {}):
        raise KeyboardInterrupt
    with run.stage("one", {}) as stage:
        assert not stage.done
    with pytest.raises(InputError, match="wanted a finished one stage"):
        run.record("one")


class Clock:
    """Stands for the time module's clocks in store."""

    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now

    def strftime(self, form):
        return "now"


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr("finegrade.storage.run_folder.time", clock)
    return clock


def test_clock_adds_up_interrupted_sessions(run, clock):
    for fault in (KeyboardInterrupt, ValueError):
        with pytest.raises(fault), run.stage("one", {}):
            clock.now += 10
            raise fault
        clock.now += 1000  # between the sessions
    with run.stage("one", {}) as stage:
        clock.now += 5
        assert stage.seconds() == 25
        stage.finish([], {})
    assert run.record("one")["seconds"] == 25


def test_clock_begins_anew_where_settings_changed(run, clock):
    with run.stage("one", {"a": 1}):
        clock.now += 10
    with run.stage("one", {"a": 2}) as stage:
        clock.now += 5
        stage.finish([], {})
    assert run.record("one")["seconds"] == 5


def test_keeping_a_finished_stage_takes_no_time(run, clock):
    with run.stage("one", {}) as stage:
        clock.now += 5
        stage.finish([], {})
    with run.stage("one", {}):
        clock.now += 7
    assert run.record("one")["seconds"] == 5


def test_nothing_is_left_beside_the_records(run):
    finish(run, {"a": 1})
    assert files(run.path("stages")) == ["one.json"]


def test_record_that_was_cut_makes_the_stage_run_again(run):
    finish(run, {"a": 1})
    run.path("stages", "one.json").write_text('{"stage": "on')
    assert ran(run, {"a": 1})


def test_run_folder_must_not_be_a_file(tmp_path):
    (tmp_path / "taken").touch()
    with pytest.raises(InputError, match=r"--run: got .*taken; wanted a folder"):
        RunFolder(tmp_path / "taken")


def test_folder_without_a_run_is_not_made_by_looking(tmp_path):
    run = RunFolder(tmp_path / "new")
    with pytest.raises(InputError):
        run.record("seeds")
    assert files(tmp_path) == []


@pytest.mark.parametrize("content", ["{}", "[]", '{"fingerprint": "x"}', '{"fingerprint": 1, "seconds": 2}', "null"])
def test_a_record_of_another_form_makes_the_stage_run_again(tmp_path, content):
    run = RunFolder(tmp_path)
    for path in ("stages/one.json", "stages/.one.clock.json"):
        run.path(path).parent.mkdir(exist_ok=True)
        run.path(path).write_text(content)
    with run.stage("one", {}) as stage:
        assert not stage.done
        assert stage.seconds() < 60
        stage.finish([], {})
    assert run.stage("one", {}).done
