"""``finegrade export --pooling mean``: a student with plain pooling, for servers that know no other.

It starts from the model's own weights and is distilled for a short time on texts of the user, so that the mean of its
token states comes near the vector that the model pools.
"""

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from datasets import Dataset
from numpy.typing import NDArray
from sentence_transformers import SentenceTransformer
from sentence_transformers.sentence_transformer.losses import EmbedDistillLoss
from sentence_transformers.sentence_transformer.modules import Normalize, Pooling
from torch import nn

from finegrade.closeness import closeness
from finegrade.console import progress, say
from finegrade.distil_texts import texts_of_file, texts_of_run
from finegrade.errors import InputError
from finegrade.export_folder import new_export, write_manifest
from finegrade.models.encoder import REMEDY, embed, load_trained, load_transformer
from finegrade.models.portable.anchor_transformer import last_attention
from finegrade.plain_folder import save_plain
from finegrade.student_card import write_student_card
from finegrade.training.trainer import QuietTrainer, prepare_training, trainer_arguments

STEPS = 100
_BATCH, _LEARNING_RATE, _WARMUP_SHARE, _SEED = 32, 5e-5, 0.1, 0


def distil(folder: Path, texts: Path | None, output: Path | None, steps: int = STEPS) -> None:
    """Makes the student, says how near it is to the model before and after, and writes it with its card.

    Args:
        folder: Of the model.
        texts: A file of texts to distil on; the texts of the model's run by default.
        output: The student's folder; beside the model by default.
        steps: Of the optimizer, 32 texts each.

    Raises:
        InputError: There is no such model, it pools by the mean itself, its vectors are no numbers, or there are too
            few texts.
    """
    prepare_training()
    target = output or folder.resolve().with_name(f"{folder.resolve().name}-mean")
    with new_export(target, folder) as work:
        model = _load(folder)
        drawn = texts_of_file(texts, _SEED) if texts else texts_of_run(folder, _SEED)
        learnt, held_out = drawn.learnt[: steps * _BATCH], drawn.held_out
        wanted = _vectors(model, held_out, "the model's vectors, held-out texts")
        if not np.isfinite(wanted).all():
            raise InputError(str(folder), got="vectors that are no numbers", wanted="a sound model", remedy=REMEDY)
        student = _student(folder, model)
        before = closeness(_vectors(student, held_out, "the mean's vectors, held-out texts"), wanted)
        _train(student, learnt, _vectors(model, learnt, "the model's vectors"), steps)
        save_plain(student, work)
        saved = SentenceTransformer(str(work), local_files_only=True, trust_remote_code=False)
        after = closeness(_vectors(saved, held_out, "the student's vectors, held-out texts"), wanted)
        if not after.mean >= before.mean:
            say(
                f"the student came out no nearer (1 - cosine {1 - after.mean:.1e}) than it began "
                f"({1 - before.mean:.1e}): the mean is kept as it was, untrained"
            )
            student, after, steps = _student(folder, model), before, 0
            save_plain(student, work)
        write_student_card(work, folder, before, after, len(held_out), len(learnt), steps)
        figures = {"before": before._asdict(), "after": after._asdict(), "held_out": len(held_out)}
        training = {"texts": len(learnt), "steps": steps, "batch_size": _BATCH, "learning_rate": _LEARNING_RATE}
        write_manifest(work, "mean", folder, {"closeness": figures, "training": training})
    say(f"on {len(held_out):,} texts that were held out, to the model's own vectors:")
    say(f"  its mean, before:  {before}")
    say(f"  the student:       {after}")
    for line in server_needs(student):
        say(line)
    say(f"{target}: written")


def _load(folder: Path) -> SentenceTransformer:
    model = load_trained(folder)
    if any(isinstance(module, Pooling) and module.pooling_mode == "mean" for module in model):
        remedy = "Serve it as it is: it is what a student would be."
        raise InputError(str(folder), got="mean pooling", wanted="a model that pools otherwise", remedy=remedy)
    if model.get_embedding_dimension() != model[0].get_embedding_dimension():
        got, wanted = f"{model.get_embedding_dimension()} dimensions", "as many as a token's state has"
        raise InputError(str(folder), got=got, wanted=wanted, remedy=REMEDY)
    return model


def _student(folder: Path, model: SentenceTransformer) -> SentenceTransformer:
    """The model's own weights under the mean of the token states."""
    transformer = load_transformer(folder)
    _drop_nothing(transformer)
    pooling = Pooling(transformer.get_embedding_dimension(), pooling_mode="mean")
    return SentenceTransformer(
        modules=[transformer, pooling, Normalize()], prompts=model.prompts,
        default_prompt_name=model.default_prompt_name, device=str(model.device),
    )  # fmt: skip


def _drop_nothing(module: nn.Module) -> None:
    """Without dropout: there is one right vector for each text, and with noise a student that is near moves away."""
    for part in module.modules():
        if isinstance(part, nn.Dropout):
            part.p = 0.0
        for name, value in vars(part).items():
            if "dropout" in name and isinstance(value, float):
                setattr(part, name, 0.0)


def _vectors(model: SentenceTransformer, texts: list[str], what: str) -> NDArray[np.float32]:
    """[texts, dimension], of length 1, also where the model itself does not see to that."""
    vectors = embed(model, texts, _BATCH, what)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _train(student: SentenceTransformer, texts: list[str], wanted: NDArray[np.float32], steps: int) -> None:
    """Pulls the student's vectors to the wanted ones: the loss is 1 - cosine, half the squared distance."""
    dataset = Dataset.from_dict({"text": texts, "label": list(wanted)})
    with TemporaryDirectory() as work, progress("distilling", steps) as meter:
        arguments = trainer_arguments(
            Path(work), steps=steps, batch_size=_BATCH, learning_rate=_LEARNING_RATE, warmup_share=_WARMUP_SHARE,
            bf16=None, seed=_SEED, save_strategy="no", prompts=student.prompts.get(student.default_prompt_name),
        )  # fmt: skip
        trainer = QuietTrainer(
            meter,
            lambda step, loss: f"1 - cosine {loss:.4f}",
            model=student,
            args=arguments,
            train_dataset=dataset,
            loss=EmbedDistillLoss(student, distance_metric="cosine"),
        )
        trainer.train()


def server_needs(student: SentenceTransformer) -> list[str]:
    """What a server has to support beyond mean pooling, a line each.

    Args:
        student: Its first module is the transformer.
    """
    name, config = type(student[0].model).__name__, student[0].config
    attention = last_attention(student[0].model)
    if getattr(config, "is_causal", None) is False:
        return [f"{name} with is_causal=false in config.json: the server must honour it, or it gives other vectors."]
    if getattr(attention, "is_causal", False):
        return [f"{name} is a decoder: the server must support it as an embedding model, with mean pooling."]
    return []
