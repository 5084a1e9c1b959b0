"""The documents stage: chunks on two sides, nothing twice, boilerplate gone, little memory."""

import json
import os
import random
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from finegrade.config import Config, SourceConfig
from finegrade.config.toml import parse_config
from finegrade.data import chunks as working_set
from finegrade.data.chunking import by_characters
from finegrade.data.chunks import write_pieces
from finegrade.data.documents import open_documents
from finegrade.data.languages import check_language, frequent_languages
from finegrade.errors import InputError
from finegrade.records import Chunk
from finegrade.stages.pipeline import call_stage
from finegrade.storage.run_folder import CHUNKS, UNUSED, RunFolder
from finegrade.storage.tables import read_rows
from finegrade.text import normalised
from helpers.corpus import WORDS, sentence, write_documents

GERMAN = (
    "das Ventil öffnet sich sobald der Druck über zwei Bar steigt und es schließt wieder wenn er unter ein Bar fällt "
    "vor jeder Reinigung muss die Leitung leer sein sonst läuft Wasser über Kante"
)


@pytest.fixture
def config(tiny_encoder, tmp_path):
    def config(**source) -> Config:
        data = {"kind": "documents", "path": str(tmp_path / "docs"), "chunk_tokens": 80, "language": "any"} | source
        return parse_config({"source": data, "training": {"backbone": str(tiny_encoder)}}, "test")

    return config


def chunks_of(run: RunFolder) -> list[Chunk]:
    return read_rows(run.path(CHUNKS), Chunk)


def imported(config: Config, tmp_path: Path, name: str = "run") -> tuple[list[Chunk], dict[str, int]]:
    run = RunFolder(tmp_path / name)
    call_stage("documents", config, run)
    return chunks_of(run), run.record("documents")["details"]["counts"]


def test_documents_are_cut_and_split_by_document(config, tmp_path):
    write_documents(tmp_path / "docs", 30)
    chunks, counts = imported(config(), tmp_path)
    assert counts["documents"] == 30
    assert counts["train"] + counts["test"] == len(chunks) == counts["pieces"]
    sides = defaultdict(set)
    for chunk in chunks:
        sides[chunk.path].add(chunk.side)
    assert all(len(side) == 1 for side in sides.values())
    test = sum(chunk.side == "test" for chunk in chunks)
    assert 0.1 < test / len(chunks) < 0.35


def test_offsets_and_headings_lead_back_into_the_document(config, tmp_path):
    write_documents(tmp_path / "docs", 12)
    chunks, _ = imported(config(), tmp_path)
    for chunk in chunks:
        text = (tmp_path / "docs" / chunk.path).read_text()
        body = chunk.text.removeprefix(f"{chunk.heading}: ")
        assert " ".join(text[chunk.offset :].split()).startswith(body[:40])
        assert chunk.heading.startswith("Title ")


def test_boilerplate_and_repeats_are_left_out_and_counted(config, tmp_path):
    write_documents(tmp_path / "docs", 30)
    (tmp_path / "docs" / "copy.md").write_text((tmp_path / "docs" / "doc003.md").read_text())
    (tmp_path / "docs" / "numbers.md").write_text("1 2 3 4 5 6 7 8 9 10 11 12\n" * 30)
    chunks, counts = imported(config(), tmp_path)
    assert not [chunk for chunk in chunks if "rights reserved" in chunk.text]
    assert counts["lines of boilerplate"] >= 30
    assert counts["same as another piece"] + counts.get("nearly the same as another chunk", 0) >= 3
    assert not [chunk for chunk in chunks if chunk.path == "numbers.md"]
    texts = [normalised(chunk.text) for chunk in chunks]
    assert len(set(texts)) == len(texts)


def test_what_cannot_be_read_is_set_aside_with_its_reason(config, tmp_path):
    write_documents(tmp_path / "docs", 12)
    (tmp_path / "docs" / "binary.txt").write_bytes(b"\0\1\2")
    run = RunFolder(tmp_path / "run")
    call_stage("documents", config(), run)
    assert [json.loads(line) for line in run.path(UNUSED).read_text().splitlines()] == [
        {"path": "binary.txt", "reason": "binary"}
    ]
    assert run.record("documents")["details"]["counts"]["not read"] == 1


