"""`finegrade init` and `estimate`: what is found, what fits, and that the file that is written can be run."""

import json
import os
import tomllib
from pathlib import Path

import pytest

from finegrade.cli.estimate import estimate, told_estimate
from finegrade.cli.init import look_at, write_config
from finegrade.config.toml import load_config, parse_config
from finegrade.errors import InputError
from helpers.corpus import beir, write_documents


def written(path, output, minutes=30.0, queries=None, settings=()):
    write_config(path, minutes, output, queries, settings)
    return load_config(output)


def test_a_folder_of_documents(tmp_path, capsys):
    write_documents(tmp_path / "docs", 30)
    config = written(tmp_path / "docs", tmp_path / "finegrade.toml")
    assert config.source.kind == "documents"
    assert config.source.path == tmp_path / "docs"
    assert 8 <= config.queries.chunks <= config.source.max_chunks
    told = capsys.readouterr().err
    assert "30 documents" in told
    assert "finegrade run -c" in told
    assert 'path = "docs"' in (tmp_path / "finegrade.toml").read_text()  # from the file's folder


def test_pairs_and_beir_folders_are_known_by_what_lies_there(tmp_path):
    rows = [{"query": f"How wide is part {i}?", "positive": f"Part {i} is {i} metres wide."} for i in range(50)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert written(tmp_path / "pairs.jsonl", tmp_path / "one.toml").source.kind == "pairs"
    assert written(beir(tmp_path / "beir", "test"), tmp_path / "two.toml").source.kind == "beir"
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"text": row["positive"]}) + "\n" for row in rows))
    assert look_at(tmp_path / "rows.jsonl").kind == "documents"


@pytest.mark.slow
def test_more_minutes_are_a_larger_run_that_fits_them(tmp_path):
    write_documents(tmp_path / "docs", 300)
    asked = []
    for minutes in (10, 30, 120):
        config = written(tmp_path / "docs", tmp_path / f"{minutes}.toml", minutes)
        assert sum(estimate(config).minutes.values()) <= minutes
        asked.append(config.queries.chunks)
    assert asked == sorted(asked)
    assert asked[0] < asked[-1]


def test_every_value_that_is_written_is_what_a_run_would_read(tmp_path):
    write_documents(tmp_path / "docs", 30)
    (tmp_path / "own.jsonl").write_text('{"query": "x"}\n')
    config = written(tmp_path / "docs", tmp_path / "finegrade.toml", queries=tmp_path / "own.jsonl")
    data = tomllib.loads((tmp_path / "finegrade.toml").read_text())
    assert data["source"]["queries"] == "own.jsonl"
    assert data["training"]["batch_size"] == config.training.batch_size
    assert config.source.queries == tmp_path / "own.jsonl"


def test_a_file_that_is_there_is_not_touched(tmp_path):
    write_documents(tmp_path / "docs", 5)
    (tmp_path / "finegrade.toml").write_text("mine")
    with pytest.raises(InputError, match="there already"):
        write_config(tmp_path / "docs", 30, tmp_path / "finegrade.toml", None)
    assert (tmp_path / "finegrade.toml").read_text() == "mine"


@pytest.mark.parametrize("content", [None, b"", b"\0\0\0"])
def test_nothing_to_read_writes_nothing(tmp_path, content):
    (tmp_path / "docs").mkdir()
    if content is not None:
        (tmp_path / "docs" / "a.txt").write_bytes(content)
    with pytest.raises(InputError):
        write_config(tmp_path / "docs", 30, tmp_path / "finegrade.toml", None)
    assert not (tmp_path / "finegrade.toml").exists()


def test_odd_names_of_folders_are_quoted(tmp_path):
    name = 'do"cs \\ é \U0001f600 \x7f \n [x]'
    write_documents(tmp_path / name, 12)
    config = written(tmp_path / name, tmp_path / "finegrade.toml")
    assert config.source.path == tmp_path / name


