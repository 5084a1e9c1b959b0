"""Which stages a source takes, and that others are refused."""

import pytest

from finegrade.config.toml import parse_config
from finegrade.errors import InputError
from finegrade.stages.pipeline import STAGES, road, run_all, run_stage
from finegrade.storage.run_folder import RunFolder

ENDS = ("verify", "train", "evaluate", "report")
ROADS = {
    "pairs": ("seeds", "synthesize", *ENDS),
    "python-docs": ("seeds", "synthesize", *ENDS),
    "documents": ("documents", "queries", "seeds", "synthesize", *ENDS),
    "beir": ("documents", "queries", "seeds", "synthesize", *ENDS),
    "tasks": ("tasks", "synthesize", "seeds", *ENDS),
}


def config(kind):
    path = {} if kind in ("tasks", "python-docs") else {"path": "x"}
    return parse_config({"source": {"kind": kind} | path}, "test")


@pytest.mark.parametrize("kind", ROADS)
def test_each_source_takes_its_road(kind):
    assert road(config(kind)) == ROADS[kind]


@pytest.mark.parametrize("kind", ROADS)
def test_stages_of_other_roads_are_refused_and_touch_nothing(kind, tmp_path):
    refused = set(STAGES) - set(ROADS[kind])
    assert refused
    for stage in refused:
        with pytest.raises(InputError, match=f'a source of kind "{kind}": got finegrade {stage}; wanted one of'):
            run_stage(stage, config(kind), RunFolder(tmp_path / "run"))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("kind", ROADS)
def test_a_stage_looks_at_those_before_it_on_its_road(kind, tmp_path, monkeypatch):
    looked = []
    for name in STAGES:
        monkeypatch.setitem(STAGES, name, lambda *given, name=name: looked.append(name))
    run_stage("train", config(kind), RunFolder(tmp_path / "run"))
    assert looked == list(ROADS[kind][: ROADS[kind].index("train") + 1])


@pytest.mark.parametrize(("schedule", "is_refused"), [("coarse-to-fine", True), ("shuffled", True), ("fixed:4", False)])
def test_too_few_steps_show_before_anything_is_done(schedule, is_refused, tmp_path, monkeypatch):
    done = []
    monkeypatch.setattr("finegrade.stages.pipeline.fetch_models", done.append)
    monkeypatch.setattr(
        "finegrade.stages.pipeline.STAGES", dict.fromkeys(STAGES, lambda config, run: done.append(config))
    )
    monkeypatch.setattr("finegrade.stages.pipeline._need_a_batch", lambda config, run: None)
    few = config("pairs").model_copy(
        update={"training": config("pairs").training.model_copy(update={"steps": 3, "schedule": schedule})}
    )
    if is_refused:
        with pytest.raises(InputError, match=r"training.steps: got 3; wanted at least one step for each of 4 levels"):
            run_all(few, RunFolder(tmp_path / "run"))
    else:
        run_all(few, RunFolder(tmp_path / "run"))
    assert bool(done) is not is_refused
