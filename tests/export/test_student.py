"""`finegrade export --pooling mean`: nearer to the model than its mean was, plain and whole."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer
from transformers import AutoTokenizer, LlamaConfig, LlamaModel

from finegrade.errors import InputError
from finegrade.export.folder import MANIFEST
from finegrade.export.student import (
    Closeness,
    closeness,
    distil,
    new_student,
    save_plain,
    server_needs,
    texts_of_file,
    texts_of_run,
)
from finegrade.models.encoder import build_encoder, load_encoder, save_encoder
from finegrade.records import Seed
from finegrade.storage.run_folder import TEST_SEEDS, TRAIN_SEEDS, RunFolder
from finegrade.storage.tables import write_rows
from finegrade.training.trainer import Steps
from helpers.corpus import WORDS


def text(number: int) -> str:
    return " ".join(WORDS[(number * factor + number // 7) % len(WORDS)] for factor in (1, 3, 5, 11, 13, 17))


def seeds(first: int, last: int) -> list[Seed]:
    return [
        Seed(id=str(n), query=text(n) if n % 3 else "", positives=(text(n + 1000),), group="g")
        for n in range(first, last)
    ]


@pytest.fixture(scope="module")
def run(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """A run folder as seeds and train leave it; the model's vectors are far from its token states' mean."""
    folder = RunFolder(tmp_path_factory.mktemp("run"))
    with folder.locked(), folder.stage("seeds", {}) as stage:
        write_rows(folder.path(TRAIN_SEEDS), seeds(0, 150), Seed)
        write_rows(folder.path(TEST_SEEDS), [*seeds(150, 180), *seeds(0, 10)], Seed)
        stage.finish([folder.path(TRAIN_SEEDS)], {})
    model = build_encoder(str(tiny_encoder), max_length=16, device="cpu")
    model[0].model.encoder.layer[-1].attention.self.query.weight.data.mul_(40)
    save_encoder(model, folder.path("model"))
    return folder


@pytest.fixture(scope="module")
def student(run: RunFolder) -> Path:
    distil(run.path("model"), None, None, steps=30)
    return run.path("model-mean")


@pytest.mark.slow
def test_the_student_is_nearer_to_the_model_than_its_mean_was_on_texts_that_it_did_not_learn(
    run: RunFolder, student: Path
) -> None:
    figures = json.loads((student / MANIFEST).read_text(encoding="utf-8"))["closeness"]
    before, after = figures["before"], figures["after"]
    assert before["mean"] < 0.999
    assert 1 - after["mean"] < 0.5 * (1 - before["mean"])
    assert after["low"] > before["low"]
    held_out = texts_of_run(run.path("model"), seed=0)[1]
    model, plain = load_encoder(run.path("model")), SentenceTransformer(str(student), trust_remote_code=False)
    found = closeness(plain.encode(held_out), model.encode(held_out))
    assert found == pytest.approx((after["mean"], after["low"], after["same_nearest"]), abs=1e-3)


@pytest.mark.slow
def test_the_folder_is_plain_and_its_card_says_what_it_is(run: RunFolder, student: Path) -> None:
    assert not list(student.rglob("*.py"))
    modules = json.loads((student / "modules.json").read_text(encoding="utf-8"))
    assert [module["type"] for module in modules] == [
        f"sentence_transformers.models.{name}" for name in ("Transformer", "Pooling", "Normalize")
    ]
    card = (student / "README.md").read_text(encoding="utf-8")
    manifest = json.loads((student / MANIFEST).read_text(encoding="utf-8"))
    assert manifest["source"]["sha256"]["model.safetensors"] in card
    assert f"{manifest['closeness']['after']['mean']:.4f}" in card
    assert not any(text(n) in card for n in range(180))
    assert not list(student.parent.glob(".*partial*"))


@pytest.mark.slow
def test_servers_find_what_they_read(student: Path) -> None:
    """The keys that vLLM, TEI and llama.cpp's converter ask for, under the names that they know."""
    pooling = json.loads((student / "1_Pooling" / "config.json").read_text(encoding="utf-8"))
    assert {name for name, value in pooling.items() if value is True} == {"pooling_mode_mean_tokens", "include_prompt"}
    assert pooling.keys() >= {f"pooling_mode_{name}" for name in ("cls_token", "max_tokens", "mean_sqrt_len_tokens")}
    lengths = json.loads((student / "sentence_bert_config.json").read_text(encoding="utf-8"))
    assert lengths["max_seq_length"] == 16
    assert lengths["do_lower_case"] is False


def test_a_plain_folder_gives_the_same_vectors(tiny_encoder: Path, tmp_path: Path) -> None:
    model = build_encoder(str(tiny_encoder), pooling="mean", max_length=9, device="cpu")
    save_plain(model, tmp_path / "plain")
    plain = SentenceTransformer(str(tmp_path / "plain"), device="cpu", trust_remote_code=False)
    texts = [text(1), text(2) * 5]
    np.testing.assert_array_equal(plain.encode(texts), model.encode(texts))
    assert plain.max_seq_length == 9


@pytest.mark.slow
def test_the_same_seed_makes_the_same_student(run: RunFolder, student: Path, tmp_path: Path) -> None:
    distil(run.path("model"), None, tmp_path / "again", steps=30)
    assert (tmp_path / "again" / "model.safetensors").read_bytes() == (student / "model.safetensors").read_bytes()


