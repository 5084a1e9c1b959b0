"""The user's own queries: labelled ones test and train on their document's side, the others only test."""

import json
import re
from pathlib import Path

import pytest

from finegrade.config import SourceConfig
from finegrade.data.splitting import labelled_pairs, seeds_from_documents
from finegrade.data.user_queries import OwnQuery, labels_identity, read_own_queries
from finegrade.errors import InputError
from finegrade.records import Chunk, WrittenQuery
from helpers.corpus import TEXTS, beir

SOURCE = SourceConfig(kind="documents", path=Path("docs"))
CHUNKS = [
    Chunk(
        id=f"c{i}",
        text=text,
        path=f"doc{i}.md",
        offset=0,
        heading="",
        group=f"doc{i}.md",
        side="test" if i < 2 else "train",
    )
    for i, text in enumerate(TEXTS)
]
WRITTEN = [WrittenQuery(query=f"written query {i}", style="question", chunk=f"c{i}") for i in range(6)]


def source(tmp_path: Path, *rows: object) -> SourceConfig:
    path = tmp_path / "own.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return SourceConfig(kind="documents", path=tmp_path, queries=path)


def test_rows_with_and_without_labels(tmp_path):
    found = read_own_queries(
        source(
            tmp_path, {"query": " How  wide?"}, {"query": "b", "path": "x.md"}, {"query": "c", "positive": "A text."}
        )
    )
    assert found == [
        OwnQuery("How wide?"), OwnQuery("b", frozenset({"x.md"})), OwnQuery("c", positive="A text."),
    ]  # fmt: skip
    assert [query.labelled for query in found] == [False, True, True]


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"", "an empty file"),
        (b"{", "line 1"),
        (b'{"query": ""}', 'line 1: "query"'),
        (b'{"question": "x"}', 'line 1: "query"'),
        (b'{"query": "x"}\n["y"]', "line 2"),
        (b'{"query": "x", "path": 3}', "line 1"),
        (b'{"query": "\xff"}', "line 1"),
    ],
)
def test_bad_rows_are_named_by_their_line(tmp_path, content, told):
    (tmp_path / "own.jsonl").write_bytes(content)
    with pytest.raises(InputError) as error:
        read_own_queries(SourceConfig(kind="documents", path=tmp_path, queries=tmp_path / "own.jsonl"))
    assert told in str(error.value)
    assert error.value.remedy


def test_a_missing_file_is_told(tmp_path):
    with pytest.raises(InputError, match="Correct the path"):
        read_own_queries(SourceConfig(kind="documents", path=tmp_path, queries=tmp_path / "nothing.jsonl"))


def queries(seeds):
    return {seed.query for seed in seeds if seed.query}


def test_without_own_queries_the_written_ones_test_and_say_so():
    split = seeds_from_documents(CHUNKS, WRITTEN, [], SOURCE, 0)
    assert queries(split.test) == {"written query 0", "written query 1"}
    assert queries(split.train) == {f"written query {i}" for i in range(2, 6)}
    assert split.test_queries == "synthetic"


def test_labelled_queries_take_the_place_of_written_ones_in_testing():
    own = [OwnQuery("mine on test", frozenset({"doc0.md"})), OwnQuery("mine on train", frozenset({"doc3.md"}))]
    split = seeds_from_documents(CHUNKS, WRITTEN, own, SOURCE, 0)
    assert queries(split.test) == {"mine on test"}
    assert queries(split.train) == {"mine on train", *(f"written query {i}" for i in range(2, 6))}
    assert split.test_queries == "labelled"


def test_test_queries_search_every_chunk_and_train_texts_are_never_of_the_test_side():
    split = seeds_from_documents(CHUNKS, WRITTEN, [], SOURCE, 0)
    assert {text for seed in split.test for text in seed.positives} == set(TEXTS)
    assert {text for seed in split.train for text in seed.positives} == set(TEXTS[2:])


def test_an_unlabelled_own_query_is_never_trained_on():
    split = seeds_from_documents(CHUNKS, WRITTEN, [OwnQuery("Written query 3?")], SOURCE, 0)
    assert "written query 3" not in queries(split.train)
    assert split.test_queries == "synthetic"


def test_a_text_label_leads_to_the_chunk_that_holds_it_and_to_its_side():
    inside = "how the valve number 1 is opened, closed and cleaned in order"
    pairs, lost = labelled_pairs([OwnQuery("q", positive=inside)], CHUNKS, 0.2, 0)
    assert [(side, pair.positive) for side, pair in pairs] == [("test", TEXTS[1])]
    assert lost == 0


def test_a_text_label_that_no_chunk_holds_is_one_more_text():
    pairs, _ = labelled_pairs([OwnQuery("q", positive="Something quite different stands here.")], CHUNKS, 0.2, 0)
    assert [pair.positive for _, pair in pairs] == ["Something quite different stands here."]


def test_a_document_that_is_not_there_is_counted():
    pairs, lost = labelled_pairs([OwnQuery("q", frozenset({"gone.md"}))], CHUNKS, 0.2, 0)
    assert (pairs, lost) == ([], 1)


