"""Encoders are plain sentence-transformers folders: they load where finegrade is not, and no code runs unasked."""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from itertools import combinations
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
import torch
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer

import finegrade.models.portable
from finegrade.config import PoolingName
from finegrade.errors import InputError
from finegrade.models.encoder import build_encoder, load_encoder, save_encoder
from finegrade.models.portable.anchor_pooling import AnchorPooling
from finegrade.models.portable.latent_pooling import LatentPooling

TEXTS = ["open the file", "sort the rows of a table by value and then by key", "graph", "lock and queue of a thread"]

REFUSE = """
import json, sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in REFUSED:
            raise ImportError(f"{name} is not installed here")

sys.meta_path.insert(0, Refuse())
"""

WITHOUT_FINEGRADE = """
from sentence_transformers import SentenceTransformer

source, target, texts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
model = SentenceTransformer(source, device="cpu", trust_remote_code=True)
first = model.encode(texts).tolist()
model.save_pretrained(target)
again = SentenceTransformer(target, device="cpu", trust_remote_code=True).encode(texts).tolist()
assert not any(name.partition(".")[0] == "finegrade" for name in sys.modules)
print(json.dumps([first, again]))
"""


KERNELS_OF_THE_FOLDER = """
import torch
from sentence_transformers import SentenceTransformer

model = SentenceTransformer(sys.argv[1], device="cpu", trust_remote_code=True)
received_attention = sys.modules[type(model[0]).__module__].received_attention
query, key = torch.randn(2, 1, 2, 9, 8, generator=torch.Generator().manual_seed(0))
print(json.dumps([received_attention(query, key, backend=name).tolist() for name in ("triton", "blockwise")]))
"""


BOTH_VERSIONS = """
import json, sys
from sentence_transformers import SentenceTransformer
from finegrade.models.encoder import load_encoder

saved, changed, texts = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
installed = load_encoder(saved, device="cpu")
first = installed.encode(texts).tolist()
copied = SentenceTransformer(changed, device="cpu", trust_remote_code=True).encode(texts).tolist()
print(json.dumps([first, copied, load_encoder(saved, device="cpu").encode(texts).tolist()]))
assert installed.encode(texts).tolist() == first
"""


@pytest.fixture(scope="session")
def other_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a venv that has the libraries of this one, and no finegrade."""
    folder = tmp_path_factory.mktemp("venv")
    venv.create(folder, symlinks=True)
    (packages,) = folder.glob("lib/python3*/site-packages")
    libraries = {sysconfig.get_path(name) for name in ("purelib", "platlib")}
    (packages / "libraries.pth").write_text("\n".join(sorted(libraries)), encoding="utf-8")
    return folder / "bin" / "python"


def run_python(code: str, *arguments: object, python: Path | str = sys.executable, **environment: str) -> str:
    """Runs code in a Python of its own; gives what it printed last."""
    done = subprocess.run(
        [str(python), "-c", code, *map(str, arguments)],
        capture_output=True, text=True, timeout=120, env=os.environ | environment, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()[-1]


def encode(model: SentenceTransformer, texts: list[str] = TEXTS, **options: Any) -> np.ndarray:
    return model.encode(texts, **options)


@pytest.fixture(scope="module")
def saved(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An anchor-pooling model's folder."""
    folder = tmp_path_factory.mktemp("saved") / "model"
    save_encoder(build_encoder(str(tiny_encoder), device="cpu"), folder)
    return folder


@pytest.mark.parametrize("pooling", get_args(PoolingName))
@pytest.mark.slow
def test_what_is_saved_and_loaded_gives_the_same_vectors(
    pooling: PoolingName, tiny_encoder: Path, tmp_path: Path
) -> None:
    model = build_encoder(str(tiny_encoder), pooling=pooling, max_length=12, device="cpu")
    save_encoder(model, tmp_path / "one")
    loaded = load_encoder(tmp_path / "one", device="cpu")
    save_encoder(loaded, tmp_path / "two")
    wanted = encode(model)
    np.testing.assert_allclose(np.linalg.norm(wanted, axis=1), 1, rtol=1e-5)
    np.testing.assert_array_equal(encode(loaded), wanted)
    np.testing.assert_array_equal(encode(load_encoder(tmp_path / "two", device="cpu")), wanted)
    assert loaded.max_seq_length == 12