def test_few_documents_are_split_by_section(config, tmp_path):
    write_documents(tmp_path / "docs", 2, sections=12)
    chunks, _ = imported(config(), tmp_path)
    assert {chunk.side for chunk in chunks} == {"train", "test"}
    assert len({chunk.group for chunk in chunks}) > 4
    sides = defaultdict(set)
    for chunk in chunks:
        sides[chunk.group].add(chunk.side)
    assert all(len(side) == 1 for side in sides.values())


def test_one_text_without_headings_is_split_by_place(config, tmp_path, monkeypatch):
    monkeypatch.setattr(working_set, "SECTION_PIECES", 4)
    generator = random.Random(1)
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "one.txt").write_text("\n\n".join(sentence(generator, 40) for _ in range(60)))
    chunks, _ = imported(config(), tmp_path)
    assert {chunk.side for chunk in chunks} == {"train", "test"}


def test_max_chunks_draws_the_same_ones_each_time(config, tmp_path):
    write_documents(tmp_path / "docs", 40)
    first, counts = imported(config(max_chunks=40), tmp_path, "one")
    second, _ = imported(config(max_chunks=40), tmp_path, "two")
    assert first == second
    assert len(first) == 40
    assert counts["over source.max_chunks"] == counts["pieces"] - 40


def test_near_copies_leave_the_training_side(config, tmp_path):
    write_documents(tmp_path / "docs", 30)
    for path in sorted((tmp_path / "docs").glob("*.md")):
        text = path.read_text().replace("Title", "Head").replace("Section", "Part")
        path.with_name(f"near-{path.name}").write_text(text.replace(".", ". Well,"))
    chunks, counts = imported(config(), tmp_path)
    assert counts["nearly the same as another chunk"] > 30
    bodies = Counter(normalised(chunk.text.partition(": ")[2]) for chunk in chunks)
    assert max(bodies.values()) == 1


def test_an_unchanged_folder_is_kept_and_a_changed_one_read_again(config, tmp_path, capsys):
    write_documents(tmp_path / "docs", 12)
    run = RunFolder(tmp_path / "run")
    call_stage("documents", config(), run)
    call_stage("documents", config(max_train=50), run)
    assert "documents: kept from" in capsys.readouterr().err
    (tmp_path / "docs" / "doc000.md").write_text("# New\n\n" + " ".join(WORDS))
    call_stage("documents", config(), run)
    assert "documents: its settings or inputs have changed" in capsys.readouterr().err


def test_another_way_to_write_the_path_is_the_same_source(config, tmp_path, capsys, monkeypatch):
    write_documents(tmp_path / "docs", 12)
    run = RunFolder(tmp_path / "run")
    call_stage("documents", config(), run)
    monkeypatch.chdir(tmp_path)
    call_stage("documents", config(path="docs"), run)
    assert "documents: kept from" in capsys.readouterr().err


@pytest.mark.parametrize("content", ["", "x", "1 2 3 4 5"])
def test_documents_without_prose_are_reported(config, tmp_path, content):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text(content)
    with pytest.raises(InputError, match="wanted documents with prose"):
        imported(config(), tmp_path)