def test_a_name_that_no_toml_can_hold_is_told(tmp_path):
    folder = os.fsdecode(os.fsencode(tmp_path) + b"/do\xffcs")
    write_documents(Path(folder), 12)
    with pytest.raises(InputError, match="not Unicode"):
        write_config(Path(folder), 30, tmp_path / "finegrade.toml", None)


REMOTE = (
    "llm.base_url=https://h.example/v1",
    "llm.model=some-model",
    "llm.price_in=1",
    "llm.price_out=4",
    "llm.concurrency=64",
)


@pytest.mark.slow
def test_more_money_is_a_larger_run_that_fits_it(tmp_path):
    write_documents(tmp_path / "docs", 300)
    asked = []
    for money in (0.2, 1.0, 100.0):
        config = written(
            tmp_path / "docs", tmp_path / f"{money}.toml", 600, settings=[*REMOTE, f"llm.max_cost={money}"]
        )
        assert config.llm.max_cost == money
        assert estimate(config).cost <= money
        asked.append(config.queries.chunks)
    assert asked[0] < asked[1] < asked[2]


@pytest.mark.slow
def test_minutes_bind_where_money_does_not_and_a_cap_in_tokens_binds_too(tmp_path):
    write_documents(tmp_path / "docs", 300)
    rich = written(tmp_path / "docs", tmp_path / "a.toml", 10, settings=[*REMOTE, "llm.max_cost=100"])
    assert sum(estimate(rich, chunks=900).minutes.values()) <= 10
    capped = written(tmp_path / "docs", tmp_path / "b.toml", 600, settings=[*REMOTE, "llm.max_tokens=200000"])
    assert estimate(capped).tokens <= 200_000


def test_what_the_user_sets_wins_and_is_written(tmp_path):
    write_documents(tmp_path / "docs", 30)
    settings = ["seed=7", "training.steps=3", 'training.backbone="my/model"', "evaluation.sts=false"]
    written(tmp_path / "docs", tmp_path / "finegrade.toml", settings=settings)
    data = tomllib.loads((tmp_path / "finegrade.toml").read_text())
    assert (data["seed"], data["training"]["steps"], data["evaluation"]["sts"]) == (7, 3, False)
    assert data["training"]["backbone"] == "my/model"


@pytest.mark.parametrize("setting", ["training.step=3", "training.steps=x", "no", "llm.base_url=https://h.example/v1"])
def test_a_wrong_setting_writes_nothing(tmp_path, setting):
    write_documents(tmp_path / "docs", 30)
    with pytest.raises(InputError):
        write_config(tmp_path / "docs", 30, tmp_path / "finegrade.toml", None, [setting])
    assert not (tmp_path / "finegrade.toml").exists()


def documents(**llm):
    return parse_config({"source": {"kind": "documents", "path": "x"}, "llm": llm}, "test")


def test_an_estimate_counts_requests_tokens_and_money():
    found = estimate(documents())
    assert [asked.what for asked in found.asked] == ["queries", "rewrites", "grades"]
    assert found.requests == sum(asked.requests for asked in found.asked)
    assert found.asked[0].requests == 200
    assert found.cost == 0
    priced = documents(base_url="https://h.example/v1", model="m", price_in=1.0, price_out=2.0, max_cost=1.0)
    money = estimate(priced).cost
    tokens_in, tokens_out = (sum(getattr(a, k) for a in estimate(priced).asked) for k in ("tokens_in", "tokens_out"))
    assert money == pytest.approx((tokens_in + 2 * tokens_out) / 1e6)


def test_the_estimate_in_words():
    told = told_estimate(documents())
    for part in ("queries: 200 requests", "embedded, on this machine; no cost", "in all: about"):
        assert part in told
    unknown = documents(base_url="https://h.example/v1", model="m", max_tokens=5)
    assert "cost unknown: name llm.price_in and llm.price_out" in told_estimate(unknown)


