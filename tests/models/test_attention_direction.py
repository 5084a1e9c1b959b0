"""Decoders that read both ways: a late token changes an early token's state, wherever the model has been since."""

import shutil
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from peft import LoraConfig
from sentence_transformers import SentenceTransformer
from transformers import AutoModel

from finegrade.errors import InputError
from finegrade.models.backbone import merge_lora
from finegrade.models.encoder import build_encoder, load_encoder, save_encoder

BASE: dict[str, Any] = {
    "vocab_size": 100, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "num_attention_heads": 4,
    "num_key_value_heads": 2, "max_position_embeddings": 64, "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2,
}  # fmt: skip
DECODERS = {
    "Llama": BASE,
    "Mistral": BASE,
    "Qwen2": BASE,
    "Qwen3": {**BASE, "head_dim": 8},
    "Gemma": {**BASE, "head_dim": 8},
    "Gemma2": {**BASE, "head_dim": 8},
    "Gemma3Text": {**BASE, "head_dim": 8},
    "SmolLM3": BASE,
    "Phi3": BASE,
    "GptOss": {**BASE, "head_dim": 8, "num_local_experts": 2, "num_experts_per_tok": 1},
}


@pytest.fixture(scope="module")
def backbone(tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path) -> Callable[[str], Path]:
    """Gives the folder of a tiny decoder with random weights, far from uniform attention."""

    @cache
    def made(family: str) -> Path:
        folder = tmp_path_factory.mktemp("decoder")
        torch.manual_seed(0)
        model = AutoModel.from_config(getattr(transformers, f"{family}Config")(**DECODERS[family]))
        for parameter in model.parameters():
            parameter.data.add_(0.3 * torch.randn_like(parameter))
        model.save_pretrained(folder)
        for file in tiny_encoder.glob("tokenizer*"):
            shutil.copy(file, folder)
        return folder

    return made


def first_state_changes(model: SentenceTransformer, padded: bool) -> bool:
    """Whether another last token gives the first token another state, without padding or with it on both sides."""
    ids = torch.tensor([[7, 8, 9, 10, 11], [7, 8, 9, 10, 12]])
    mask, first = torch.ones_like(ids), 0
    if padded:
        ids, first = torch.nn.functional.pad(ids, (2, 3)), 2
        mask = torch.nn.functional.pad(mask, (2, 3))
    with torch.no_grad():
        states = model[0]({"input_ids": ids, "attention_mask": mask})["token_embeddings"]
    return bool((states[0, first] - states[1, first]).abs().max() > 1e-5)


EAGER_ONLY = ("Gemma2", "GptOss")


@pytest.mark.parametrize(
    ("family", "implementation"),
    [(name, way) for name in DECODERS for way in ("eager", "sdpa") if way == "eager" or name not in EAGER_ONLY],
)
@pytest.mark.slow
def test_a_late_token_changes_the_first_state_only_where_both_ways_are_asked_for(
    family: str, implementation: str, backbone: Callable[[str], Path]
) -> None:
    for attention, seen in (("native", False), ("bidirectional", True)):
        model = build_encoder(str(backbone(family)), attention=attention, device="cpu")
        model[0].model.set_attn_implementation(implementation)
        assert [first_state_changes(model, padded) for padded in (False, True)] == [seen, seen], attention


@pytest.mark.parametrize("pooling", ["anchor", "mean"])
@pytest.mark.parametrize("family", ["Llama", "Gemma3Text", "Qwen3"])
def test_both_ways_survive_saving_and_loading(
    family: str, pooling: Any, backbone: Callable[[str], Path], tmp_path: Path
) -> None:
    model = build_encoder(str(backbone(family)), pooling=pooling, attention="bidirectional", device="cpu")
    save_encoder(model, tmp_path / "model")
    loaded = load_encoder(tmp_path / "model", device="cpu")
    for padded in (False, True):
        assert first_state_changes(loaded, padded)
    texts = ["open the file", "sort the rows of a table"]
    torch.testing.assert_close(loaded.encode(texts), model.encode(texts), rtol=0, atol=0)


@pytest.mark.parametrize("attention", ["native", "bidirectional"])
@pytest.mark.parametrize("family", ["Llama", "Gemma3Text", "Phi3"])
@pytest.mark.slow
def test_merging_lora_changes_no_vector_and_no_direction(
    family: str, attention: Any, backbone: Callable[[str], Path], tmp_path: Path
) -> None:
    model = build_encoder(str(backbone(family)), attention=attention, lora=4, device="cpu").eval()
    trained = [name for name, parameter in model.named_parameters() if parameter.requires_grad]
    assert trained
    assert all("lora_" in name for name in trained)
    untouched = model.encode(["open the file"])
    for name, parameter in model.named_parameters():
        if "lora_B" in name:  # they begin at 0: nothing learned yet
            torch.nn.init.normal_(parameter, std=0.2)
    texts = ["open the file", "sort the rows of a table"]
    wanted = model.encode(texts)
    assert abs(wanted[0] - untouched[0]).max() > 1e-3
    merge_lora(model[0].model)
    torch.testing.assert_close(model.encode(texts), wanted, rtol=0, atol=1e-5)
    save_encoder(model, tmp_path / "model")
    assert not list(tmp_path.rglob("adapter*"))
    loaded = load_encoder(tmp_path / "model", device="cpu")
    torch.testing.assert_close(loaded.encode(texts), model.encode(texts), rtol=0, atol=0)
    for padded in (False, True):
        assert first_state_changes(loaded, padded) == (attention == "bidirectional")


@pytest.mark.slow
def test_adapters_are_merged_by_saving_and_what_cannot_be_merged_is_refused(
    backbone: Callable[[str], Path], tmp_path: Path
) -> None:
    model = build_encoder(str(backbone("Llama")), pooling="mean", lora=4, device="cpu").eval()
    wanted = model.encode(["open the file"])
    save_encoder(model, tmp_path / "model")
    assert not list(tmp_path.rglob("adapter*"))
    torch.testing.assert_close(load_encoder(tmp_path / "model", device="cpu").encode(["open the file"]), wanted)
    with pytest.raises(ValueError, match="modules_to_save and trainable_token_indices cannot be merged"):
        build_encoder(str(backbone("Llama")), lora=LoraConfig(modules_to_save=["norm"]), device="cpu")


@pytest.mark.slow
def test_an_encoder_reads_both_ways_as_it_is(tiny_encoder: Path) -> None:
    native, asked = (build_encoder(str(tiny_encoder), attention=a, device="cpu") for a in ("native", "bidirectional"))
    torch.testing.assert_close(asked.encode(["open the file"]), native.encode(["open the file"]), rtol=0, atol=0)
    assert getattr(asked[0].model.config, "is_causal", None) is not False  # nothing that a server would stumble over


def test_a_decoder_that_heeds_nothing_is_refused_in_one_line(tmp_path: Path, tiny_encoder: Path) -> None:
    config = transformers.OpenAIGPTConfig(vocab_size=100, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    model = AutoModel.from_config(config)
    model.save_pretrained(tmp_path)
    for file in tiny_encoder.glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    with pytest.raises(InputError, match="got OpenAIGPTModel, which stays causal; wanted a decoder that"):
        build_encoder(str(tmp_path), pooling="mean", attention="bidirectional", device="cpu")


def test_merging_where_there_are_no_adapters_changes_nothing(tiny_encoder: Path) -> None:
    model = build_encoder(str(tiny_encoder), device="cpu")
    model[0].model.embeddings.requires_grad_(False)
    merge_lora(model[0].model)
    assert not model[0].model.embeddings.word_embeddings.weight.requires_grad
