"""A model folder and a run folder made at commit aa8a487, before the modules moved into packages, still load."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from finegrade import load_encoder, write_report
from finegrade.config.toml import load_config
from finegrade.records import Sample
from finegrade.storage.run_folder import RunFolder
from finegrade.storage.tables import read_rows

EARLIER = Path(__file__).parent / "fixtures" / "before_packages"


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(shutil.copytree(EARLIER, tmp_path / "earlier"))
    return Path("run")


def test_an_earlier_model_gives_its_vectors(place):
    expected = json.loads(Path("vectors.json").read_text())
    vectors = load_encoder(place / "model").encode(expected["texts"])
    np.testing.assert_allclose(vectors, expected["vectors"], atol=2e-6)


@pytest.mark.parametrize("stage", ["seeds", "synthesize", "verify", "train-finegrade", "evaluate", "report"])
def test_the_stages_of_an_earlier_run_still_hold(place, stage):
    assert RunFolder(place).holding(stage)["stage"] == stage


@pytest.mark.parametrize("folder", ["samples", "verified"])
def test_the_samples_of_an_earlier_run_are_read(place, folder):
    samples = read_rows(place / folder, Sample)
    assert len(samples) > 70
    assert {negative.level for sample in samples for negative in sample.negatives} == {1, 2, 3, 4}


@pytest.mark.slow
def test_the_report_of_an_earlier_run_is_written_again(place):
    (place / "report.html").unlink()
    (place / "stages" / "report.json").unlink()
    write_report(load_config(Path("finegrade.toml")), RunFolder(place))
    assert "Re-embed your index" in (place / "report.html").read_text(encoding="utf-8")