@pytest.mark.slow
def test_ctrl_c_leaves_nothing_half_written(run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(self: Steps, *given: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Steps, "on_log", stop)
    with pytest.raises(KeyboardInterrupt):
        distil(run.path("model"), None, tmp_path / "mean", steps=2)
    assert not list(tmp_path.iterdir())


def test_a_model_that_pools_by_the_mean_needs_no_student(tiny_encoder: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"got mean pooling; .*it is what a student would be"):
        distil(tiny_encoder, None, tmp_path / "mean")


def test_the_student_of_a_decoder_with_a_chat_template_reads_plain_texts(chat_decoder: Path, tmp_path: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(chat_decoder)
    save_encoder(build_encoder(str(chat_decoder), max_length=16, device="cpu"), tmp_path / "model")
    student = new_student(tmp_path / "model", load_encoder(tmp_path / "model"))
    save_plain(student, tmp_path / "plain")
    for model in (student, SentenceTransformer(str(tmp_path / "plain"), trust_remote_code=False)):
        assert model.preprocess([text(1)])["input_ids"].tolist() == tokenizer([text(1)])["input_ids"]


@pytest.mark.parametrize("after", [0.5, float("nan")])
@pytest.mark.slow
def test_a_student_that_came_out_worse_is_the_plain_mean(
    after: float, run: RunFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    found = iter([Closeness(0.9, 0.8, 1.0), Closeness(after, 0.8, 1.0)])
    monkeypatch.setattr("finegrade.export.student.closeness", lambda *_: next(found))
    distil(run.path("model"), None, tmp_path / "mean", steps=1)
    assert "the mean is kept as it was, untrained" in capsys.readouterr().err
    assert "It was distilled in 0 steps" in (tmp_path / "mean" / "README.md").read_text()
    start = new_student(run.path("model"), load_encoder(run.path("model")))
    kept = SentenceTransformer(str(tmp_path / "mean"), trust_remote_code=False)
    assert (kept.encode([text(1)]) == start.encode([text(1)])).all()


@pytest.mark.parametrize(("both_ways", "message"), [(True, "is_causal=false"), (False, "is a decoder")])
def test_what_a_server_must_support_is_reported(
    both_ways: bool, message: str, tiny_encoder: Path, tmp_path: Path
) -> None:
    config = LlamaConfig(
        vocab_size=100, hidden_size=32, intermediate_size=48, num_hidden_layers=1, num_attention_heads=4,
        pad_token_id=0, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    LlamaModel(config).save_pretrained(tmp_path)
    for file in tiny_encoder.glob("tokenizer*"):
        shutil.copy(file, tmp_path)
    model = build_encoder(str(tmp_path), pooling="mean", attention="bidirectional" if both_ways else "native")
    (line,) = server_needs(model)
    assert message in line
    assert not server_needs(build_encoder(str(tiny_encoder), pooling="mean"))


def test_the_texts_of_a_run_are_split_as_it_was(run: RunFolder) -> None:
    learnt, held_out = texts_of_run(run.path("model"), seed=0)
    train, test = ({t for s in some for t in (s.query, *s.positives) if t} for some in (seeds(0, 150), seeds(150, 180)))
    assert set(learnt) == train
    assert set(held_out) == test - train
    assert len(learnt) == len(set(learnt))


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("texts.txt", lambda n: text(n)),
        ("texts.jsonl", lambda n: json.dumps({"query": text(n), "positive": text(n)})),
        ("texts.jsonl", lambda n: json.dumps({"id": n, "body": text(n)})),
    ],
)
def test_a_file_of_texts(name: str, row: Callable[[int], str], tmp_path: Path) -> None:
    lines = [row(n) for n in range(50)]
    (tmp_path / name).write_text("\n".join([*lines, "", lines[0]]), encoding="utf-8")
    learnt, held_out = texts_of_file(tmp_path / name, seed=0)
    assert {*learnt, *held_out} == {text(n) for n in range(50)}
    assert (len(learnt), len(held_out)) == (45, 5)
    assert texts_of_file(tmp_path / name, seed=0) == (learnt, held_out)
    assert texts_of_file(tmp_path / name, seed=1)[1] != held_out


def test_rows_without_a_text_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = [json.dumps({"text": text(n)}) for n in range(30)]
    (tmp_path / "a.jsonl").write_text("\n".join([*rows, "no JSON", '{"text": 7}']), encoding="utf-8")
    assert len(texts_of_file(tmp_path / "a.jsonl", seed=0)[0]) == 27
    assert "2 rows left out, the first because of: no JSON" in capsys.readouterr().err


def test_rows_without_a_column_of_text_are_reported(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"number": 7}\n', encoding="utf-8")
    with pytest.raises(InputError, match=r'got columns number, .*Name it "text"'):
        texts_of_file(tmp_path / "a.jsonl", seed=0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "No such file"),
        (b"", "0 different texts"),
        (b"one\none\ntwo\n", "2 different texts"),
        (b"\0\1", "binary"),
    ],
)
def test_too_few_texts_are_reported(content: bytes | None, message: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "texts.txt").write_bytes(content)
    with pytest.raises(InputError, match=f"got {message}.*; wanted .*--texts"):
        texts_of_file(tmp_path / "texts.txt", seed=0)


def test_a_model_outside_of_a_run_needs_texts(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no run folder around it.*--texts: one text a line"):
        texts_of_run(tmp_path / "model", seed=0)


def test_closeness_is_what_it_says() -> None:
    original = np.eye(4, dtype=np.float32)
    original[1] = [0.8, 0.6, 0, 0]
    assert closeness(original, original) == pytest.approx((1, 1, 1))
    turned = original.copy()
    turned[0] = [0, 0, 0.6, 0.8]  # nearest to the last one, no longer to the second
    found = closeness(turned, original)
    assert found.mean == pytest.approx(3 / 4)
    assert found.low == pytest.approx(np.quantile([0, 1, 1, 1], 0.05))
    assert found.same_nearest == 0.75