@pytest.mark.parametrize("setting", ["llm=5", "synthesis=3", "source=x"])
def test_a_section_that_is_no_section_is_told(tmp_path, setting):
    write_documents(tmp_path / "docs", 30)
    with pytest.raises(InputError):
        written(tmp_path / "docs", tmp_path / "finegrade.toml", settings=[setting])


def test_odd_endings_do_not_spoil_the_file(tmp_path):
    write_documents(tmp_path / "docs", 30)
    (tmp_path / "docs" / "x.a\x1bb\nc").write_text("x")
    Path(os.fsdecode(os.fsencode(tmp_path) + b"/docs/x.\xff")).write_text("x")
    written(tmp_path / "docs", tmp_path / "finegrade.toml")
    assert "not read: 1 " in (tmp_path / "finegrade.toml").read_text()


def test_a_cap_that_nothing_fits_is_told(tmp_path, capsys):
    write_documents(tmp_path / "docs", 30)
    written(tmp_path / "docs", tmp_path / "finegrade.toml", settings=[*REMOTE, "llm.max_cost=0.000001"])
    assert "less is not worth a run" in capsys.readouterr().err


def test_missing_queries_are_told_at_once(tmp_path):
    write_documents(tmp_path / "docs", 30)
    with pytest.raises(InputError, match="queries"):
        written(tmp_path / "docs", tmp_path / "finegrade.toml", queries=tmp_path / "nowhere.jsonl")


def test_a_saved_data_set_is_sized_as_a_whole(tmp_path):
    from datasets import Dataset

    rows = [{"text": f"The valve number {i} opens when the pressure rises above {i} bar."} for i in range(1000)]
    Dataset.from_list(rows).save_to_disk(str(tmp_path / "data"))
    assert "1,000 documents" in look_at(tmp_path / "data").told


def test_the_most_requests_are_told_too():
    config = documents(base_url="http://127.0.0.1:8000/v1", model="m")  # what cannot be read is asked for once more
    found = estimate(config)
    assert found.most_requests == 200 + 2 * 100 + 2 * (4 * 100 + 16) > found.requests == 200 + 100 + 3 * 100 + 16
    assert "samples: 100 requests (at most 200)" in told_estimate(config)


def test_settings_of_the_source_hold_for_the_look_too(tmp_path):
    rows = "".join(f"{i},The valve number {i} opens when the pressure rises above {i} bar.\n" for i in range(300))
    (tmp_path / "caps.csv").write_text("A,Wording\n" + rows)
    with pytest.raises(InputError, match=r"source\.text_field"):
        written(tmp_path / "caps.csv", tmp_path / "a.toml")
    config = written(tmp_path / "caps.csv", tmp_path / "b.toml", settings=["source.text_field=Wording"])
    assert config.source.text_field == "Wording"
    write_documents(tmp_path / "docs", 30)
    sizes = {size: look_at(tmp_path / "docs", {"chunk_tokens": size}).texts for size in (50, 150)}
    assert sizes[50] > sizes[150]


def test_a_remote_llm_needs_its_name(tmp_path):
    write_documents(tmp_path / "docs", 30)
    settings = [setting for setting in REMOTE if "model" not in setting]
    with pytest.raises(InputError, match="a remote LLM needs model"):
        written(tmp_path / "docs", tmp_path / "finegrade.toml", settings=[*settings, "llm.max_cost=1"])


def test_the_time_of_a_batch_does_not_depend_on_how_much_is_in_it():
    few, many = (
        parse_config(
            documents(base_url="http://h/v1", batch=True, model="m", max_tokens=5).model_dump() | queries, "test"
        )
        for queries in ({"queries": {"chunks": 10}}, {"queries": {"chunks": 4000}})
    )
    assert estimate(few).minutes["queries"] == estimate(many).minutes["queries"] > 0


def test_a_server_on_this_machine_costs_nothing():
    assert "no cost" in told_estimate(documents(base_url="http://127.0.0.1:8000/v1"))
