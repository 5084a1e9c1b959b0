"""Which stages a source needs, that others are refused, and that declarations agree with the functions."""

import importlib
import inspect

import pytest

from finegrade.config.toml import parse_config
from finegrade.errors import InputError
from finegrade.stages.pipeline import STAGES, run_all, run_stage, stage_order
from finegrade.storage.run_folder import RunFolder

ENDS = ("verify", "train", "evaluate", "report")
ORDERS = {
    "pairs": ("seeds", "synthesize", *ENDS),
    "python-docs": ("seeds", "synthesize", *ENDS),
    "documents": ("documents", "queries", "seeds", "synthesize", *ENDS),
    "beir": ("documents", "queries", "seeds", "synthesize", *ENDS),
    "tasks": ("tasks", "synthesize", "seeds", *ENDS),
}


def config(kind):
    path = {} if kind in ("tasks", "python-docs") else {"path": "x"}
    return parse_config({"source": {"kind": kind} | path}, "test")


@pytest.mark.parametrize("kind", ORDERS)
def test_each_source_needs_its_stages(kind):
    assert stage_order(config(kind)) == ORDERS[kind]


@pytest.mark.parametrize("kind", ORDERS)
def test_other_stages_are_refused_and_touch_nothing(kind, tmp_path):
    refused = set(STAGES) - set(ORDERS[kind])
    assert refused
    for stage in refused:
        with pytest.raises(InputError, match=f'a source of kind "{kind}": got finegrade {stage}; wanted one of'):
            run_stage(stage, config(kind), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ORDERS)
def test_a_stage_runs_those_before_it_in_order(kind, tmp_path, monkeypatch):
    called = []
    monkeypatch.setattr("finegrade.stages.pipeline.call_stage", lambda name, *_: called.append(name))
    run_stage("train", config(kind), RunFolder(tmp_path / "run"))
    assert called == list(ORDERS[kind][: ORDERS[kind].index("train") + 1])


@pytest.mark.parametrize(("schedule", "is_refused"), [("coarse-to-fine", True), ("shuffled", True), ("fixed:4", False)])
def test_too_few_steps_show_before_anything_is_done(schedule, is_refused, tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr("finegrade.stages.pipeline.fetch_models", done.append)
    monkeypatch.setattr("finegrade.stages.pipeline.call_stage", lambda name, *_: done.append(name))
    few = config("pairs").model_copy(
        update={"training": config("pairs").training.model_copy(update={"steps": 3, "schedule": schedule})}
    )
    run = RunFolder(tmp_path / "run")
    with run.stage("seeds", {}) as seeds:
        seeds.finish([], {"counts": {"train": 1_000}})
    if is_refused:
        with pytest.raises(InputError, match=r"training.steps: got 3; wanted at least one step for each of 4 levels"):
            run_all(few, run)
    else:
        run_all(few, run)
    assert bool(done) is not is_refused


@pytest.mark.parametrize("kind", ORDERS)
def test_a_stage_reads_what_an_earlier_stage_wrote(kind):
    order = ORDERS[kind]
    for index, name in enumerate(order):
        assert bool(set(STAGES[name].reads) & set(order[:index])) is (index > 0)


@pytest.mark.parametrize("declaration", STAGES.values(), ids=lambda declaration: declaration.name)
def test_a_declaration_fits_its_function(declaration):
    module = importlib.import_module(f"finegrade.stages.{declaration.name}")
    parameters = inspect.signature(getattr(module, declaration.function)).parameters.values()
    needed = [parameter.name for parameter in parameters if parameter.default is parameter.empty]
    assert ["run", *(path.rpartition(".")[2] for path in declaration.takes)] == needed
