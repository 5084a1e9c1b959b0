"""The train stage: the finegrade model and its controls, all on the same pairs, steps and seed.

sentence-transformers' Trainer does the work; the plan reaches it as its batch sampler.
"""

import shutil
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from pathlib import Path

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers.trainer import TRAINER_STATE_NAME

from finegrade.config import Config, TrainingConfig
from finegrade.console import progress, say
from finegrade.models.encoder import build_encoder, save_encoder
from finegrade.models.resolve import model_identity
from finegrade.records import Sample
from finegrade.storage.atomic import read_json
from finegrade.storage.run_folder import VERIFIED, RunFolder
from finegrade.storage.tables import read_rows
from finegrade.training.curriculum import Plan, PlanRow, compile_plan
from finegrade.training.trainer import QuietTrainer, prepare_training, trainer_arguments
from finegrade.training.variants import TRAINED_ROWS, TrainedRow


@dataclass(frozen=True)
class StepLog:
    """What one optimizer step saw."""

    step: int
    level: int
    loss: float
    learning_rate: float


def train(config: Config, run: RunFolder) -> None:
    """Trains the finegrade model into ``model/`` and, unless ``controls`` is off, the control rows beside it.

    Each row is a stage of its own: what is finished is kept, and an interrupted row continues from its last checkpoint.

    Raises:
        InputError: The verify stage has not run, the backbone cannot be had, or the samples cannot fill a batch.
    """
    prepare_training()
    for row in TRAINED_ROWS:
        if row.is_control and not config.training.controls:
            continue
        _train_row(row, config, run)


def _train_row(row: TrainedRow, config: Config, run: RunFolder) -> None:
    training = config.training
    pooling = row.pooling or training.pooling
    settings = {
        "training": training.model_dump(mode="json", exclude={"controls", "checkpoint_every", "pooling"}),
        "pooling": pooling,
        "negatives": row.negatives,
        "backbone": model_identity(training.backbone),
        "seed": config.seed,
    }
    with run.stage(row.stage, settings, after=["verify"]) as stage:
        if stage.done:
            return
        samples = read_rows(run.path(VERIFIED), Sample)
        plan = compile_plan(samples, training.schedule, training.steps, training.batch_size, config.seed)
        columns = {"graded": graded_columns, "mined": mined_columns, "none": pair_columns}[row.negatives]
        dataset = Dataset.from_list([columns(plan_row) for plan_row in plan.rows])
        torch.manual_seed(config.seed)  # of what no backbone brings: adapters, latents
        model = build_encoder(
            training.backbone,
            pooling=pooling,
            attention=training.attention,
            lora=training.lora,
            max_length=training.max_length,
        )
        work = run.path("checkpoints", row.name, stage.fingerprint[:12])
        log = fit(model, dataset, plan, training, work, config.seed, row.titled(pooling))
        folder = run.path(row.folder)
        save_encoder(model, work / "model")  # the model of an earlier run stays until this one is whole
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        (work / "model").replace(folder)
        details = {
            "row": row.name,
            "steps": [asdict(entry) for entry in log],
            "rows_llm": sum(r.negative.source == "llm" for r in plan.rows) if row.negatives == "graded" else 0,
            "rows": len(plan.rows),
            "batch_size": plan.batch_size,
            "max_length": model.max_seq_length,
            "versions": {name: version(name) for name in ("torch", "transformers", "sentence-transformers")},
        }
        stage.finish(sorted(path for path in folder.rglob("*") if path.is_file()), details)
        shutil.rmtree(run.path("checkpoints", row.name), ignore_errors=True)


def graded_columns(row: PlanRow) -> dict[str, str]:
    """The plan's own negative: verified, at the level of its stage."""
    return {"anchor": row.sample.query, "positive": row.sample.positive, "negative": row.negative.text}


def pair_columns(row: PlanRow) -> dict[str, str]:
    """No negative but those that the batch gives."""
    return {"anchor": row.sample.query, "positive": row.sample.positive}


def mined_columns(row: PlanRow) -> dict[str, str]:
    """The hardest mined negative, unverified: what is usually done. The plan's own where the corpus has none."""
    return {**pair_columns(row), "negative": row.sample.hardest_mined or row.negative.text}


def fit(
    model: SentenceTransformer, dataset: Dataset, plan: Plan, config: TrainingConfig, work: Path, seed: int, title: str
) -> list[StepLog]:
    """Trains a model on the rows of a plan, in the plan's order; continues from the last checkpoint in ``work``.

    Args:
        model: Trained in place.
        dataset: One row for each row of the plan.
        plan: The order, and the level of each step.
        config: Learning rate and so on.
        work: Folder for checkpoints.
        seed: Of dropout.
        title: What the progress bar says.

    Returns:
        One entry a step.
    """
    arguments = trainer_arguments(
        work,
        steps=len(plan.levels),
        batch_size=plan.batch_size,
        learning_rate=config.learning_rate,
        warmup_share=config.warmup_share,
        bf16=config.bf16,
        seed=seed,
        batch_sampler=PlanBatchSampler,
        save_steps=config.checkpoint_every,
        save_total_limit=1,
    )
    checkpoint, done = last_checkpoint(work)
    if done:
        say(f"{title}: continues after step {done} of {len(plan.levels)}")
    loss = MultipleNegativesRankingLoss(model, scale=config.scale)
    with progress(f"training {title}", len(plan.levels), done) as meter:
        trainer = QuietTrainer(
            meter, partial(_told, plan), model=model, args=arguments, train_dataset=dataset, loss=loss
        )
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    entries = [entry for entry in trainer.state.log_history if "loss" in entry]
    return [
        StepLog(int(e["step"]), plan.levels[int(e["step"]) - 1], float(e["loss"]), float(e["learning_rate"]))
        for e in entries
    ]


def _told(plan: Plan, step: int, loss: float) -> str:
    return f"level {plan.levels[step - 1] or 'mixed'}, loss {loss:.3f}"


def last_checkpoint(work: Path) -> tuple[Path | None, int]:
    """The newest whole checkpoint and its step; the Trainer writes its state last, so one without it is torn."""
    steps = sorted((int(path.name.rpartition("-")[2]) for path in work.glob("checkpoint-*")), reverse=True)
    for step in steps:
        path = work / f"checkpoint-{step}"
        try:
            if read_json(path / TRAINER_STATE_NAME)["global_step"] == step:
                return path, step
        except (OSError, ValueError, KeyError):
            shutil.rmtree(path, ignore_errors=True)
    return None, 0


class PlanBatchSampler(DefaultBatchSampler):
    """The rows of the data set as they are: the plan is already their order.

    A class of the module, because each checkpoint pickles the arguments that name it.
    """

    def __iter__(self) -> Iterator[list[int]]:
        for start in range(0, len(self.sampler), self.batch_size):
            yield list(range(start, start + self.batch_size))

    def __len__(self) -> int:
        return int(len(self.sampler) // self.batch_size)
