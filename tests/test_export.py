"""`finegrade export --onnx`: the graph is the model at every size, and what does not hold is not kept."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
import transformers
from sentence_transformers import SentenceTransformer
from transformers import AutoModel

from finegrade.encoder import build_encoder, load_encoder, save_encoder
from finegrade.export_folder import MANIFEST
from finegrade.exporting import export_onnx
from finegrade.onnx_graph import GRAPH, OnnxEncoder, write_graph
from test_anchor_transformer import FAMILIES

TEXTS = ["graph", "open the file and read the rows of a table by value and key", "sort the rows"]
LONGEST = 64
SIZES = [(1, 1), (1, 2), (1, LONGEST), (2, 1), (3, 9), (5, 17), (2, LONGEST)]
"""Batch and tokens: none are those of the two texts that a graph is traced with."""

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of torch's exporter


@pytest.fixture(scope="module")
def folder(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("anchor") / "model"
    save_encoder(build_encoder(str(tiny_encoder), max_length=12, device="cpu"), path)
    return path


def test_the_exported_folder_gives_the_models_vectors(folder: Path, tmp_path: Path, capsys: Any) -> None:
    export_onnx(folder, tmp_path / "onnx")
    model, exported = load_encoder(folder, device="cpu"), OnnxEncoder(tmp_path / "onnx")
    wanted = model.encode(TEXTS)
    np.testing.assert_allclose(exported.encode(TEXTS), wanted, atol=1e-5)
    np.testing.assert_allclose(exported.encode(TEXTS[:1]), wanted[:1], atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(exported.encode(TEXTS), axis=1), 1, rtol=1e-5)
    manifest = json.loads((tmp_path / "onnx" / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["outputs"] == ["sentence_embedding", "anchor_weights"]
    assert manifest["max_length"] == 12
    assert manifest["dimension"] == wanted.shape[1]
    assert set(manifest["source"]["sha256"]) == {"model.safetensors"}
    assert f"{manifest['largest_difference']:.1e}" in capsys.readouterr().err
    assert not list(tmp_path.glob(".*"))


@pytest.fixture(scope="module")
def family(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], SentenceTransformer]:
    """Gives an anchor-pooling model of a family, with random weights far from uniform attention."""

    def made(name: str) -> SentenceTransformer:
        kind, folder = FAMILIES[name], tmp_path_factory.mktemp("family")
        torch.manual_seed(0)
        backbone = AutoModel.from_config(getattr(transformers, kind.config)(**kind.options))
        for parameter in backbone.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
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
        ("Bert", ["right"]),
        ("Llama", ["right", "left"]),
        ("Llama both ways", ["right", "left"]),
        ("Gemma3", ["right", "left"]),
        ("ModernBert", ["right"]),
        ("MPNet", ["right"]),
    ],
)
def test_the_graph_is_the_model_at_sizes_that_it_was_not_traced_with(
    name: str, sides: list[str], family: Callable[[str], SentenceTransformer], tmp_path: Path
) -> None:
    model = family(name)
    write_graph(model, tmp_path / GRAPH)
    session = onnxruntime.InferenceSession(str(tmp_path / GRAPH), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    for (batch, tokens), side in ((size, side) for size in SIZES for side in sides):
        given = features(batch, tokens, side)
        if "token_type_ids" in names:
            given["token_type_ids"] = torch.zeros_like(given["input_ids"])
        with torch.inference_mode():
            wanted = model(dict(given))
        vectors, weights = session.run(None, {name: given[name].numpy() for name in names})
        told = f"{batch} texts of {tokens} tokens, padded on the {side}"
        np.testing.assert_allclose(vectors, wanted["sentence_embedding"], atol=2e-5, err_msg=told)
        np.testing.assert_allclose(weights, wanted["anchor_weights"], atol=2e-5, err_msg=told)
