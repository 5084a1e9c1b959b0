"""What AnchorTransformer reads out of real architectures is the definition on their own eager probabilities."""

import copy
import itertools
import shutil
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor
from transformers import AutoModel

from finegrade.models.portable.anchor_pooling import AnchorPooling
from finegrade.models.portable.anchor_transformer import AnchorTransformer
from helpers.attention_definition import received, rule
from helpers.families import FAMILIES, TOKENS, Family


@pytest.fixture(scope="module")
def load(
    tmp_path_factory: pytest.TempPathFactory, tiny_encoder: Path
) -> Callable[[str], tuple[AnchorTransformer, Any]]:
    """Gives a family's AnchorTransformer and its plain eager twin, with the same random weights."""

    @cache
    def made(name: str) -> tuple[AnchorTransformer, Any]:
        family, folder = FAMILIES[name], tmp_path_factory.mktemp("model")
        torch.manual_seed(0)
        model = AutoModel.from_config(getattr(transformers, family.config)(**family.options))
        for parameter in model.parameters():  # far from uniform attention, sinks included
            parameter.data.add_(0.3 * torch.randn_like(parameter))
        model.save_pretrained(folder)
        for file in tiny_encoder.glob("tokenizer*"):
            shutil.copy(file, folder)
        ours = AnchorTransformer(str(folder), model_kwargs={"attn_implementation": family.attention}).eval()
        return ours, AutoModel.from_pretrained(folder, attn_implementation="eager").eval()

    return made


Load = Callable[[str], tuple[AnchorTransformer, Any]]


def batch(side: str = "both") -> dict[str, Tensor]:
    mask = torch.ones(3, TOKENS, dtype=torch.long)
    if side in ("right", "both"):
        mask[1, 6:] = 0
    if side in ("left", "both"):
        mask[2, :4] = 0
    ids = torch.randint(3, 60, (3, TOKENS), generator=torch.Generator().manual_seed(7))
    return {"input_ids": ids, "attention_mask": mask}


def by_definition(family: Family, probability: Tensor, mask: Tensor) -> Tensor:
    rows = []
    for attention, valid in zip(probability.double().tolist(), mask.bool().tolist(), strict=True):
        rows.append(received(attention, rule(valid, family.causal, family.window), valid))
    return torch.tensor(rows)


