"""sentence-transformers' Trainer with the arguments that every training here uses."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from sentence_transformers import SentenceTransformerTrainer, SentenceTransformerTrainingArguments
from transformers import PrinterCallback, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.utils import logging as transformers_logging

from finegrade.console import Meter
from finegrade.errors import InputError
from finegrade.machine import keep_freed_memory

Note = Callable[[int, float], str]
"""Called with the number of a finished step and its loss; gives a few words for the progress bar."""


def prepare_training() -> None:
    """Settings of the process: memory is kept between steps, and transformers is quiet."""
    keep_freed_memory()
    transformers_logging.disable_progress_bar()
    transformers_logging.set_verbosity_error()


def trainer_arguments(
    work: Path, *, steps: int, batch_size: int, learning_rate: float, warmup_share: float, bf16: bool | None, seed: int,
    **more: Any,
) -> SentenceTransformerTrainingArguments:  # fmt: skip
    """The Trainer's arguments, for this machine and one GPU at most.

    The learning rate falls linearly to 0. bf16 None: autocast where the processor computes in it.
    """
    accelerator = torch.cuda.is_available() or torch.backends.mps.is_available()
    arguments = SentenceTransformerTrainingArguments(
        output_dir=str(work),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        warmup_steps=round(warmup_share * steps),
        lr_scheduler_type="linear",
        bf16=computes_in_bf16() if bf16 is None else bf16,
        use_cpu=not accelerator,
        dataloader_pin_memory=accelerator,
        logging_steps=1,
        logging_nan_inf_filter=False,
        disable_tqdm=True,
        report_to="none",
        seed=seed,
        **more,
    )
    if arguments.n_gpu > 1:
        remedy = "Set CUDA_VISIBLE_DEVICES=0: more would multiply the batches."
        raise InputError("training", got=f"{arguments.n_gpu} GPUs", wanted="one", remedy=remedy)
    return arguments


def computes_in_bf16() -> bool:
    """Whether this machine's processor has bfloat16 arithmetic; where it has not, bf16 is slower than fp32."""
    if torch.cuda.is_available():
        return bool(torch.cuda.is_bf16_supported())
    return bool(torch.cpu._is_avx512_bf16_supported())


class QuietTrainer(SentenceTransformerTrainer):
    """Moves a meter with each step, prints nothing and writes no card; ``note`` gives the words behind the numbers."""

    def __init__(self, meter: Meter, note: Note, **options: Any) -> None:
        super().__init__(callbacks=[Steps(meter, note)], **options)
        self.remove_callback(PrinterCallback)

    def add_model_card_callback(self, default_args_dict: dict[str, Any]) -> None:
        """None: a generated card would hold training texts and claim what was not measured."""


class Steps(TrainerCallback):
    """Reports each finished step."""

    def __init__(self, meter: Meter, note: Note) -> None:
        self._meter, self._note = meter, note

    def on_log(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        """Called with the loss of each step, because logging_steps is 1."""
        logs = kwargs.get("logs") or {}
        if "loss" in logs:
            if not math.isfinite(float(logs["loss"])):
                got, remedy = f"a loss of {logs['loss']} at step {state.global_step}", "Lower training.learning_rate."
                raise InputError("training", got=got, wanted="a finite loss", remedy=remedy)
            self._meter.note(self._note(state.global_step, float(logs["loss"])))
            self._meter.advance()
