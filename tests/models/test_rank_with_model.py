"""Rankings are exact, and keep to the order of what was given."""

from pathlib import Path

import numpy as np
import pytest
from sentence_transformers import SentenceTransformer

from finegrade.models.encoder import build_encoder, embed, rank_with_model
from finegrade.retrieval.bm25 import BM25
from helpers.corpus import WORDS


@pytest.fixture(scope="module")
def model(tiny_encoder: Path) -> SentenceTransformer:
    return build_encoder(str(tiny_encoder), device="cpu")


def texts(count: int, seed: int) -> list[str]:
    """Different texts of one to twelve words."""
    generator = np.random.default_rng(seed)
    return [" ".join(generator.choice(WORDS, generator.integers(1, 13))) for _ in range(count)]


@pytest.mark.slow
def test_vectors_come_in_the_order_of_the_texts(model: SentenceTransformer) -> None:
    given = texts(37, 0)
    found = embed(model, given, batch_size=2, what="test")  # chunks of 16
    one_by_one = np.stack([model.encode(text, show_progress_bar=False) for text in given])
    np.testing.assert_allclose(found, one_by_one, atol=1e-5)


@pytest.mark.slow
def test_a_models_ranking_is_the_order_of_all_cosines(model: SentenceTransformer) -> None:
    queries, documents = texts(9, 1), texts(140, 2)
    found = rank_with_model(model, queries, documents, 8, "test", 100)
    asked, searched = model.encode(queries), model.encode(documents)
    cosines = asked @ searched.T / np.linalg.norm(asked, axis=1)[:, None] / np.linalg.norm(searched, axis=1)[None]
    for ranking, row in zip(found, cosines, strict=True):
        assert len(set(ranking)) == len(ranking) == 100
        np.testing.assert_allclose(row[ranking], np.sort(row)[::-1][:100], atol=1e-5)


def test_a_small_corpus_is_ranked_whole(model: SentenceTransformer) -> None:
    assert [sorted(r) for r in rank_with_model(model, texts(2, 1), texts(5, 2), 8, "test", 100)] == [
        [0, 1, 2, 3, 4]
    ] * 2
    assert [sorted(r) for r in BM25(["open file", "a graph"]).rank(["file"], 10, matching=False)] == [[0, 1]]


def test_bm25_finds_the_obvious() -> None:
    documents = ["Open a file and read it.", "Sort the edges of a graph.", "Play a sound on the server."]
    assert [r[0] for r in BM25(documents).rank(["sort graph EDGES", "a sound", "read the file"], 10)] == [1, 2, 0]


def test_bm25_takes_queries_without_any_known_word() -> None:
    assert sorted(BM25(["one text", "two texts"]).rank(["zzz", "?"], 10, matching=False)[0]) == [0, 1]


def test_a_text_that_shares_no_word_is_no_match():
    index = BM25(["the valve opens", "the pump leaks"])
    assert index.rank(["valve", "zebra"], 10) == [[0], []]
