"""A few samples before the long work: with queries, rewrites and negatives, and nothing asked twice."""

import pytest

from finegrade.cli.preview import show_preview
from finegrade.config.toml import parse_config
from finegrade.stages.pipeline import call_stage
from finegrade.storage.run_folder import RunFolder
from helpers.query_stage import config
from helpers.runs import rewrite

__all__ = ["config"]  # the fixture


@pytest.fixture(autouse=True)
def no_models(monkeypatch):
    monkeypatch.setattr("finegrade.cli.preview.fetch_models", lambda config: None)


@pytest.mark.slow
def test_of_documents_it_shows_queries_and_negatives(config, tmp_path, capsys, fake_llm):
    run = RunFolder(tmp_path / "run")
    show_preview(config(), run, 5)
    told = capsys.readouterr().err
    assert len(fake_llm.requests) == 5
    assert told.count(", from character ") == 5
    assert "-> keywords: " in told
    assert "set aside (not the JSON that was asked for)" in told or told.count("-> question") == 5
    for level in ("level 4 (mined)", "level 3 (mined)", "level 1 (random)", "held out for testing"):
        assert level in told
    assert "what you have seen is not asked again" in told
    call_stage("queries", config(), run)
    assert len(fake_llm.requests) == 24


@pytest.mark.parametrize(("samples", "shown"), [(100, 5), (2, 2), (0, 0)])
@pytest.mark.slow
def test_of_pairs_it_shows_no_more_than_a_run_asks_for(
    fake_llm, pairs_file, tmp_path, capsys, no_retries, samples, shown
):
    fake_llm.answer = rewrite
    config = parse_config(
        {
            "source": {"path": str(pairs_file)},
            "llm": {"base_url": fake_llm.base_url},
            "synthesis": {"mode": "sibling", "llm_samples": samples},
        },
        "test",
    )
    show_preview(config, RunFolder(tmp_path / "run"), 5)
    told = capsys.readouterr().err
    assert len(fake_llm.requests) == shown == told.count("\nquery: ") == told.count("level 2 (mined)")
    assert told.count("level 4 (llm): To ") == told.count("    answers: How to ")
    assert told.count("level 4 (llm): To ") + told.count("  set aside (not the JSON") == shown
    assert ("No more than" in told) == (shown < 5)


@pytest.mark.slow
def test_terminal_commands_in_documents_stay_words(config, tmp_path, capsys, fake_llm):
    hostile = "\x1b[2J\x1b]0;title\x07 [red]:smile: and more words of prose. "
    (tmp_path / "docs" / "evil.md").write_text("# Evil\n\n" + hostile * 3)
    show_preview(config(chunks=31 * 3), RunFolder(tmp_path / "run"), 31 * 3)
    told = capsys.readouterr().err
    assert "\x1b" not in told
    assert "[red]:smile:" in told
