"""The front door of training: samples in memory in, a model and what was left out back."""

import asyncio
import inspect

import numpy as np
import pytest

import finegrade
from finegrade.config import TrainingConfig
from finegrade.errors import InputError
from finegrade.models.encoder import load_encoder
from finegrade.training.fit import TrainingResult, train
from helpers.runs import make_samples

SHORT = {"steps": 4, "batch_size": 4, "bf16": False, "max_length": 16}


def rows():
    """The samples as a user has them: texts, without levels."""
    return [
        {"query": s.query, "positive": s.positive, "negatives": [n.text for n in s.negatives]} for s in make_samples()
    ]


def test_the_defaults_are_those_of_the_configuration():
    parameters = inspect.signature(train).parameters
    fields = TrainingConfig.model_fields
    shared = parameters.keys() & fields.keys()
    assert shared >= fields.keys() - {"controls"}
    assert {name: parameters[name].default for name in shared} == {name: fields[name].default for name in shared}


@pytest.mark.slow
def test_it_trains_on_samples_and_says_which_were_left_out(tiny_encoder, tmp_path):
    samples = make_samples()
    empty = samples[0].model_copy(update={"id": "empty", "query": "an odd one", "negatives": ()})
    result = finegrade.train([*samples, empty], backbone=str(tiny_encoder), output=tmp_path / "model", **SHORT)
    assert isinstance(result, TrainingResult)
    assert [step.level for step in result.steps] == [1, 2, 3, 4] == list(result.plan.levels)
    assert {sample.id for sample in result.kept} == {row.sample.id for row in result.plan.rows}
    assert result.reasons == {"not needed for so few steps": len(samples) - len(result.kept), "no negative": 1}
    assert np.array_equal(load_encoder(tmp_path / "model").encode("open"), result.model.encode("open"))


@pytest.mark.slow
def test_rows_without_levels_train_in_a_running_event_loop(tiny_encoder):
    async def notebook():
        return train(rows(), backbone=str(tiny_encoder), pooling="mean", **SHORT)

    result = asyncio.run(notebook())
    assert [step.level for step in result.steps] == [0, 0, 0, 0]


@pytest.mark.parametrize(("name", "value"), [("steps", 0), ("pooling", "max"), ("schedule", "fast"), ("scale", -1.0)])
def test_a_wrong_value_is_named(name, value):
    with pytest.raises(InputError, match=f"^train: {name}: got"):
        train(rows(), **{name: value})
