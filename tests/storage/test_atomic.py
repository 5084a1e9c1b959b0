"""Files that replace others: what a killed process leaves goes, what a living one writes stays."""

import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from finegrade.storage.atomic import replacing, scratch_file

_WRITES = (
    "import sys; from pathlib import Path; from finegrade.storage.atomic import replacing\n"
    "with replacing(Path(sys.argv[1])) as path:\n"
    "    path.write_text('half'); print('begun', flush=True); input()\n"
)


def begun(path: Path) -> subprocess.Popen[str]:
    """A process in the middle of writing a file."""
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITES, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout
    assert process.stdout.readline() == "begun\n"
    return process


@pytest.mark.parametrize("name", ["a.jsonl", "a[1]*.jsonl", "a b.jsonl"])
def test_what_a_killed_process_left_is_removed(tmp_path: Path, name: str) -> None:
    for file in (name, "another.jsonl"):
        with begun(tmp_path / file) as process:
            process.kill()
    living = begun(tmp_path / name)
    with replacing(tmp_path / name) as path:
        path.write_text("whole")
        assert len(list(tmp_path.glob(".*.tmp"))) == 3  # of another file, of a living process, its own
    assert (tmp_path / name).read_text() == "whole"
    living.communicate("\n")
    assert (tmp_path / name).read_text() == "half"
    assert [path.name.startswith(".another.jsonl.") for path in tmp_path.glob(".*")] == [True]


def test_what_other_machines_write_is_left_alone(tmp_path: Path) -> None:
    for other in (".a.000000-1999999999.tmp", ".a.1999999999.tmp", ".a.tmp"):
        (tmp_path / other).touch()
    with replacing(tmp_path / "a") as path:
        path.touch()
    assert len(list(tmp_path.iterdir())) == 4


_SCRATCHES = (
    "from finegrade.storage.atomic import scratch_file\n"
    "with scratch_file('pairs') as path:\n"
    "    path.write_text('half'); print('begun', flush=True); input()\n"
)


def test_scratch_files_are_of_one_block_and_those_of_killed_processes_go(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    for kill in (True, False):
        process = subprocess.Popen(
            [sys.executable, "-c", _SCRATCHES], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert process.stdout
        assert process.stdout.readline() == "begun\n"
        if kill:
            process.kill()
            process.communicate()
    with scratch_file("pairs") as first, scratch_file("pairs") as second:
        assert first != second
        assert len(list(tmp_path.iterdir())) == 3  # of a living process, and two of its own
    process.communicate("\n")
    assert list(tmp_path.iterdir()) == []
