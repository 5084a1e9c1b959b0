"""What is written is trained on by those whose formats they are: sentence-transformers' own trainers take a step."""

import math
import random
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset, load_dataset
from sentence_transformers import (
    CrossEncoder,
    SentenceTransformer,
    SentenceTransformerTrainer,
    SentenceTransformerTrainingArguments,
)
from sentence_transformers.cross_encoder import CrossEncoderTrainer, CrossEncoderTrainingArguments
from sentence_transformers.cross_encoder.losses import BinaryCrossEntropyLoss
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss

from finegrade.data.formats import open_external
from helpers.external_data import drawn, verified, write_table

_LOADERS = {".parquet": "parquet", ".jsonl": "json", ".csv": "csv", ".tsv": "csv"}


@pytest.fixture
def loaded(tmp_path) -> Callable[[Path], Dataset]:
    def load(path: Path) -> Dataset:
        more = {"sep": "\t"} if path.suffix == ".tsv" else {}
        kind = _LOADERS[path.suffix]
        return load_dataset(kind, data_files=str(path), split="train", cache_dir=str(tmp_path / "cache"), **more)

    return load


def options(folder: Path) -> dict:
    return {
        "output_dir": str(folder), "max_steps": 4, "per_device_train_batch_size": 4, "report_to": "none",
        "use_cpu": True, "save_strategy": "no", "logging_steps": 1, "logging_nan_inf_filter": False,
    }  # fmt: skip


def losses(trainer: SentenceTransformerTrainer | CrossEncoderTrainer) -> list[float]:
    trainer.train()
    return [line["loss"] for line in trainer.state.log_history if "loss" in line]


@pytest.mark.parametrize("suffix", [".parquet", ".csv"])
@pytest.mark.slow
def test_columns_of_a_result_are_trained_on(tmp_path, tiny_encoder, suffix, loaded):
    rows = [
        {"query": f"query {i}", "answer": f"answer {i}"} | {f"negative_{n}": f"other {i} {n}" for n in (1, 2, 3)}
        for i in range(40)
    ]  # fmt: skip
    data = open_external(write_table(tmp_path / f"a{suffix}", rows))
    files = data.write(verified(data, drawn(random.Random(0))), tmp_path / f"out{suffix}")
    tables = {path.stem.replace(".", "_"): loaded(path) for path in files if ".levels." not in path.name}
    assert {name: table.column_names for name, table in tables.items()} == {
        "out": ["query", "answer", "negative_1", "negative_2", "negative_3"],
        "out_2": ["query", "answer", "negative_1", "negative_2"],
        "out_1": ["query", "answer", "negative_1"],
        "out_0": ["query", "answer"],
    }
    model = SentenceTransformer(str(tiny_encoder), device="cpu")
    arguments = SentenceTransformerTrainingArguments(**options(tmp_path), multi_dataset_batch_sampler="round_robin")
    trainer = SentenceTransformerTrainer(model, arguments, tables, loss=MultipleNegativesRankingLoss(model))
    found = losses(trainer)
    assert len(found) == 4  # a batch of each
    assert all(map(math.isfinite, found))


@pytest.mark.parametrize("suffix", [".jsonl", ".tsv"])
@pytest.mark.slow
def test_labelled_pairs_of_a_result_are_trained_on(tmp_path, tiny_encoder, suffix, loaded):
    rows = [
        {"query": f"query {i}", "text": f"{text} {i}", "label": int(text == "answer")}
        for i in range(40) for text in ("answer", "other", "more")
    ]  # fmt: skip
    random.Random(0).shuffle(rows)
    data = open_external(write_table(tmp_path / f"a{suffix}", rows))
    pairs, _ = data.write(verified(data, drawn(random.Random(0))), tmp_path / f"out{suffix}")
    model = CrossEncoder(str(tiny_encoder), num_labels=1, device="cpu")
    arguments = CrossEncoderTrainingArguments(**options(tmp_path))
    found = losses(CrossEncoderTrainer(model, arguments, loaded(pairs), loss=BinaryCrossEntropyLoss(model)))
    assert len(found) == 4
    assert all(map(math.isfinite, found))
