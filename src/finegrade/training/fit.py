"""Trains an encoder on samples in the order of a plan; continues after a kill.

sentence-transformers' Trainer does the work; the plan reaches it as its batch sampler.
"""

import shutil
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from datasets import Dataset
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.sampler import DefaultBatchSampler
from sentence_transformers.sentence_transformer.losses import MultipleNegativesRankingLoss
from transformers.trainer import TRAINER_STATE_NAME

from finegrade.config import AttentionName, PoolingName, TrainingConfig
from finegrade.config.toml import parse_section
from finegrade.console import progress, say
from finegrade.models.encoder import build_encoder, save_encoder
from finegrade.records import LeftOut, Sample
from finegrade.rows import Result, Rows, as_samples
from finegrade.storage.atomic import read_json
from finegrade.training.curriculum import Plan, PlanRow, compile_plan
from finegrade.training.trainer import QuietTrainer, prepare_training, trainer_arguments
from finegrade.training.variants import Negatives


@dataclass(frozen=True)
class StepLog:
    """What one optimizer step saw."""

    step: int
    level: int
    loss: float
    learning_rate: float


@dataclass(frozen=True)
class TrainingResult(Result[Sample]):
    """A trained model, and what it was trained with.

    Attributes:
        kept: The samples that were trained with, in the order of the input.
        left_out: The others, each with its reason.
        model: The trained encoder.
        plan: The training rows in order, and the level of each step.
        steps: Loss and learning rate of each step.
    """

    model: SentenceTransformer
    plan: Plan
    steps: tuple[StepLog, ...]


def train(
    rows: Rows,
    *,
    backbone: str | Path | SentenceTransformer = "all-minilm-l6-v2",
    output: Path | str | None = None,
    pooling: PoolingName = "anchor",
    attention: AttentionName = "native",
    lora: int | None = None,
    schedule: str = "coarse-to-fine",
    negatives: Negatives = "graded",
    mined: Sequence[str] = (),
    steps: int = 100,
    batch_size: int = 64,
    learning_rate: float = 1e-4,
    warmup_share: float = 0.1,
    max_length: int = 128,
    scale: float = 20.0,
    bf16: bool | None = None,
    seed: int = 0,
    checkpoints: Path | str | None = None,
    checkpoint_every: int = 10,
    title: str = "the model",
) -> TrainingResult:
    """Fine-tunes an encoder on samples with graded negatives, by default from easy to hard.

    The loss is InfoNCE over a sample's negative and all other texts of the batch (MultipleNegativesRankingLoss). No
    batch holds a text that would be a false negative within it.

    Args:
        rows: Samples: dicts with "query", "positive" and "negatives", records of finegrade, a datasets.Dataset, a
            pandas.DataFrame or a pyarrow.Table; see ``finegrade.rows.as_samples``. A negative without a level counts
            as level 0, the easiest.
        backbone: Catalogue name, local folder, Hugging Face id, or a SentenceTransformer, which is trained in place
            and keeps its pooling, attention and length.
        output: Folder to save the model in. None: it is only returned.
        pooling: How token states become a vector: "anchor" (received attention), "mean", ... (docs/method.md).
        attention: "bidirectional": the tokens of a decoder see those behind them too.
        lora: Rank of adapters that are trained in place of the weights. None: all weights are trained.
        schedule: "coarse-to-fine", "reverse", "shuffled", or "fixed:K" (level K only).
        negatives: "graded": of each sample the negative of the step's level. "none": only those in the batch.
        mined: Of each row the text that "mined" trains with, which is kept out of the batches where it would be a
            false negative. Without it that is the graded one.
        steps: Optimizer steps, spread evenly over the levels.
        batch_size: Samples in a step.
        learning_rate: Its maximum; it falls linearly to 0.
        warmup_share: Share of the steps in which the learning rate rises.
        max_length: Tokens of a text that the model reads.
        scale: Cosine similarities are multiplied by this before the softmax (1 / temperature).
        bf16: bfloat16 autocast. None: where the processor computes in it.
        seed: Of the plan, new weights and dropout.
        checkpoints: Folder for checkpoints; a later call with the same arguments continues from the last one. None:
            none are kept.
        checkpoint_every: Steps between checkpoints.
        title: What the progress bar names.

    Returns:
        The model, the plan, the steps, and which samples were left out and why.

    Raises:
        InputError: A row or a value is wrong, the samples cannot fill the batches, or the loss is not finite.

    Examples:
        >>> import finegrade
        >>> from sentence_transformers import SentenceTransformer
        >>> from sentence_transformers.sentence_transformer.modules import StaticEmbedding
        >>> from tokenizers import Tokenizer, models, pre_tokenizers
        >>> words = {word: number for number, word in enumerate(["?", "open", "close", "file", "door", "window"])}
        >>> tokenizer = Tokenizer(models.WordLevel(words, unk_token="?"))
        >>> tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
        >>> encoder = SentenceTransformer(modules=[StaticEmbedding(tokenizer, embedding_dim=8)], device="cpu")
        >>> rows = [
        ...     {"query": "open file", "positive": "file open", "negatives": [{"text": "close door", "level": 1}]},
        ...     {"query": "close window", "positive": "window close", "negatives": [{"text": "open door", "level": 1}]},
        ...     {"query": "open door", "positive": "door open", "negatives": []},
        ... ]
        >>> result = finegrade.train(rows, backbone=encoder, steps=2, batch_size=2)
        >>> len(result.steps), result.reasons
        (2, {'no negative': 1})
    """
    if isinstance(backbone, Path):
        backbone = str(backbone)
    settings = parse_section(
        TrainingConfig,
        {
            "backbone": backbone if isinstance(backbone, str) else "a model", "pooling": pooling,
            "attention": attention, "lora": lora, "schedule": schedule, "steps": steps, "batch_size": batch_size,
            "learning_rate": learning_rate, "warmup_share": warmup_share, "max_length": max_length, "scale": scale,
            "bf16": bf16, "checkpoint_every": checkpoint_every,
        },
        "train",
    )  # fmt: skip
    prepare_training()
    samples = as_samples(rows)
    plan = compile_plan(samples, schedule, steps, batch_size, seed, mined)
    dataset = Dataset.from_list([training_columns(row, negatives) for row in plan.rows])
    torch.manual_seed(seed)  # for weights that no backbone brings: adapters, latents
    model = backbone
    if isinstance(model, str):
        model = build_encoder(model, pooling=pooling, attention=attention, lora=lora, max_length=max_length)
    with nullcontext(checkpoints) if checkpoints else TemporaryDirectory() as work:
        log = fit(model, dataset, plan, settings, Path(work), seed, title, keep_checkpoints=bool(checkpoints))
    if output is not None:
        save_encoder(model, Path(output))
    used = {row.sample.id for row in plan.rows}
    kept = [sample for sample in samples if sample.id in used]
    left_out = [_left_out(sample, plan) for sample in samples if sample.id not in used]
    return TrainingResult(kept, left_out, model, plan, tuple(log))