@pytest.mark.slow
def test_poolings_differ_where_they_should(tiny_encoder: Path) -> None:
    vectors = {
        name: encode(build_encoder(str(tiny_encoder), pooling=name, device="cpu")) for name in get_args(PoolingName)
    }
    np.testing.assert_allclose(vectors["latent"], vectors["mean"], atol=1e-6)  # untrained it is the mean
    np.testing.assert_allclose(vectors["anchor-paper"], vectors["anchor"], atol=1e-6)  # the model reads both ways
    different = [vectors[name] for name in ("anchor", "mean", "weightedmean", "lasttoken")]
    for one, other in combinations(different, 2):
        assert np.abs(one - other).max() > 1e-4


@pytest.mark.slow
def test_the_papers_form_is_saved_with_the_model_and_another_backbone_form_is_not_kept(
    tiny_encoder: Path, tmp_path: Path
) -> None:
    save_encoder(build_encoder(str(tiny_encoder), pooling="anchor-paper", device="cpu"), tmp_path / "paper")
    assert load_encoder(tmp_path / "paper", device="cpu")[0].form == "paper"
    assert build_encoder(str(tmp_path / "paper"), pooling="anchor", device="cpu")[0].form == "received"
    with pytest.raises(ValueError, match="form is 'other'; wanted one of received, smoothed, paper"):
        build_encoder(str(tiny_encoder), device="cpu")[0].use_form("other")


@pytest.mark.slow
def test_trained_latents_are_saved_and_every_weight_of_theirs_counts(tiny_encoder: Path, tmp_path: Path) -> None:
    model = build_encoder(str(tiny_encoder), pooling="latent", device="cpu")
    for parameter in model[1].parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    model.eval()(model.preprocess(TEXTS))["sentence_embedding"][:, 0].sum().backward()
    assert all(parameter.grad.abs().max() > 0 for parameter in model[1].parameters())
    save_encoder(model, tmp_path / "model")
    np.testing.assert_array_equal(encode(load_encoder(tmp_path / "model", device="cpu")), encode(model))
    assert {path.name for path in tmp_path.rglob("*.py")} == set(LatentPooling.files)


def test_latent_pooling_is_nv_embeds() -> None:
    """By single steps, one text, one head."""
    torch.manual_seed(0)
    pooling = LatentPooling(8, latents=5, heads=1).eval()
    for parameter in pooling.parameters():
        torch.nn.init.normal_(parameter)
    states = torch.randn(1, 4, 8)
    mask = torch.tensor([[1, 1, 1, 0]])
    norm = torch.nn.functional.layer_norm
    latents = norm(pooling.array, (8,), pooling.latent_norm.weight, pooling.latent_norm.bias)
    query = norm(states[0, :3], (8,), pooling.state_norm.weight, pooling.state_norm.bias)
    to_query, to_key, to_value = pooling.attention.in_proj_weight.chunk(3)
    shares = torch.softmax((query @ to_query.T) @ (latents @ to_key.T).T / 8**0.5, dim=-1)
    found = states[0, :3] + shares @ (latents @ to_value.T) @ pooling.attention.out_proj.weight.T
    wanted = (found + pooling.mlp(found)).mean(0, keepdim=True)
    given = pooling({"token_embeddings": states, "attention_mask": mask})["sentence_embedding"]
    torch.testing.assert_close(given, wanted, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="8 dimensions are no multiple of 3 heads"):
        LatentPooling(8, heads=3)


@pytest.mark.slow
@pytest.mark.parametrize("pooling", ["anchor", "anchor-paper", "latent"])
def test_a_saved_model_loads_where_finegrade_is_not_and_can_be_saved_again_there(
    pooling: PoolingName, tiny_encoder: Path, tmp_path: Path, other_python: Path
) -> None:
    saved = tmp_path / "model"
    save_encoder(build_encoder(str(tiny_encoder), pooling=pooling, device="cpu"), saved)
    code = "REFUSED = ('finegrade', 'triton')" + REFUSE + WITHOUT_FINEGRADE
    printed = run_python(
        code, saved, tmp_path / "again", json.dumps(TEXTS), python=other_python, HF_MODULES_CACHE=str(tmp_path / "code")
    )
    wanted = encode(load_encoder(saved, device="cpu"))
    first, again = json.loads(printed)
    np.testing.assert_allclose(first, wanted, atol=1e-6)
    np.testing.assert_allclose(again, wanted, atol=1e-6)
    back = load_encoder(tmp_path / "again", device="cpu")  # and finegrade reads what was saved there
    np.testing.assert_allclose(encode(back), wanted, atol=1e-6)


