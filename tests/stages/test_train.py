"""Training follows the plan row by row, and a kill at any moment costs time but changes nothing."""

import os
import shutil
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from sentence_transformers.base.data_collator import BaseDataCollator

import finegrade.stages.train
import finegrade.training.fit
import finegrade.training.trainer
from finegrade.config import Config
from finegrade.errors import InputError
from finegrade.models.encoder import build_encoder, load_encoder
from finegrade.records import Displaced, Negative, Sample
from finegrade.stages.pipeline import call_stage
from finegrade.stages.train import mined_texts
from finegrade.storage.run_folder import DISPLACED, SAMPLES, RunFolder
from finegrade.storage.tables import write_parts
from finegrade.training.curriculum import Plan, PlanRow, compile_plan
from finegrade.training.fit import training_columns
from finegrade.training.variants import FINEGRADE, TRAINED_ROWS
from helpers.runs import make_run, make_samples

STEPS, BATCH = 8, 4
train = partial(call_stage, "train")


@pytest.fixture
def config(tiny_encoder: Path) -> Config:
    return make_config(tiny_encoder)


def make_config(backbone: Path, **training: Any) -> Config:
    training = {
        "backbone": str(backbone), "steps": STEPS, "batch_size": BATCH, "checkpoint_every": 2, "bf16": False,
        "controls": False, "learning_rate": 1e-3, **training,
    }  # fmt: skip
    return Config.model_validate({"source": {"path": "unused.jsonl"}, "training": training})


def weights(run: RunFolder, folder: str = "model") -> dict[str, torch.Tensor]:
    return load_file(run.path(folder, "model.safetensors"))


def assert_identical(left: RunFolder, right: RunFolder) -> None:
    own, theirs = weights(left), weights(right)
    assert own.keys() == theirs.keys()
    assert [name for name in own if not torch.equal(own[name], theirs[name])] == []
    assert left.record(FINEGRADE.stage)["outputs"] == right.record(FINEGRADE.stage)["outputs"]  # tokenizer and all


