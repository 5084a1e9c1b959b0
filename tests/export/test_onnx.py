"""`finegrade export --onnx`: the graph is the model at every size, and what does not hold is not kept."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from transformers import AutoModel

from finegrade.errors import CheckFailedError, InputError
from finegrade.export import onnx as exporting
from finegrade.export.folder import MANIFEST, new_export, write_manifest
from finegrade.export.onnx import GRAPH, OnnxEncoder, export_onnx, write_graph
from finegrade.models.encoder import build_encoder, load_encoder, save_encoder
from helpers.families import FAMILIES

TEXTS = ["graph", "open the file and read the rows of a table by value and key", "sort the rows"]
LONGEST = 64
SIZES = [(1, 1), (1, 2), (1, LONGEST), (2, 1), (3, 9), (5, 17), (2, LONGEST)]
"""Batch and tokens; a graph is traced with two texts of about ten tokens."""


@pytest.fixture(scope="module")
def folder(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of an anchor-pooling model."""
    path = tmp_path_factory.mktemp("anchor") / "model"
    model = build_encoder(str(tiny_encoder), max_length=12, device="cpu")
    disturb(model)
    save_encoder(model, path)
    return path


def disturb(model: torch.nn.Module) -> None:
    """Takes random weights far from uniform attention."""
    torch.manual_seed(0)
    for parameter in model.parameters():
        parameter.data.add_(0.3 * torch.randn_like(parameter))


@pytest.fixture(scope="module")
def exported(folder: Path) -> Path:
    export_onnx(folder, None)
    return folder.with_name("model-onnx")


@pytest.mark.slow
def test_the_exported_folder_gives_the_models_vectors(folder: Path, exported: Path) -> None:
    model, graph = load_encoder(folder, device="cpu"), OnnxEncoder(exported)
    wanted = model.encode(TEXTS)
    np.testing.assert_allclose(graph.encode(TEXTS), wanted, atol=1e-5)
    np.testing.assert_allclose(graph.encode(TEXTS[:1]), wanted[:1], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(graph.encode(TEXTS), axis=1), 1, rtol=1e-5)


@pytest.mark.slow
def test_the_exported_graph_is_the_model_at_other_sizes(folder: Path, exported: Path) -> None:
    assert_same(load_encoder(folder, device="cpu"), exported / GRAPH, ["right"])


@pytest.mark.slow
def test_the_manifest_says_what_a_user_has_to_know(folder: Path, exported: Path) -> None:
    manifest = json.loads((exported / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["inputs"] == ["input_ids", "attention_mask"]
    assert manifest["outputs"] == ["sentence_embedding", "anchor_weights"]
    assert (manifest["max_length"], manifest["dimension"]) == (12, 32)
    assert set(manifest["source"]["sha256"]) == {"model.safetensors"}
    assert manifest["largest_difference"] <= 1e-5
    files = {path.name for path in exported.iterdir()}
    assert files == {MANIFEST, *manifest["files"]} >= {GRAPH, "tokenizer.json"}
    assert not list(exported.parent.glob(".*"))


@pytest.mark.slow
def test_a_larger_difference_leaves_nothing_behind_and_the_earlier_export_in_place(
    folder: Path, exported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = {path.name: path.stat().st_mtime_ns for path in exported.iterdir()}
    monkeypatch.setattr(
        exporting, "write_graph", lambda model, path: (["input_ids"], shutil.copy(exported / GRAPH, path))
    )
    monkeypatch.setattr(exporting, "TOLERANCE", 1e-12)
    with pytest.raises(CheckFailedError, match=r"off by .*more than 1e-12; nothing was kept"):
        export_onnx(folder, None)
    assert {path.name: path.stat().st_mtime_ns for path in exported.iterdir()} == before
    assert {path.name for path in exported.parent.iterdir()} == {"model", "model-onnx"}


@pytest.fixture(scope="module")
def family(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SentenceTransformer]:
    """Gives an anchor-pooling model of two layers of a family."""

    def made(name: str) -> SentenceTransformer:
        kind, folder = FAMILIES[name], tmp_path_factory.mktemp("family")
        options = {**kind.options, "num_hidden_layers": 2}
        backbone = AutoModel.from_config(getattr(transformers, kind.config)(**options))
        disturb(backbone)
        backbone.save_pretrained(folder)
        for file in tiny_encoder.glob("tokenizer*"):
            shutil.copy(file, folder)
        return build_encoder(str(folder), device="cpu").eval()

    return made


def features(batch: int, tokens: int, side: str) -> dict[str, torch.Tensor]:
    """Random tokens, each text shorter than the one before it, padded on one side."""
    draw = torch.Generator().manual_seed(batch * tokens)
    lengths = [max(1, tokens - text) for text in range(batch)]
    padded = torch.tensor([[0] * (tokens - n) + [1] * n for n in lengths])
    mask = padded if side == "left" else padded.flip(1)
    return {"input_ids": torch.randint(3, 60, (batch, tokens), generator=draw) * mask, "attention_mask": mask}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "sides"),
    [
        ("Llama", ["right", "left"]),
        ("Llama both ways", ["right", "left"]),
        ("Gemma3", ["right", "left"]),
        ("ModernBert", ["right"]),
    ],
)
def test_the_graph_is_the_model_at_sizes_that_it_was_not_traced_with(
    name: str, sides: Sequence[str], family: Callable[[str], SentenceTransformer], tmp_path: Path
) -> None:
    model = family(name)
    write_graph(model, tmp_path / GRAPH)
    assert_same(model, tmp_path / GRAPH, sides)


def assert_same(model: SentenceTransformer, graph: Path, sides: Sequence[str]) -> None:
    """The graph's vectors and weights are the model's, at all sizes."""
    session = onnxruntime.InferenceSession(str(graph), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    for (batch, tokens), side in ((size, side) for size in SIZES for side in sides):
        given = features(batch, tokens, side)
        with torch.inference_mode():
            wanted = model(dict(given))
        vectors, weights = session.run(None, {name: given[name].numpy() for name in names})
        message = f"{batch} texts of {tokens} tokens, padded on the {side}"
        np.testing.assert_allclose(vectors, wanted["sentence_embedding"], atol=2e-5, err_msg=message)
        np.testing.assert_allclose(weights, wanted["anchor_weights"], atol=2e-5, err_msg=message)


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_a_missing_package_is_reported(missing: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exporting, "find_spec", lambda name: None if name == missing else object())
    with pytest.raises(InputError, match=rf"got no {missing}; wanted .*pip install \"finegrade\[onnx\]\""):
        export_onnx(folder, None)


def test_pooling_that_leaves_prompts_out_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    save_encoder(build_encoder(str(tiny_encoder), include_prompt=False, device="cpu"), tmp_path / "model")
    with pytest.raises(InputError, match="leaves out a prompt's tokens"):
        export_onnx(tmp_path / "model", None)


def test_a_model_that_cannot_be_traced_is_reported_in_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*given: Any) -> None:
        raise torch.onnx.OnnxExporterError("step 1 of 3\nfailed")

    monkeypatch.setattr(exporting, "write_graph", fail)
    with pytest.raises(CheckFailedError, match=r"cannot be traced: step 1 of 3 failed$"):
        export_onnx(folder, tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


def export(target: Path, source: Path, *names: str) -> None:
    with new_export(target, source) as work:
        for name in names:
            (work / name).touch()
        write_manifest(work, "test", source, {})


def test_an_earlier_export_is_replaced_whole(tmp_path: Path) -> None:
    export(tmp_path / "out", tmp_path / "model", "a", "b")
    export(tmp_path / "out", tmp_path / "model", "b", "c")
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"b", "c", MANIFEST}


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
def test_an_interrupted_export_leaves_the_earlier_one(error: type[BaseException], tmp_path: Path) -> None:
    export(tmp_path / "out", tmp_path / "model", "a")
    with pytest.raises(error), new_export(tmp_path / "out", tmp_path / "model") as work:
        (work / "b").touch()
        raise error
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a", MANIFEST}


def test_an_earlier_export_comes_back_where_the_new_one_cannot_take_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    export(tmp_path / "out", tmp_path / "model", "a")
    replace = Path.replace

    def refuse(self: Path, target: Path) -> Path:
        if self.name.endswith(".partial"):
            raise OSError("refused")
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(OSError, match="refused"):
        export(tmp_path / "out", tmp_path / "model", "b")
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"a", MANIFEST}