@pytest.mark.slow
def test_a_saved_model_has_its_own_kernels(saved: Path, tmp_path: Path) -> None:
    pytest.importorskip("triton", reason="triton is not installed")
    code = "REFUSED = ('finegrade',)" + REFUSE + KERNELS_OF_THE_FOLDER
    triton, blockwise = json.loads(run_python(code, saved, HF_MODULES_CACHE=str(tmp_path / "code")))
    np.testing.assert_allclose(triton, blockwise, rtol=1e-5)


def test_a_folder_holds_safetensors_only_and_the_portable_code_in_its_root(saved: Path) -> None:
    files = {str(path.relative_to(saved)) for path in saved.rglob("*") if path.is_file()}
    code = {path.name for path in Path(finegrade.models.portable.__file__).parent.glob("*.py")}
    assert {name for name in files if name.endswith(".py")} == code - {"__init__.py", "latent_pooling.py"}
    assert "model.safetensors" in files
    assert not any(name.endswith((".bin", ".pt", ".pth", ".pkl", ".pickle")) for name in files)
    types = [module["type"] for module in json.loads((saved / "modules.json").read_text(encoding="utf-8"))]
    assert types[:2] == ["anchor_transformer.AnchorTransformer", "anchor_pooling.AnchorPooling"]


@pytest.mark.slow
def test_a_folders_copy_and_the_installed_module_do_not_replace_each_other(saved: Path, tmp_path: Path) -> None:
    """The copy is another version, which gives every token the same weight."""
    folder = tmp_path / "model"
    shutil.copytree(saved, folder)
    code = (folder / "anchor_transformer.py").read_text(encoding="utf-8")
    changed = code.replace("    return output, received\n", "    return output, torch.ones_like(received)\n")
    assert changed != code
    (folder / "anchor_transformer.py").write_text(changed, encoding="utf-8")
    printed = run_python(BOTH_VERSIONS, saved, folder, json.dumps(TEXTS), HF_MODULES_CACHE=str(tmp_path / "code"))
    installed, copied, again = (np.array(vectors) for vectors in json.loads(printed))
    np.testing.assert_array_equal(again, installed)
    assert np.abs(copied - installed).max() > 1e-4


def test_a_mean_pooling_model_carries_no_code_and_needs_no_trust(tiny_encoder: Path, tmp_path: Path) -> None:
    model = build_encoder(str(tiny_encoder), pooling="mean", device="cpu")
    save_encoder(model, tmp_path / "model")
    assert not list(tmp_path.rglob("*.py"))
    plain = SentenceTransformer(str(tmp_path / "model"), device="cpu", trust_remote_code=False)
    np.testing.assert_array_equal(encode(plain), encode(model))


def test_a_saved_tokenizer_is_the_same_whatever_the_model_read_before(tiny_encoder: Path, tmp_path: Path) -> None:
    """A run that continues after its last step has read nothing; tokenizer.json alone must cut and pad all the same."""
    for name, texts in {"fresh": [], "used": ["a text", "another text that is longer"]}.items():
        model = build_encoder(str(tiny_encoder), max_length=16, device="cpu")
        if texts:
            model.encode(texts)
        save_encoder(model, tmp_path / name)
    saved = (tmp_path / "fresh" / "tokenizer.json").read_text(encoding="utf-8")
    assert saved == (tmp_path / "used" / "tokenizer.json").read_text(encoding="utf-8")
    assert json.loads(saved)["truncation"]["max_length"] == 16
    assert json.loads(saved)["padding"]["strategy"] == "BatchLongest"


def test_loading_never_runs_code_of_the_folder(saved: Path, tmp_path: Path) -> None:
    folder, proof = tmp_path / "model", tmp_path / "proof"
    shutil.copytree(saved, folder)
    evil = f"open({str(proof)!r}, 'w').write('run')\n"
    for name in AnchorPooling.files:
        (folder / name).write_text(evil + (folder / name).read_text(encoding="utf-8"), encoding="utf-8")
    np.testing.assert_array_equal(encode(load_encoder(folder, device="cpu")), encode(load_encoder(saved, device="cpu")))
    assert not proof.exists()


def test_loading_refuses_a_class_of_the_folders_own(saved: Path, tmp_path: Path) -> None:
    folder, proof = tmp_path / "model", tmp_path / "proof"
    shutil.copytree(saved, folder)
    (folder / "own.py").write_text(f"open({str(proof)!r}, 'w').write('run')\n", encoding="utf-8")
    modules = json.loads((folder / "modules.json").read_text(encoding="utf-8"))
    modules[1]["type"] = "own.Pooling"
    (folder / "modules.json").write_text(json.dumps(modules), encoding="utf-8")
    with pytest.raises((ImportError, ValueError)):
        load_encoder(folder, device="cpu")
    assert not proof.exists()


