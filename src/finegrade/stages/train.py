"""The train stage: the finegrade model and its controls, all on the same pairs, steps and seed."""

import shutil
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version

from finegrade.config import TrainingConfig
from finegrade.models.encoder import save_encoder
from finegrade.models.resolve import model_identity
from finegrade.records import Displaced, Sample
from finegrade.storage.run_folder import CHECKPOINTS, DISPLACED, SAMPLES, VERIFIED, RunFolder
from finegrade.storage.tables import iterate_rows, read_rows
from finegrade.training.fit import train
from finegrade.training.variants import TrainedRow, hardest_mined, trained_rows


def train_rows(run: RunFolder, training: TrainingConfig, seed: int) -> None:
    """Trains the finegrade model into ``model/`` and, unless ``controls`` is off, the control rows beside it.

    Each row is a stage of its own: a finished row is kept, and an interrupted row continues from its last checkpoint.
    """
    for row in trained_rows(training.controls):
        _train_row(row, run, training, seed)


def _train_row(row: TrainedRow, run: RunFolder, training: TrainingConfig, seed: int) -> None:
    pooling = row.pooling or training.pooling
    values = training.model_dump(exclude={"controls", "pooling"})
    settings = {
        "training": {name: value for name, value in values.items() if name != "checkpoint_every"},
        "pooling": pooling,
        "negatives": row.negatives,
        "backbone": model_identity(training.backbone),
        "seed": seed,
    }
    with run.stage(row.stage, settings, after=["verify"]) as stage:
        if stage.done:
            return
        work = run.path(CHECKPOINTS, row.name, stage.fingerprint[:12])
        samples = read_rows(run.path(VERIFIED), Sample)
        result = train(
            samples, **values, pooling=pooling, negatives=row.negatives, mined=mined_texts(run, samples), seed=seed,
            checkpoints=work, title=row.titled(pooling),
        )  # fmt: skip
        folder = run.path(row.folder)
        save_encoder(result.model, work / "model")  # the model of an earlier run stays until this one is whole
        shutil.rmtree(folder, ignore_errors=True)
        folder.parent.mkdir(parents=True, exist_ok=True)
        (work / "model").replace(folder)
        plan = result.plan
        details = {
            "row": row.name,
            "steps": [asdict(step) for step in result.steps],
            "rows_llm": sum(r.negative.source == "llm" for r in plan.rows) if row.negatives == "graded" else 0,
            "rows": len(plan.rows),
            "batch_size": plan.batch_size,
            "max_length": result.model.max_seq_length,
            "versions": {name: version(name) for name in ("torch", "transformers", "sentence-transformers")},
        }
        stage.finish(sorted(path for path in folder.rglob("*") if path.is_file()), details)
        shutil.rmtree(run.path(CHECKPOINTS, row.name), ignore_errors=True)


def mined_texts(run: RunFolder, verified: Sequence[Sample]) -> list[str]:
    """For each verified sample the hardest negative that the corpus gave, as it was before verification.

    A sample that verification made of a promoted negative stands behind the one it comes from, and has its text, but
    for the promoted one itself. Empty where there is none.
    """
    hardest = {sample.id: hardest_mined(sample) for sample in iterate_rows(run.path(SAMPLES), Sample)}
    if run.path(DISPLACED).is_dir():  # runs of earlier versions have none
        hardest |= {row.sample: row.text for row in iterate_rows(run.path(DISPLACED), Displaced)}
    found, text = [], ""
    for sample in verified:
        text = hardest.get(sample.id, text)
        found.append("" if text == sample.positive else text)
    return found