@pytest.fixture(scope="module")
def uninterrupted(tiny_encoder: Path, tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    run = make_run(tmp_path_factory.mktemp("uninterrupted"))
    train(make_config(tiny_encoder), run)
    return run


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[list[dict[str, str]]]:
    """The rows of each batch that reaches the collator."""
    collected: list[list[dict[str, str]]] = []
    collate = BaseDataCollator.__call__

    def spy(self: BaseDataCollator, features: list[dict[str, str]]) -> Any:
        collected.append([dict(row) for row in features])
        return collate(self, features)

    monkeypatch.setattr(BaseDataCollator, "__call__", spy)
    return collected


def plan_of(config: Config) -> Plan:
    return compile_plan(make_samples(), config.training.schedule, STEPS, BATCH, config.seed)


SLOW = pytest.mark.slow


@pytest.mark.parametrize(
    "schedule", ["coarse-to-fine", pytest.param("reverse", marks=SLOW), pytest.param("shuffled", marks=SLOW)]
)
@pytest.mark.slow
def test_the_trainer_sees_the_rows_of_the_plan_in_its_order(
    schedule: str, tiny_encoder: Path, tmp_path: Path, seen: list[list[dict[str, str]]]
) -> None:
    config, run = make_config(tiny_encoder, schedule=schedule), make_run(tmp_path / "run")
    train(config, run)
    plan = plan_of(config)
    rows = [(row["anchor"], row["positive"], row["negative"]) for batch in seen for row in batch]
    assert [len(batch) for batch in seen] == [BATCH] * STEPS
    assert rows == [(row.sample.query, row.sample.positive, row.negative.text) for row in plan.rows]


@SLOW
def test_the_control_rows_see_the_same_pairs_in_the_same_order(
    tiny_encoder: Path, tmp_path: Path, seen: list[list[dict[str, str]]]
) -> None:
    config, run = make_config(tiny_encoder, controls=True), make_run(tmp_path / "run")
    train(config, run)
    assert len(seen) == len(TRAINED_ROWS) * STEPS
    by_row = [seen[i * STEPS : (i + 1) * STEPS] for i in range(len(TRAINED_ROWS))]
    pairs = [[[(row["anchor"], row["positive"]) for row in batch] for batch in own] for own in by_row]
    assert all(own == pairs[0] for own in pairs)
    columns = [set(own[0][0]) for own in by_row]
    assert [("negative" in names) for names in columns] == [row.negatives != "none" for row in TRAINED_ROWS]
    assert by_row[-1][0][0]["negative"] == make_samples()[_number(by_row[-1][0][0])].negatives[-1].text
    trained = [weights(run, row.folder) for row in TRAINED_ROWS]
    words = [row["embeddings.word_embeddings.weight"] for row in trained]
    assert not any(torch.equal(words[0], other) for other in words[1:])


def _number(row: dict[str, str]) -> int:
    return next(i for i, sample in enumerate(make_samples()) if sample.query == row["anchor"])


@pytest.mark.slow
def test_every_steps_loss_is_recorded_with_its_level(uninterrupted: RunFolder, config: Config) -> None:
    steps = uninterrupted.record(FINEGRADE.stage)["details"]["steps"]
    assert [entry["step"] for entry in steps] == list(range(1, STEPS + 1))
    assert [entry["level"] for entry in steps] == [1, 1, 2, 2, 3, 3, 4, 4] == list(plan_of(config).levels)
    assert all(entry["loss"] > 0 for entry in steps)
    assert steps[1]["learning_rate"] > steps[-1]["learning_rate"] >= 0


@pytest.mark.slow
def test_training_changes_the_model_and_leaves_no_checkpoints(uninterrupted: RunFolder, tiny_encoder: Path) -> None:
    trained = load_encoder(uninterrupted.path("model"), device="cpu").encode(["open the file"])
    before = build_encoder(str(tiny_encoder), device="cpu").encode(["open the file"])
    assert abs(trained - before).max() > 1e-3
    assert not list(uninterrupted.root.rglob("checkpoint*-*"))


@SLOW
def test_the_same_seed_gives_identical_weights_and_another_does_not(
    uninterrupted: RunFolder, config: Config, tmp_path: Path
) -> None:
    again, other = make_run(tmp_path / "again"), make_run(tmp_path / "other")
    train(config, again)
    assert_identical(again, uninterrupted)
    train(config.model_copy(update={"seed": 1}), other)
    with pytest.raises(AssertionError):
        assert_identical(other, uninterrupted)


def interrupt(config: Config, run: RunFolder, step: int) -> None:
    """Trains until Ctrl-C at the beginning of a step."""

    def stop(self: Any, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step == step:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(finegrade.training.trainer.Steps, "on_step_begin", stop)
        train(config, run)


@pytest.fixture
def messages(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is printed for the user."""
    lines: list[str] = []
    monkeypatch.setattr(finegrade.training.fit, "say", lines.append)
    return lines


@pytest.mark.parametrize("step", [pytest.param(1, marks=SLOW), pytest.param(2, marks=SLOW), 5])
@pytest.mark.slow
def test_an_interrupted_run_continues_and_ends_with_identical_weights(
    step: int, uninterrupted: RunFolder, config: Config, tmp_path: Path, messages: list[str]
) -> None:
    run = make_run(tmp_path / "run")
    interrupt(config, run, step)
    train(config, run)
    assert_identical(run, uninterrupted)
    done = step // 2 * 2
    assert [f"continues after step {done} of {STEPS}" in line for line in messages] == ([True] if done else [])
    assert run.record(FINEGRADE.stage)["details"] == uninterrupted.record(FINEGRADE.stage)["details"]
    assert not run.path("checkpoints", FINEGRADE.name).exists()


@pytest.mark.slow
def test_a_kill_after_the_last_checkpoint_costs_no_step(
    uninterrupted: RunFolder, config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    seen: list[list[dict[str, str]]],
) -> None:  # fmt: skip
    run = make_run(tmp_path / "run")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(finegrade.stages.train, "save_encoder", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        train(config, run)
    seen.clear()
    train(config, run)
    assert seen == []
    assert_identical(run, uninterrupted)


@SLOW
@pytest.mark.parametrize("state", [None, '{"global_st'], ids=["no state", "half a state"])
def test_a_checkpoint_that_a_kill_cut_short_is_not_continued_from(
    state: str | None, uninterrupted: RunFolder, config: Config, tmp_path: Path, messages: list[str]
) -> None:
    """The Trainer writes trainer_state.json last, and deletes the checkpoint before only after that."""
    run = make_run(tmp_path / "run")
    for step in (3, 5):
        interrupt(config, run, step)
        if step == 3:
            (whole,) = run.root.rglob("checkpoint-2")
            shutil.copytree(whole, tmp_path / "kept")
    shutil.copytree(tmp_path / "kept", whole)
    torn = whole.with_name("checkpoint-4")
    (torn / "optimizer.pt").unlink()
    (torn / "trainer_state.json").unlink()
    if state is not None:
        (torn / "trainer_state.json").write_text(state, encoding="utf-8")
    train(config, run)
    assert f"{FINEGRADE.titled('anchor')}: continues after step 2 of {STEPS}" in messages
    assert_identical(run, uninterrupted)


@SLOW
def test_adapters_are_continued_too_and_merged_at_the_end(
    tiny_encoder: Path, tmp_path: Path, messages: list[str]
) -> None:
    config = make_config(tiny_encoder, lora=4, pooling="mean")
    whole, run = make_run(tmp_path / "whole"), make_run(tmp_path / "run")
    train(config, whole)
    interrupt(config, run, 5)
    train(config, run)
    assert any(f"continues after step 4 of {STEPS}" in line for line in messages)
    assert_identical(run, whole)
    assert not list(run.path("model").rglob("adapter*"))
    trained, before = load_encoder(run.path("model")), load_encoder(tiny_encoder)
    changed = {
        name
        for (name, one), other in zip(trained.named_parameters(), before.parameters(), strict=True)
        if not torch.equal(one, other)
    }
    assert any("attention.self.query.weight" in name for name in changed)
    assert not any("embeddings" in name or "bias" in name for name in changed)  # what has no adapter


@SLOW
def test_latents_begin_by_the_seed_and_are_continued(tiny_encoder: Path, tmp_path: Path) -> None:
    config = make_config(tiny_encoder, pooling="latent")
    whole, run = make_run(tmp_path / "whole"), make_run(tmp_path / "run")
    train(config, whole)
    interrupt(config, run, 5)
    train(config, run)
    assert_identical(run, whole)
    one, other = (load_encoder(r.path("model"))[1].state_dict() for r in (run, whole))
    assert all(torch.equal(one[name], other[name]) for name in one)
    assert one["mlp.3.weight"].abs().max() > 0  # they began at 0


KILLED = """
import os, signal, sys
from pathlib import Path

import finegrade.training.trainer as trainer
from finegrade.config import Config
from finegrade.stages.pipeline import call_stage
from finegrade.storage.run_folder import RunFolder

def kill(self, args, state, control, **kwargs):
    if state.global_step == 5:
        os.kill(os.getpid(), signal.SIGKILL)

trainer.Steps.on_step_begin = kill
call_stage("train", Config.model_validate_json(sys.argv[2]), RunFolder(Path(sys.argv[1])))
"""


@SLOW
def test_a_process_killed_with_kill_9_continues_and_ends_with_identical_weights(
    uninterrupted: RunFolder, config: Config, tmp_path: Path, messages: list[str]
) -> None:
    run = make_run(tmp_path / "run")
    killed = subprocess.run(
        [sys.executable, "-c", KILLED, str(run.root), config.model_dump_json()],
        capture_output=True, timeout=120, check=False,
        env=os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())},
    )  # fmt: skip
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert not run.path("model").exists()
    train(config, run)
    assert f"{FINEGRADE.titled('anchor')}: continues after step 4 of {STEPS}" in messages
    assert_identical(run, uninterrupted)


@pytest.mark.slow
def test_training_that_diverges_gives_an_error_and_leaves_no_model(tiny_encoder: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(InputError, match=r"got a loss of (nan|inf).*wanted a finite loss"):
        train(make_config(tiny_encoder, learning_rate=1e30), run)
    assert not run.path("model").exists()


@pytest.mark.slow
def test_what_is_trained_is_not_trained_again(
    uninterrupted: RunFolder, config: Config, seen: list[list[dict[str, str]]]
) -> None:
    train(config, uninterrupted)
    assert seen == []


@SLOW
def test_another_learning_rate_does_not_continue_from_a_checkpoint_of_the_old_one(
    config: Config, tiny_encoder: Path, tmp_path: Path, seen: list[list[dict[str, str]]]
) -> None:
    run = make_run(tmp_path / "run")
    interrupt(config, run, 5)
    seen.clear()
    train(make_config(tiny_encoder, learning_rate=2e-3), run)
    assert len(seen) == STEPS


def test_batches_that_cannot_be_filled_give_an_error_and_leave_no_model(tiny_encoder: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "run")
    with pytest.raises(InputError, match=r"Lower training\.batch_size"):
        train(make_config(tiny_encoder, batch_size=64), run)
    assert not run.path("model").exists()


def test_the_mined_control_keeps_its_text_where_an_llm_wrote_the_hardest_level() -> None:
    written = Negative(text="written", level=4, source="llm", sibling="another query")
    sample = Sample(id="1", query="q", positive="p", negatives=(written,), group="g")
    assert training_columns(PlanRow(sample, written, "mined"), "mined") == {
        "anchor": "q",
        "positive": "p",
        "negative": "mined",
    }
    assert training_columns(PlanRow(sample, written), "mined")["negative"] == "written"


def test_the_control_s_texts_are_those_of_the_unverified_samples(tmp_path: Path) -> None:
    def made(name: str, *negatives: tuple[str, int, str], positive: str = "") -> Sample:
        own = tuple(Negative(text=text, level=level, source=source) for text, level, source in negatives)
        return Sample(id=name, query=f"q {name}", positive=positive or f"p {name}", negatives=own, group="g")

    easy, hard = ("easy", 1, "random"), ("hard", 3, "mined")
    written = ("written", 4, "llm")
    run = RunFolder(tmp_path)
    samples = [made("a", easy, hard), made("b", easy, written), made("c", written), made("gone", hard)]
    write_parts(run.path(SAMPLES), samples, Sample, 2)
    write_parts(run.path(DISPLACED), [Displaced(sample="b", text="displaced")], Displaced, 2)
    verified = [
        made("a", easy), made("a2", easy, positive="hard"), made("a3", easy, positive="else"), made("b"),
        made("b2", positive="displaced"), made("c"), made("c2"),
    ]  # fmt: skip
    assert mined_texts(run, verified) == ["hard", "", "hard", "displaced", "", "", ""]