@pytest.mark.parametrize("pooling", ["anchor", "mean"])
def test_padding_on_the_left_gives_the_same_vectors(pooling: PoolingName, tmp_path: Path, tiny_encoder: Path) -> None:
    """With rotary positions, which padding does not shift; BERT counts positions from the left end of the row."""
    from sentence_transformers.sentence_transformer.modules import Pooling, Transformer
    from transformers import LlamaConfig, LlamaModel

    for file in tiny_encoder.glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=100, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=0, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    LlamaModel(config).save_pretrained(tmp_path)
    transformer = Transformer(str(tmp_path), max_seq_length=64)
    SentenceTransformer(modules=[transformer, Pooling(32, pooling_mode="mean")]).save_pretrained(
        str(tmp_path), create_model_card=False
    )
    model = build_encoder(str(tmp_path), pooling=pooling, device="cpu")
    sides = []
    for side in ("right", "left"):
        model.tokenizer.padding_side = side
        assert int(model.tokenize(TEXTS)["attention_mask"][0, 0]) == (side == "right")
        sides.append(encode(model))
    alone = np.concatenate([encode(model, [text]) for text in TEXTS])
    np.testing.assert_allclose(sides[0], sides[1], atol=1e-5)
    np.testing.assert_allclose(sides[0], alone, atol=1e-5)


@pytest.mark.parametrize("side", ["right", "left"])
def test_prompt_tokens_weigh_nothing_where_they_are_left_out(side: str, tiny_encoder: Path) -> None:
    model = build_encoder(str(tiny_encoder), device="cpu")
    model.tokenizer.padding_side = side
    prompt = "find the answer "
    with_prompt = encode(model, prompt=prompt)
    model[1].include_prompt = False
    without = encode(model, prompt=prompt)
    assert np.abs(with_prompt - without).max() > 1e-4
    features = model.tokenize([prompt + text for text in TEXTS])
    with torch.no_grad():
        features = model[0](features)
    weights = features["received_attention"].clone()
    for row, mask in zip(weights, features["attention_mask"], strict=True):
        row[mask.nonzero()[:4, 0]] = 0  # [CLS] and the prompt's three words
    pooled = torch.einsum("bn,bnd->bd", weights, features["token_embeddings"])
    np.testing.assert_allclose(without, torch.nn.functional.normalize(pooled).numpy(), atol=1e-5)


def test_whether_prompts_count_is_saved(tiny_encoder: Path, tmp_path: Path) -> None:
    model = build_encoder(str(tiny_encoder), device="cpu")
    model[1].include_prompt = False
    save_encoder(model, tmp_path / "model")
    assert load_encoder(tmp_path / "model", device="cpu")[1].include_prompt is False


@pytest.mark.parametrize("pooling", get_args(PoolingName))
@pytest.mark.slow
def test_a_trained_model_is_a_backbone_for_every_pooling(pooling: PoolingName, saved: Path) -> None:
    again = build_encoder(str(saved), pooling=pooling, device="cpu")
    if pooling == "anchor":
        np.testing.assert_array_equal(encode(again), encode(load_encoder(saved, device="cpu")))
    assert encode(again).shape == (len(TEXTS), 32)


def test_a_backbone_in_bfloat16_is_trained_in_float32(tiny_encoder: Path, tmp_path: Path) -> None:
    plain = SentenceTransformer(str(tiny_encoder), device="cpu")
    plain.bfloat16().save_pretrained(str(tmp_path / "half"))
    for pooling in ("anchor", "mean"):
        model = build_encoder(str(tmp_path / "half"), pooling=pooling, device="cpu")
        assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}


def test_saving_replaces_code_of_an_earlier_version(tiny_encoder: Path, tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "anchor_pooling.py").write_text("old = True\n", encoding="utf-8")
    save_encoder(build_encoder(str(tiny_encoder), device="cpu"), tmp_path / "model")
    assert "class AnchorPooling" in (tmp_path / "model" / "anchor_pooling.py").read_text(encoding="utf-8")