@pytest.mark.parametrize("side", ["none", "both"])
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.slow
def test_features_hold_the_definition_and_the_same_states(name: str, side: str, load: Load) -> None:
    ours, plain = load(name)
    inputs = batch(side)
    with torch.no_grad():
        features = ours(dict(inputs))
        output = plain(**inputs, output_attentions=True)
    valid = inputs["attention_mask"].bool()
    wanted = by_definition(FAMILIES[name], output.attentions[-1], inputs["attention_mask"])
    assert wanted[valid].std() > 0.01  # the weights tell tokens apart, so that the comparison can fail
    torch.testing.assert_close(features["received_attention"], wanted.float(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(
        features["token_embeddings"][valid], output.last_hidden_state[valid], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("name", ["Bert", "Mistral", "Gemma2", "MPNet", "ModernBert, local"])
@pytest.mark.slow
def test_gradients_of_the_pooled_vector_are_those_of_the_eager_way(name: str, load: Load) -> None:
    family, (ours, plain), inputs = FAMILIES[name], load(name), batch()
    mask = inputs["attention_mask"]
    ours.zero_grad()
    plain.zero_grad()
    pooled = AnchorPooling(32)(ours(dict(inputs)))["sentence_embedding"]
    output = plain(**inputs, output_attentions=True)
    see = torch.tensor([rule(valid, family.causal, family.window) for valid in mask.bool().tolist()])
    heard = (torch.log1p(see.sum(-1)[:, None, :, None] * output.attentions[-1]) * see[:, None]).sum((1, 2))
    weights = heard / see.sum(1).clamp(min=1)
    wanted = (weights[..., None] * output.last_hidden_state).sum(1) / weights.sum(1, keepdim=True)
    torch.testing.assert_close(pooled, wanted, rtol=1e-4, atol=1e-4)
    direction = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(3))
    (pooled * direction).sum().backward()
    (wanted * direction).sum().backward()
    compared = 0
    for (parameter, own), theirs in zip(ours.model.named_parameters(), plain.parameters(), strict=True):
        if theirs.grad is not None and theirs.grad.norm() > 1e-4:
            assert own.grad is not None, parameter
            assert (own.grad - theirs.grad).norm() <= 1e-3 * theirs.grad.norm(), parameter
            compared += 1
    assert compared >= 20


def test_the_models_configuration_is_untouched(load: Load) -> None:
    ours, plain = load("Llama")
    assert ours.model.config._attn_implementation == "sdpa"
    assert {layer.self_attn.config._attn_implementation for layer in ours.model.layers[:-1]} == {"sdpa"}
    own = ours.model.config.to_dict() | {"use_cache": True}  # sentence-transformers turns the cache off
    assert own == plain.config.to_dict()
    assert "finegrade" not in ours.model.config.to_json_string()


def test_models_of_one_process_do_not_disturb_each_other(load: Load) -> None:
    first, _ = load("Bert")
    inputs = batch()
    with torch.no_grad():
        alone = first(dict(inputs))["received_attention"]
        other, plain = load("Llama")
        other(dict(inputs))
        plain(**inputs)
        twin = copy.deepcopy(first)
        again, copied = first(dict(inputs))["received_attention"], twin(dict(inputs))["received_attention"]
    assert torch.equal(alone, again)
    assert torch.equal(alone, copied)


@pytest.mark.slow
def test_four_threads_each_get_their_own_weights(load: Load) -> None:
    ours, _ = load("Bert")
    batches = [
        {"input_ids": batch()["input_ids"].roll(i, 1), "attention_mask": batch()["attention_mask"]} for i in range(8)
    ]

    def weigh(inputs: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            return ours(dict(inputs))["received_attention"]

    one_by_one = [weigh(inputs) for inputs in batches]
    assert not torch.equal(one_by_one[0], one_by_one[1])
    with ThreadPoolExecutor(4) as pool:
        for found, wanted in zip(pool.map(weigh, batches * 5), one_by_one * 5, strict=True):
            torch.testing.assert_close(found, wanted)


@pytest.mark.slow
def test_a_model_whose_attention_cannot_be_read_is_refused(tmp_path: Path, tiny_encoder: Path) -> None:
    options = {"vocab_size": 100, "dim": 32, "hidden_dim": 48, "n_layers": 1, "n_heads": 4}
    AutoModel.from_config(transformers.XLMConfig(**options)).save_pretrained(tmp_path)
    for file in tiny_encoder.glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    with pytest.raises(ValueError, match=r"XLM\w* .* choose another backbone, or mean pooling"):
        AnchorTransformer(str(tmp_path))


@pytest.mark.parametrize("name", ["Bert", "Llama"])
@pytest.mark.slow
def test_reentrant_checkpointing_is_refused_and_the_other_kind_gives_the_same_gradients(name: str, load: Load) -> None:
    ours = copy.deepcopy(load(name)[0]).train()

    def gradient() -> Tensor:
        ours.zero_grad()
        torch.manual_seed(0)
        AnchorPooling(32)(ours(batch()))["sentence_embedding"].square().sum().backward()
        return torch.cat([p.grad.flatten() for p in ours.parameters() if p.grad is not None])

    wanted = gradient()
    ours.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": False})
    torch.testing.assert_close(gradient(), wanted, rtol=1e-4, atol=1e-5)
    ours.model.activation_checkpointing_enable(activation_checkpointing_kwargs={"use_reentrant": True})
    with pytest.raises(NotImplementedError, match="use_reentrant=False"):
        ours(batch())
    with torch.no_grad():  # nothing is checkpointed here
        assert ours.eval()(batch())["received_attention"].shape == (3, TOKENS)


def test_pooling_weighs_the_states_and_gives_0_for_a_row_of_padding() -> None:
    states = torch.randn(2, 3, 4)
    features = {
        "token_embeddings": states,
        "received_attention": torch.tensor([[1.0, 3.0, 5.0], [0.0, 0.0, 0.0]]),
        "attention_mask": torch.tensor([[1, 1, 0], [0, 0, 0]]),
    }
    pooled = AnchorPooling(4)(features)["sentence_embedding"]
    torch.testing.assert_close(pooled[0], (states[0, 0] + 3 * states[0, 1]) / 4)
    assert torch.equal(pooled[1], torch.zeros(4))


def varlen_stand_in(
    module: Any, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
) -> tuple[Tensor, None]:
    """What flash attention's variable-length function computes, text by text, by the definition of attention."""
    assert attention_mask is None
    causal = options.get("is_causal")
    causal = module.is_causal if causal is None else causal
    ends = options.get("cu_seq_lens_q", torch.tensor([0, query.shape[2]])).tolist()
    outputs = []
    for begin, end in itertools.pairwise(ends):
        text = slice(begin, end)
        see = torch.tensor(rule([True] * (end - begin), bool(causal), options.get("sliding_window")))
        outputs.append(
            torch.nn.functional.scaled_dot_product_attention(
                query[:, :, text], key[:, :, text], value[:, :, text], see, scale=options["scaling"], enable_gqa=True
            )
        )
    return torch.cat(outputs, dim=2).transpose(1, 2), None


@pytest.mark.parametrize("name", ["Bert", "Llama", "Llama both ways", "Mistral"])
def test_flattened_texts_have_the_weights_and_vectors_of_padded_ones(name: str, load: Load) -> None:
    ours, _ = load(name)
    flat = copy.deepcopy(ours)
    transformers.AttentionInterface.register("varlen_stand_in", varlen_stand_in)
    flat.model.set_attn_implementation("varlen_stand_in")
    inputs = batch("right")
    mask = inputs["attention_mask"].bool()
    lengths = mask.sum(1)
    ends = torch.cat([torch.zeros(1, dtype=torch.long), lengths.cumsum(0)]).int()
    pool = AnchorPooling(32, include_prompt=False)
    with torch.no_grad():
        padded = pool({**ours(dict(inputs)), "prompt_length": 2})
        flattened = pool(
            flat(
                {
                    "input_ids": inputs["input_ids"][mask][None],
                    "position_ids": torch.cat([torch.arange(n) for n in lengths])[None],
                    "cu_seq_lens_q": ends,
                    "cu_seq_lens_k": ends,
                    "max_length_q": int(lengths.max()),
                    "max_length_k": int(lengths.max()),
                    "prompt_length": 2,
                }
            )
        )
    torch.testing.assert_close(
        flattened["received_attention"][0], padded["received_attention"][mask], rtol=1e-4, atol=1e-5
    )
    torch.testing.assert_close(flattened["sentence_embedding"], padded["sentence_embedding"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(flattened["anchor_weights"][0], padded["anchor_weights"][mask], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.slow
def test_dropout_touches_the_output_and_not_the_weights(name: str, load: Load) -> None:
    """In the last layer: with dropout before it, states and so weights differ."""
    ours = copy.deepcopy(load(name)[0])
    inputs = batch()
    with torch.no_grad():
        wanted = ours(dict(inputs))["received_attention"]
        for module in ours.model.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.0
        last = [
            m
            for m in ours.model.modules()
            if hasattr(m, "attention_dropout") or type(m).__name__.endswith("SelfAttention")
        ][-1]
        if hasattr(last, "attention_dropout"):
            last.attention_dropout = 0.9
        if isinstance(getattr(last, "dropout", None), torch.nn.Dropout):
            last.dropout.p = 0.9
        torch.manual_seed(0)
        found = ours.train()(dict(inputs))
    torch.testing.assert_close(found["received_attention"], wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", ["Bert", "MPNet"])
def test_another_backend_gives_the_same_weights_and_is_not_saved(name: str, load: Load, tmp_path: Path) -> None:
    ours = copy.deepcopy(load(name)[0])
    with torch.no_grad():
        wanted = ours(batch())["received_attention"]
        ours.use_backend("reference")
        torch.testing.assert_close(ours(batch())["received_attention"], wanted, rtol=1e-5, atol=1e-6)
    ours.save(str(tmp_path))
    assert "reference" not in (tmp_path / "sentence_bert_config.json").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["Bert", "Llama", "Gemma3"])
def test_autocast_gives_nearly_the_same_weights(name: str, load: Load) -> None:
    ours, _ = load(name)
    inputs = batch()
    with torch.no_grad():
        wanted = ours(dict(inputs))["received_attention"]
        with torch.autocast("cpu", torch.bfloat16):
            found = ours(dict(inputs))["received_attention"]
    assert found.dtype == torch.float32
    assert (found - wanted).abs().max() <= 0.05 * wanted.abs().max()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")  # of torch itself
@pytest.mark.parametrize("name", ["Bert", "Llama"])
def test_a_compiled_model_gives_the_same_weights(name: str, load: Load) -> None:
    ours = copy.deepcopy(load(name)[0])
    inputs = batch()
    with torch.no_grad():
        wanted = ours(dict(inputs))
        ours.model = torch.compile(ours.model)
        found = ours(dict(inputs))
    torch.testing.assert_close(found["received_attention"], wanted["received_attention"], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(found["token_embeddings"], wanted["token_embeddings"], rtol=1e-4, atol=1e-5)