def _left_out(sample: Sample, plan: Plan) -> LeftOut:
    reason = "no negative"
    if sample.negatives:
        has_level = {negative.rank for negative in sample.negatives} & {row.negative.rank for row in plan.rows}
        reason = "not needed for so few steps" if has_level else "no negative of a level that is trained"
    evidence = f"{len(plan.rows):,} training rows"
    return LeftOut(sample=sample.id, query=sample.query, positive=sample.positive, reason=reason, evidence=evidence)


def training_columns(row: PlanRow, negatives: Negatives) -> dict[str, str]:
    """What the loss reads of a row. The corpus' hardest negative ("mined") is the plan's own where there is none."""
    pair = {"anchor": row.sample.query, "positive": row.sample.positive}
    if negatives == "none":
        return pair
    mined = row.mined if negatives == "mined" else ""
    return {**pair, "negative": mined or row.negative.text}


def fit(
    model: SentenceTransformer, dataset: Dataset, plan: Plan, settings: TrainingConfig, work: Path, seed: int,
    title: str, *, keep_checkpoints: bool = True,
) -> list[StepLog]:  # fmt: skip
    """Trains a model in place on one data set row for each plan row; continues from the last checkpoint in ``work``."""
    checkpointing = {"save_steps": settings.checkpoint_every, "save_total_limit": 1}
    arguments = trainer_arguments(
        work, steps=settings.steps, batch_size=plan.batch_size, learning_rate=settings.learning_rate,
        warmup_share=settings.warmup_share, bf16=settings.bf16, seed=seed, batch_sampler=PlanBatchSampler,
        **(checkpointing if keep_checkpoints else {"save_strategy": "no"}),
    )  # fmt: skip
    checkpoint, done = last_checkpoint(work)
    if done:
        say(f"{title}: continues after step {done} of {settings.steps}")
    with progress(f"training {title}", settings.steps, done) as meter:
        trainer = QuietTrainer(
            meter, lambda step, loss: f"level {plan.levels[step - 1] or 'mixed'}, loss {loss:.3f}", model=model,
            args=arguments, train_dataset=dataset, loss=MultipleNegativesRankingLoss(model, scale=settings.scale),
        )  # fmt: skip
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    return [
        StepLog(int(e["step"]), plan.levels[int(e["step"]) - 1], float(e["loss"]), float(e["learning_rate"]))
        for e in trainer.state.log_history
        if "loss" in e
    ]


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