def test_a_beir_folder_says_which_queries_train_and_test(tmp_path):
    found = read_own_queries(SourceConfig(kind="beir", path=beir(tmp_path / "b", "train", "test")))
    assert {(q.query, *q.paths, q.side) for q in found} == {
        ("query 0", "corpus.jsonl#d0", "train"), ("query 1", "corpus.jsonl#d1", "test"),
    }  # fmt: skip


def test_dev_judgements_test_where_there_are_no_others(tmp_path):
    found = read_own_queries(SourceConfig(kind="beir", path=beir(tmp_path / "b", "dev")))
    assert [query.side for query in found] == ["test"]


def test_a_beir_folder_without_judgements_is_told(tmp_path):
    with pytest.raises(InputError, match=r"qrels/test.tsv"):
        read_own_queries(SourceConfig(kind="beir", path=beir(tmp_path / "b", "train")))


def test_a_damaged_judgement_is_named_by_its_line(tmp_path):
    folder = beir(tmp_path / "b", "test")
    with (folder / "qrels" / "test.tsv").open("a") as file:
        file.write("q1 d1 1\n")
    with pytest.raises(InputError, match="line 4"):
        read_own_queries(SourceConfig(kind="beir", path=folder))


def test_another_label_is_another_source_for_the_seeds(tmp_path):
    folder = beir(tmp_path / "b", "train", "test")
    before = labels_identity(read_own_queries(SourceConfig(kind="beir", path=folder)))
    assert labels_identity(read_own_queries(SourceConfig(kind="beir", path=folder))) == before
    with (folder / "qrels" / "test.tsv").open("a") as file:
        file.write("q2\td2\t1\n")
    assert labels_identity(read_own_queries(SourceConfig(kind="beir", path=folder))) != before


def test_a_line_that_is_too_long_is_named_and_not_read_as_two(tmp_path, monkeypatch):
    monkeypatch.setattr("finegrade.data.readers.text_files.MAX_ROW_BYTES", 60)
    rows = [{"query": "short"}, {"query": "x" * 200}]
    with pytest.raises(InputError, match="line 2: got row of more than 60 bytes"):
        read_own_queries(source(tmp_path, *rows))


def test_a_text_label_over_two_chunks_has_the_side_of_its_document():
    texts = ["One of the pumps is old and loud and leaks.", "It was bought in spring by the owner of the mill."]
    parts = [CHUNKS[2].model_copy(update={"text": text}) for text in texts]
    across = "old and loud and leaks. It was bought in spring by the owner"
    for number in range(8):
        ((side, pair),), _ = labelled_pairs([OwnQuery(f"q{number}", positive=across)], [*CHUNKS, *parts], 0.9, number)
        assert (side, pair.positive) == ("train", across)


def test_queries_with_one_answer_are_on_one_side():
    text = "Something quite different stands here, and eight people ask for it."
    own = [OwnQuery(f"q{number}", positive=text) for number in range(8)]
    sides = {seed: {side for side, _ in labelled_pairs(own, CHUNKS, 0.5, seed)[0]} for seed in range(10)}
    assert all(len(found) == 1 for found in sides.values())
    assert set().union(*sides.values()) == {"train", "test"}


def test_all_answers_of_a_test_query_are_right_and_none_is_trained_on():
    own = [OwnQuery("on both sides", frozenset({"doc0.md", "doc3.md"}))]
    split = seeds_from_documents(CHUNKS, WRITTEN, own, SOURCE, 0)
    (asked,) = (seed for seed in split.test if seed.query)
    assert set(asked.positives) == {TEXTS[0], TEXTS[3]}
    assert TEXTS[3] not in {text for seed in split.train for text in seed.positives}
    assert split.counts["text nearly in test"] == 1


def test_a_train_query_whose_answer_is_held_out_is_counted():
    own = [OwnQuery("for training", frozenset({"doc0.md"}), side="train")]
    assert labelled_pairs(own, CHUNKS, 0.2, 0) == ([], 1)


@pytest.mark.parametrize(("data", "told"), [(b"q\td\t1\n\xff\td\t1\n", "byte 0xff")])
def test_judgements_that_are_not_utf8_are_told(tmp_path, data, told):
    folder = beir(tmp_path, "test")
    (folder / "qrels" / "test.tsv").write_bytes(data)
    with pytest.raises(InputError, match=told):
        read_own_queries(SourceConfig(kind="beir", path=folder))


@pytest.mark.parametrize(
    ("row", "told"),
    [
        ({"query": "q", "positive": "\ud800"}, '"positive": got'),
        ({"query": "q", "path": "\ud800.md"}, '"path": got'),
        ({"query": "q", "path": 3}, '"path": got int 3'),
        ({"query": "q", "positve": "x"}, "Did you mean positive"),
        ({"query": "q", "Path": "x"}, "Did you mean path"),
    ],
)
def test_labels_that_cannot_be_read_are_told(tmp_path, row, told):
    with pytest.raises(InputError, match=re.escape(told)):
        read_own_queries(source(tmp_path, row))


def test_empty_labels_are_none_and_paths_may_begin_with_a_dot(tmp_path):
    rows = [{"query": "a", "path": None, "positive": None}, {"query": "b", "path": "./x.md", "id": 4}]
    assert read_own_queries(source(tmp_path, *rows)) == [OwnQuery("a"), OwnQuery("b", frozenset({"x.md"}))]
