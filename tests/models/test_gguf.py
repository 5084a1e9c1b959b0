"""A .gguf file becomes a folder once, and another file under its name another folder."""

from pathlib import Path

import pytest

from finegrade.errors import InputError
from finegrade.models import backbone


@pytest.fixture
def converted(monkeypatch, tmp_path) -> list[bytes]:
    """What was converted, in order; the conversion itself is transformers' work."""
    seen: list[bytes] = []

    def convert(path: Path, folder: Path) -> None:
        seen.append(path.read_bytes())
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(path.read_bytes())

    monkeypatch.setattr(backbone, "_convert", convert)
    monkeypatch.setenv("FINEGRADE_CACHE", str(tmp_path / "cache"))
    return seen


def test_a_file_is_converted_once_and_its_own_folder_left_alone(converted, tmp_path):
    (tmp_path / "mine").mkdir()
    path = tmp_path / "mine" / "my.gguf"
    path.write_bytes(b"one")
    assert backbone.as_folder(path) == backbone.as_folder(path)
    assert converted == [b"one"]
    assert list(path.parent.iterdir()) == [path]


def test_another_file_of_that_name_is_converted_anew(converted, tmp_path):
    path = tmp_path / "my.gguf"
    path.write_bytes(b"one")
    first = backbone.as_folder(path)
    path.write_bytes(b"another")
    second = backbone.as_folder(path)
    assert (second / "model.safetensors").read_bytes() == b"another"
    assert (first / "model.safetensors").read_bytes() == b"one"


def test_what_a_kill_left_is_no_model(converted, tmp_path, monkeypatch):
    path = tmp_path / "my.gguf"
    path.write_bytes(b"one")
    convert = backbone._convert

    def killed(source: Path, folder: Path) -> None:
        folder.mkdir()
        raise KeyboardInterrupt

    monkeypatch.setattr(backbone, "_convert", killed)
    with pytest.raises(KeyboardInterrupt):
        backbone.as_folder(path)
    monkeypatch.setattr(backbone, "_convert", convert)
    assert (backbone.as_folder(path) / "model.safetensors").read_bytes() == b"one"


def test_what_transformers_cannot_read_is_refused(converted, tmp_path, monkeypatch):
    def fails(path: Path, folder: Path) -> None:
        raise ValueError("GGUF model with architecture x is not supported yet.")

    monkeypatch.setattr(backbone, "_convert", fails)
    (tmp_path / "my.gguf").write_bytes(b"one")
    with pytest.raises(InputError, match="architecture x is not supported"):
        backbone.as_folder(tmp_path / "my.gguf")