def test_latents_need_a_dimension_that_their_heads_divide(tiny_encoder: Path, tmp_path: Path) -> None:
    from transformers import BertConfig, BertModel

    BertModel(
        BertConfig(vocab_size=100, hidden_size=36, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4)
    ).save_pretrained(tmp_path)
    for file in tiny_encoder.glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    with pytest.raises(InputError, match="got 36 dimensions; wanted a multiple of 8"):
        build_encoder(str(tmp_path), pooling="latent", device="cpu")


def test_texts_are_not_put_into_a_decoders_chat_template(chat_decoder: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat_decoder)
    model = build_encoder(str(chat_decoder), device="cpu")
    save_encoder(model, tmp_path / "model")
    for one in (model, load_encoder(tmp_path / "model", device="cpu")):
        assert one.preprocess(["sort the rows"])["input_ids"].tolist() == tokenizer(["sort the rows"])["input_ids"]


@pytest.mark.parametrize("name", ["no-such-model", "./no/such/folder"])
def test_an_unknown_backbone_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(InputError, match=f"got {name}; wanted"):
        build_encoder(name)


def test_a_folder_that_is_no_model_is_refused_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="wanted an encoder that transformers can load"):
        build_encoder(str(tmp_path))


def _without(source: Path, target: Path, part: str) -> Path:
    """A copy of a model folder without the weights of this name."""
    from safetensors.torch import load_file, save_file

    shutil.copytree(source, target)
    weights = load_file(target / "model.safetensors")
    kept = {name: tensor for name, tensor in weights.items() if part not in name}
    assert len(kept) < len(weights)
    save_file(kept, target / "model.safetensors", metadata={"format": "pt"})
    return target


@pytest.mark.parametrize("pooling", ["mean", "anchor"])
def test_a_backbone_that_lacks_weights_is_refused(tiny_encoder: Path, tmp_path: Path, pooling: PoolingName) -> None:
    folder = _without(tiny_encoder, tmp_path / "damaged", "layer.1.")
    with pytest.raises(InputError, match=r"\d weights missing: encoder\.layer\.1.*wanted a folder"):
        build_encoder(str(folder), pooling=pooling)


def test_a_saved_model_that_lacks_weights_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    save_encoder(build_encoder(str(tiny_encoder), device="cpu"), tmp_path / "model")
    with pytest.raises(InputError, match="weights missing"):
        load_encoder(_without(tmp_path / "model", tmp_path / "damaged", "layer.1."))


def test_weights_of_another_shape_are_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_encoder, tmp_path / "model")
    path = tmp_path / "model" / "config.json"
    path.write_text(path.read_text().replace('"intermediate_size": 64', '"intermediate_size": 128'))
    with pytest.raises(InputError, match="weights of other shapes"):
        build_encoder(str(tmp_path / "model"))


@pytest.mark.slow
def test_a_backbone_without_the_pooler_that_nobody_reads_is_taken(tiny_encoder: Path, tmp_path: Path) -> None:
    whole = build_encoder(str(tiny_encoder), device="cpu")
    lacking = build_encoder(str(_without(tiny_encoder, tmp_path / "model", "pooler.")), device="cpu")
    assert np.array_equal(lacking.encode(TEXTS), whole.encode(TEXTS))


def test_an_attention_with_a_bias_of_positions_is_refused(tiny_encoder: Path, tmp_path: Path) -> None:
    from transformers import T5Config, T5EncoderModel

    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    config = T5Config(
        vocab_size=len(tokenizer), d_model=32, d_kv=8, d_ff=64, num_layers=2, num_heads=4, pad_token_id=0,
        decoder_start_token_id=0,
    )  # fmt: skip
    T5EncoderModel(config).save_pretrained(tmp_path / "t5")
    tokenizer.save_pretrained(tmp_path / "t5")
    with pytest.raises(InputError, match=r"position_bias.*does not read.*mean pooling"):
        build_encoder(str(tmp_path / "t5"))
    assert build_encoder(str(tmp_path / "t5"), pooling="mean", device="cpu").encode("graph").shape == (32,)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"pooling": "best"}, "pooling: got best; wanted one of anchor"), ({"attention": "both"}, "attention: got both"),
     ({"lora": 0}, "lora: got 0"),
     ({"max_length": 0}, "max_length: got 0; wanted at least 4"), ({"max_length": -3}, "max_length: got -3")],
)  # fmt: skip
def test_arguments_that_make_no_sense_are_refused(tiny_encoder: Path, options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        build_encoder(str(tiny_encoder), **options)


@pytest.mark.parametrize("name", ["nope", "."])
def test_a_folder_without_a_model_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(InputError, match=r"got no model \(modules\.json\) in it"):
        load_encoder(tmp_path / name)