def test_one_small_document_cannot_be_split_and_this_is_reported(config, tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("# A\n\n" + " ".join(WORDS))
    with pytest.raises(InputError, match="of more than one file or section"):
        imported(config(), tmp_path)


def test_a_language_that_the_models_do_not_speak_stops_the_run(tmp_path, config, capsys):
    (tmp_path / "docs").mkdir()
    for i in range(12):
        text = " ".join(random.Random(i).choices(GERMAN.split(), k=40))
        (tmp_path / "docs" / f"{i}.txt").write_text(f"Seite {i}: {text}.")
    run = RunFolder(tmp_path / "run")
    for _ in range(2):  # what was read is kept, and the question is asked again
        with pytest.raises(InputError, match=r"de in .* verification.scorer"):
            call_stage("documents", config(language="detect"), run)
    capsys.readouterr()
    call_stage("documents", config(), run)  # language = "any"
    assert "documents: kept from" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("changes", "mute"),
    [
        ({}, ["training.backbone", "verification.scorer", "verification.committee"]),  # the LLM speaks German
        ({"training": {"backbone": "owner/name"}}, ["verification.scorer", "verification.committee"]),
        (
            {"training": {"backbone": "owner/name"}, "verification": {"scorer": "owner/name"}},
            ["verification.committee"],
        ),
        ({"training": {"backbone": "owner/name"}, "verification": {"scorer": "owner/name", "committee": []}}, []),
        ({"source": {"kind": "python-docs", "language": "any"}}, []),
    ],
)
def test_the_settings_to_change_are_named(changes, mute):
    config = parse_config({"source": {"kind": "python-docs"}} | changes, "test")
    if not mute:
        check_language({"de": 1.0}, config.models, config.source.language)
        return
    with pytest.raises(InputError) as error:
        check_language({"de": 0.7, "en": 0.3}, config.models, config.source.language)
    assert "de in 70%" in str(error.value)
    for setting in ("training.backbone", "verification.scorer", "verification.committee", "llm.model"):
        assert (setting in str(error.value)) == (setting in mute)
    assert "--force" in str(error.value)


def test_english_texts_pass():
    texts = ["The valve opens when the pressure rises above two bar, and closes again."] * 20
    assert frequent_languages(texts) == {"en": 1.0}
    check_language({"en": 1.0}, parse_config({"source": {"kind": "python-docs"}}, "test").models, "detect")


def test_lone_surrogates_in_texts_and_names_stop_nothing(config, tmp_path):
    write_documents(tmp_path / "docs", 12)
    text = "A broken sign \\ud83d stands in this text, which is long enough to be kept as a piece of its own."
    (tmp_path / "docs" / "rows.jsonl").write_text(f'{{"text": "{text}"}}\n')
    name = os.fsdecode(b"do\xffcs.md")
    (tmp_path / "docs" / name).write_text(
        "# Odd\n\nThis file has a name that is not Unicode, and yet it is read with all the others."
    )
    chunks, _ = imported(config(), tmp_path)
    assert [chunk.path for chunk in chunks if "not Unicode" in chunk.text] == ["do?cs.md"]
    assert [chunk.text for chunk in chunks if chunk.path.startswith("rows")] == [text.replace("\\ud83d", "?")]


def test_pieces_that_somebody_judged_are_kept_as_they_are(tmp_path):
    (tmp_path / "docs").mkdir()
    for name in ("a.txt", "b.txt"):
        (tmp_path / "docs" / name).write_text(
            "This very text stands in two documents, of which only one has been judged so far."
        )
    (tmp_path / "docs" / "c.txt").write_text("Yes.")
    documents = open_documents(SourceConfig(kind="documents", path=tmp_path / "docs"), 0)
    for required, all_of_it, kept in (
        ((), False, 1),
        (("a.txt", "b.txt"), False, 2),
        (("c.txt",), False, 2),
        ((), True, 2),
    ):
        counts = write_pieces(
            documents, tmp_path / "p.parquet", tmp_path / "u.jsonl", 80, by_characters(4), required, all_of_it
        )
        assert counts["pieces"] == kept
        paths = pq.read_table(tmp_path / "p.parquet").column("path").to_pylist()
        assert set(required) <= set(paths)


def test_documents_that_queries_name_and_that_are_not_there_are_reported(config, tmp_path, capsys):
    write_documents(tmp_path / "docs", 12)
    rows = [{"query": "a", "path": "doc001.md"}, {"query": "b", "path": "docs/doc001.md"}]
    (tmp_path / "real.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    call_stage("documents", config(queries=str(tmp_path / "real.jsonl")), RunFolder(tmp_path / "run"))
    assert "1 of 2 that queries name are not there, or hold no prose (first: docs/doc001.md)" in capsys.readouterr().err


def test_judgements_of_documents_that_are_not_there_are_reported(config, tmp_path):
    from helpers.corpus import beir

    folder = beir(tmp_path / "beir", "test")
    (folder / "qrels" / "test.tsv").write_text("query-id\tcorpus-id\tscore\nq0\tnowhere\t1\n")
    with pytest.raises(InputError, match="none of the 1 documents that they name"):
        imported(config(kind="beir", path=str(folder)), tmp_path)
