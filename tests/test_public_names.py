"""What ``import finegrade`` promises to its users."""

import inspect

import pytest

import finegrade

PROMISED = {
    "AnchorPooling", "Config", "Negative", "Sample", "Task", "build_encoder", "evaluate", "load_encoder",
    "mine_negatives", "received_attention", "synthesize", "train", "verify", "write_negatives", "write_queries",
    "write_report",
}  # fmt: skip


def test_all_names_are_the_promised_ones():
    assert set(finegrade.__all__) == PROMISED
    assert len(finegrade.__all__) == len(PROMISED)


def test_dir_shows_the_promised_names_and_the_version():
    assert set(dir(finegrade)) == PROMISED | {"__version__"}


@pytest.mark.parametrize("name", sorted(PROMISED))
def test_name_can_be_imported_and_is_documented(name):
    value = getattr(finegrade, name)
    assert callable(value)
    assert value.__name__ == name
    assert inspect.getdoc(value)


def test_unknown_attribute_is_named():
    with pytest.raises(AttributeError, match="'finegrade' has no attribute 'sythesize'"):
        _ = finegrade.sythesize


def test_version_is_the_distribution_s():
    from importlib.metadata import version

    assert finegrade.__version__ == version("finegrade")
