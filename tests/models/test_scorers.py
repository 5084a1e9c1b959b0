"""Cross-encoders: what is one is loaded and scores, what is none is refused in one line."""

import gc
import json
import shutil
import weakref
from pathlib import Path

import pytest
import torch

from finegrade.errors import InputError
from finegrade.models.encoder import build_encoder, save_encoder
from finegrade.models.scorers import TorchCrossEncoder, free_scorers, load_bi_encoder, load_cross_encoder, load_scorer
from helpers.families import classifier

PAIRS = [
    ("how tall is the eiffel tower", "The Eiffel Tower is 330 metres tall, about the height of an 81-storey building."),
    ("how tall is the eiffel tower", "Croissants are baked from a dough that is folded with butter many times."),
]


def test_a_cross_encoder_gives_one_score_a_pair(tiny_encoder: Path, tmp_path: Path) -> None:
    scorer = load_scorer(str(classifier(tmp_path / "one", tiny_encoder, 1)), 64)
    scores = list(scorer.scores(PAIRS * 40))
    assert scores == pytest.approx(list(scorer.scores(PAIRS)) * 40, abs=1e-5)


def test_a_scorer_is_loaded_once_until_it_is_freed_or_its_folder_changes(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = classifier(tmp_path / "one", tiny_encoder, 1)
    first = load_scorer(str(folder), 64)
    assert load_scorer(str(folder), 64) is first
    assert load_cross_encoder([str(folder)], 64) is first
    assert load_scorer(str(folder), 32) is not first
    (folder / "note.txt").touch()
    second = load_scorer(str(folder), 64)
    assert second is not first
    free_scorers()
    assert load_scorer(str(folder), 64) is not second


@pytest.mark.slow
def test_a_freed_scorer_leaves_the_memory(tiny_encoder: Path) -> None:
    scorer = weakref.ref(load_bi_encoder(str(tiny_encoder), 64))
    assert scorer() is not None
    free_scorers()
    gc.collect()
    assert scorer() is None


@pytest.mark.slow
def test_of_many_scorers_the_last_few_stay(tiny_encoder: Path) -> None:
    first = load_scorer(str(tiny_encoder), 8)
    for max_length in range(9, 12):
        load_scorer(str(tiny_encoder), max_length)
    assert load_scorer(str(tiny_encoder), 8) is first
    for max_length in range(12, 16):
        load_scorer(str(tiny_encoder), max_length)
    assert load_scorer(str(tiny_encoder), 8) is not first


def test_a_classifier_with_more_labels_is_no_scorer(tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="got a classifier with 3 labels"):
        load_scorer(str(classifier(tmp_path / "three", tiny_encoder, 3)), 64)


def test_a_bare_encoder_is_no_scorer(tiny_encoder: Path, tmp_path: Path) -> None:
    shutil.copy(tiny_encoder / "config.json", tmp_path)
    with pytest.raises(InputError, match="got BertModel; wanted a cross-encoder"):
        load_scorer(str(tmp_path), 64)


@pytest.mark.slow
def test_a_bi_encoder_gives_the_cosine_of_each_pair(tiny_encoder: Path) -> None:
    from sentence_transformers import SentenceTransformer

    scorer = load_scorer(str(tiny_encoder), 64)
    model = SentenceTransformer(str(tiny_encoder))
    vectors = [model.encode(list(side), normalize_embeddings=True) for side in zip(*PAIRS, strict=True)]
    expected = (vectors[0] * vectors[1]).sum(axis=1).tolist()
    assert list(scorer.scores(PAIRS * 200)) == pytest.approx(expected * 200, abs=1e-5)
    assert list(scorer.scores([("same", "same")])) == pytest.approx([1.0], abs=1e-5)
    assert list(scorer.scores([])) == []


def test_a_cross_encoder_over_a_decoder_is_loaded_as_one(tiny_encoder: Path, tmp_path: Path) -> None:
    """sentence-transformers would make a bi-encoder of its folder, unasked, and give a cosine."""
    from sentence_transformers import CrossEncoder
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(tiny_encoder)
    size = {"vocab_size": len(tokenizer), "hidden_size": 16, "intermediate_size": 32}
    LlamaForCausalLM(LlamaConfig(**size, num_hidden_layers=1, num_attention_heads=2)).save_pretrained(
        tmp_path / "decoder"
    )
    tokenizer.save_pretrained(tmp_path / "decoder")
    CrossEncoder(str(tmp_path / "decoder")).save_pretrained(str(tmp_path / "saved"))
    scorer = load_scorer(str(tmp_path / "saved"), 64)
    assert isinstance(scorer, TorchCrossEncoder)
    wanted = CrossEncoder(str(tmp_path / "saved")).predict(PAIRS, activation_fn=torch.nn.Identity())
    assert list(scorer.scores(PAIRS)) == pytest.approx(wanted.tolist(), abs=1e-5)


@pytest.mark.parametrize("kind", ["SparseEncoder", "Unheard"])
def test_another_kind_of_model_is_no_scorer(kind: str, tiny_encoder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_encoder, tmp_path, dirs_exist_ok=True)
    (tmp_path / "config_sentence_transformers.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(InputError, match=f"got {kind}; wanted a cross-encoder"):
        load_scorer(str(tmp_path), 64)


@pytest.mark.slow
def test_a_model_that_finegrade_trained_scores_with_its_own_pooling(tiny_encoder: Path, tmp_path: Path) -> None:
    model = build_encoder(str(tiny_encoder), pooling="anchor")
    save_encoder(model, tmp_path / "model")
    vectors = [model.encode(list(side), normalize_embeddings=True) for side in zip(*PAIRS, strict=True)]
    found = list(load_scorer(str(tmp_path / "model"), 64).scores(PAIRS))
    assert found == pytest.approx((vectors[0] * vectors[1]).sum(axis=1).tolist(), abs=1e-5)


def test_own_queries_are_judged_by_a_cross_encoder_only(tiny_encoder: Path, tmp_path: Path) -> None:
    names = [str(tiny_encoder), str(classifier(tmp_path / "one", tiny_encoder, 1))]
    assert isinstance(load_cross_encoder(names, 64), TorchCrossEncoder)
    with pytest.raises(InputError, match="wanted a cross-encoder"):
        load_cross_encoder(names[:1], 64)
    with pytest.raises(InputError, match="got no model; wanted a cross-encoder"):
        load_cross_encoder([], 64)


def test_a_folder_without_a_model_is_no_scorer(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without a model configuration"):
        load_scorer(str(tmp_path), 64)


@pytest.mark.parametrize(
    "files",
    [
        {"config.json": '{"architectures": ["BertForSequenceClassification"], "model_type": "bert"}'},
        {"modules.json": "[]"},
        {"modules.json": "{"},
        {"modules.json": '[{"idx": 0, "name": "0", "path": "", "type": "gone.Away"}]'},
    ],
    ids=["no weights", "no modules", "no JSON", "unknown module"],
)
def test_a_damaged_folder_for_torch_is_one_line(tmp_path: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=r"wanted a cross-encoder with one logit a pair, or a sentence-transformers"):
        load_scorer(str(tmp_path), 64)


def test_a_damaged_onnx_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.onnx").write_bytes(b"no model")
    (tmp_path / "tokenizer.json").write_text("{}")
    with pytest.raises(InputError, match=r"tokenizer.json and model.onnx"):
        load_scorer(str(tmp_path), 64)


def test_a_length_beyond_the_model_s_positions_is_reported_before_any_work(tiny_encoder: Path, tmp_path: Path) -> None:
    folder = str(classifier(tmp_path / "one", tiny_encoder, 1))
    with pytest.raises(InputError, match=r"verification.max_length: got 65: .*; wanted a length"):
        load_scorer(folder, 65)


@pytest.mark.slow
def test_the_default_scorer_reads_512_tokens_and_no_more() -> None:
    load_scorer("reranker-en", 512)
    with pytest.raises(InputError, match=r"verification.max_length: got 5000"):
        load_scorer("reranker-en", 5000)


@pytest.mark.slow
def test_the_embedded_bi_encoder_tells_an_answer_from_another_text_alone_and_among_others() -> None:
    scorer = load_scorer("bge-small-en", 128)
    answer, other = scorer.scores(PAIRS)
    assert 1 > answer > other + 0.2
    assert list(scorer.scores(PAIRS * 200)) == [answer, other] * 200


@pytest.mark.slow
def test_the_default_scorer_tells_an_answer_from_another_text_alone_and_among_others() -> None:
    scorer = load_scorer("reranker-en", 128)
    answer, other = scorer.scores(PAIRS)
    assert answer > other + 5
    assert list(scorer.scores(PAIRS * 10)) == [answer, other] * 10  # to the last bit: no batch changes a score