def test_two_exports_to_one_place_do_not_meet(tmp_path: Path) -> None:
    with new_export(tmp_path / "out", tmp_path / "model") as work:
        (work / "a").touch()
        with pytest.raises(InputError, match="got an export under way"):
            export(tmp_path / "out", tmp_path / "model", "b")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_what_onnx_runtime_refuses_is_reported_in_one_line(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(exporting, "write_graph", lambda model, path: (path.write_text("no graph"), []))
    with pytest.raises(CheckFailedError, match=r"ONNX Runtime does not run the graph: .*nothing was kept"):
        export_onnx(folder, tmp_path / "onnx")
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_default_prompt_is_the_users_to_add(folder: Path) -> None:
    model = load_encoder(folder, device="cpu")
    model.prompts, model.default_prompt_name = {"query": "open the file "}, "query"
    without = load_encoder(folder, device="cpu")

    class Twin:
        def encode(self, texts: Sequence[str]) -> np.ndarray:
            return without.encode(list(texts))

    assert exporting.largest_difference(model, Twin(), TEXTS) < 1e-6


DAMAGES: dict[str, Callable[[Path], Any]] = {
    "json": lambda folder: (folder / "config.json").write_text("{"),
    "weights": lambda folder: (folder / "model.safetensors").write_bytes(b"\0" * 100),
    "class": lambda folder: (folder / "modules.json").write_text(
        (folder / "modules.json").read_text().replace("anchor_pooling.AnchorPooling", "own.Pooling")
    ),
    "form": lambda folder: (folder / "sentence_bert_config.json").write_text('{"form": "mean"}'),
    "one module": lambda folder: (folder / "modules.json").write_text(
        json.dumps(json.loads((folder / "modules.json").read_text())[:1])
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_model_is_reported_in_one_line(damage: str, folder: Path, tmp_path: Path) -> None:
    model = tmp_path / "model"
    shutil.copytree(folder, model)
    DAMAGES[damage](model)
    with pytest.raises(InputError, match=r"; wanted (a model that loads|one that pools)\. Name a model"):
        export_onnx(model, None)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


@pytest.mark.parametrize("manifest", [None, "{}", "no JSON", '{"files": ["a"]}'])
def test_files_of_others_are_never_replaced(manifest: str | None, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").touch()
    if manifest is not None:
        (tmp_path / MANIFEST).write_text(manifest)
    with pytest.raises(InputError, match=r"got other files there \(.*Name another folder with --output"):
        export(tmp_path, tmp_path.with_name("model"), "a")
    assert (tmp_path / "thesis.txt").is_file()


@pytest.mark.parametrize("target", ["model", "model/onnx", "."])
def test_the_model_itself_is_never_replaced(target: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got the model's own folder"):
        export(tmp_path / target, tmp_path / "model")


def test_a_file_in_the_place_of_the_folder_is_reported(tmp_path: Path) -> None:
    (tmp_path / "out").touch()
    with pytest.raises(InputError, match="got a file; wanted a new or empty folder"):
        export(tmp_path / "out", tmp_path / "model")
