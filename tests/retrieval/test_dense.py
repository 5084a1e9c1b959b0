"""Search by vectors: exactly what sorting everything would give, in flat memory, from a file that survives kills."""

import json
import random
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from finegrade.errors import InputError
from finegrade.models.onnx import prompt
from finegrade.models.scorers import OnnxBiEncoder, TorchBiEncoder
from finegrade.retrieval import dense
from finegrade.retrieval.dense import SCALE, DenseIndex, VectorFile, fixed_point


def unit(rows) -> np.ndarray:
    rows = np.asarray(rows, dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def random_units(number: int, dimension: int, seed: int = 0) -> np.ndarray:
    return unit(np.random.default_rng(seed).standard_normal((number, dimension)))


class Table:
    """An embedder that looks vectors up; texts and queries are their numbers."""

    def __init__(self, texts: np.ndarray, queries: np.ndarray | None = None) -> None:
        self.texts, self.queries, self.embedded = texts, queries, []

    def embed_documents(self, texts: Sequence[str]) -> np.ndarray:
        self.embedded.append(list(texts))
        return self.texts[[int(text) for text in texts]]

    def embed_queries(self, texts: Sequence[str]) -> np.ndarray:
        return self.queries[[int(text) for text in texts]]


def index(folder: Path, texts: np.ndarray, queries: np.ndarray | None = None, **options) -> DenseIndex:
    return DenseIndex(map(str, range(len(texts))), Table(texts, queries), folder, "test", len(texts), **options)


def definition(texts: np.ndarray, queries: np.ndarray, depth: int) -> tuple[np.ndarray, np.ndarray]:
    """All dot products of what is stored, in whole numbers, sorted; equal ones stay in their order."""
    products = fixed_point(queries).astype(np.int64) @ fixed_point(texts).astype(np.int64).T
    order = np.argsort(-products, axis=1, kind="stable")[:, :depth]
    return order, np.take_along_axis(products, order, axis=1) / SCALE**2


def check(found: tuple[np.ndarray, np.ndarray], wanted: tuple[np.ndarray, np.ndarray]) -> None:
    assert found[0].dtype == np.int32
    assert found[1].dtype == np.float32
    assert found[0].tolist() == wanted[0].tolist()
    assert found[1] == pytest.approx(wanted[1], abs=1e-6)


# the search

few_directions = st.integers(1, 3).flatmap(
    lambda dimension: st.lists(
        st.lists(st.integers(-2, 2), min_size=dimension, max_size=dimension).filter(any), min_size=1, max_size=40
    )
)


@settings(max_examples=150, deadline=None)
@given(few_directions, st.integers(1, 50), st.integers(1, 9), st.integers(1, 4), st.data())
def test_it_finds_what_sorting_everything_finds_with_ties_and_repeats(
    tmp_path_factory, rows, depth, texts_at_once, queries_at_once, data
):
    texts = unit(rows)
    asked = unit(data.draw(st.lists(st.sampled_from(rows), min_size=1, max_size=6)))
    asked[::2] *= -1
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dense, "BLOCK", 7)
        there = index(tmp_path_factory.mktemp("index"), texts, at_once=(texts_at_once, queries_at_once))
        check(there.top_k(asked, depth), definition(texts, asked, depth))


@pytest.mark.parametrize("texts_at_once", [8_192, 1_000, 37])
def test_no_block_size_changes_a_rank_or_a_last_digit(tmp_path, texts_at_once):
    texts, asked = random_units(3_000, 48), random_units(70, 48, seed=1)
    texts[2_000:2_500] = texts[:500]
    wanted = definition(texts, asked, 200)
    found = index(tmp_path, texts, at_once=(texts_at_once, 64)).top_k(asked, 200)
    check(found, wanted)
    assert found[1].tobytes() == wanted[1].astype(np.float32).tobytes()


def test_what_is_found_for_a_query_does_not_depend_on_the_others(tmp_path):
    texts, asked = random_units(500, 16), random_units(300, 16, seed=1)
    there = index(tmp_path, texts)
    together = there.top_k(asked, 20)[0]
    assert [there.top_k(asked[i : i + 1], 20)[0][0].tolist() for i in range(300)] == together.tolist()


def test_texts_that_come_nearer_and_nearer_are_all_looked_at(tmp_path):
    """Every block is better than all before it."""
    angles = np.linspace(3, 0, 100)
    texts = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert index(tmp_path, texts, at_once=(10, 256)).top_k(unit([[1, 0]]), 5)[0].tolist() == [[99, 98, 97, 96, 95]]


def test_opposite_texts_are_found_too(tmp_path):
    numbers, cosines = index(tmp_path, unit([[1, 0], [-1, 0], [0, 1]])).top_k(unit([[-1, 0]]), 3)
    assert numbers.tolist() == [[1, 2, 0]]
    assert cosines.tolist() == [[1, 0, -1]]


@pytest.mark.parametrize(("texts", "queries", "depth"), [(0, 3, 5), (4, 0, 5), (0, 0, 5), (4, 3, 9), (1, 1, 1)])
def test_few_texts_or_none_and_no_queries(tmp_path, texts, queries, depth):
    table = random_units(texts, 8) if texts else np.empty((0, 8), dtype=np.float32)
    asked = random_units(queries, 8, seed=1) if queries else np.empty((0, 8), dtype=np.float32)
    there = index(tmp_path, table, asked)
    numbers, cosines = there.top_k(asked, depth)
    assert len(there) == texts
    assert numbers.shape == cosines.shape == (queries, min(depth, texts))
    assert all(sorted(row) == list(range(texts)) for row in numbers.tolist())
    assert there.rank(list(map(str, range(queries))), depth) == numbers.tolist()


@pytest.mark.slow
def test_memory_does_not_grow_with_the_texts(tmp_path):
    asked, peaks = random_units(100, 32, seed=1), []
    for number in (5_000, 40_000):
        there = index(tmp_path / str(number), random_units(number, 32), at_once=(500, 256))
        tracemalloc.start()
        there.top_k(asked, 50)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[1] < 1.2 * peaks[0]
    assert peaks[1] < 40_000 * 32 * 4


# what is stored


def test_dot_products_of_what_is_stored_are_exact_in_float32():
    """Also where every component is rounded up, or a vector is as long as is let through."""
    for dimension in (1, 2, 31, 384, 1_024, 4_096, 12_000):
        ups = int(SCALE / dimension**0.5) + 0.5
        worst = np.full((1, dimension), min(ups / SCALE, 1.0099 / dimension**0.5), dtype=np.float32)
        for rows in (worst if abs(np.linalg.norm(worst) - 1) < 0.01 else unit(worst), random_units(50, dimension)):
            stored = fixed_point(rows * np.float32(1.0099) / max(1, np.linalg.norm(rows, axis=1).max()))
            exact = stored.astype(np.int64) @ stored.astype(np.int64).T
            assert np.abs(exact).max() < 1 << 24
            assert ((stored.astype(np.float32) @ stored.astype(np.float32).T) == exact).all()


def test_rounding_moves_a_cosine_by_a_ten_thousandth():
    one, other = random_units(2_000, 384), random_units(2_000, 384, seed=1)
    moved = (fixed_point(one).astype(float) * fixed_point(other)).sum(axis=1) / SCALE**2 - (one * other).sum(axis=1)
    assert moved.std() == pytest.approx((2 / 12) ** 0.5 / SCALE, rel=0.1)


@pytest.mark.parametrize("bad", [[0.0, 0.0], [3.0, 4.0], [float("nan"), 1.0], [float("inf"), 0.0]])
def test_vectors_that_are_not_of_unit_length_are_refused(tmp_path, bad):
    with pytest.raises(InputError, match="got 1 of 3 of other lengths"):
        index(tmp_path, np.array([[1, 0], bad, [0, 1]], dtype=np.float32))


def test_texts_are_read_a_block_at_a_time(tmp_path, monkeypatch):
    monkeypatch.setattr(dense, "BLOCK", 10)
    table, read = Table(random_units(95, 4)), 0

    def texts():
        nonlocal read
        for number in range(95):
            assert number <= 10 * len(table.embedded) + 10
            read += 1
            yield str(number)

    assert len(DenseIndex(texts(), table, tmp_path, "test", 95)) == read == 95
    assert [len(block) for block in table.embedded] == [10] * 9 + [5]


def test_lone_surrogates_reach_no_model(tmp_path):
    class Strict(Table):
        def embed_documents(self, texts):
            assert [text.encode() for text in texts]
            return random_units(len(texts), 4)

        embed_queries = embed_documents

    there = DenseIndex(["a", "\ud800"], Strict(np.empty((0, 4))), tmp_path, "test", 2)
    assert len(there.rank(["\udfff"], 2)[0]) == 2


# what is kept


@pytest.fixture
def small_blocks(monkeypatch):
    monkeypatch.setattr(dense, "BLOCK", 10)


def written(folder: Path, texts: Sequence[str], made_for: str = "model") -> tuple[list[str], bytes]:
    """Which texts were embedded, and what the file holds then."""
    table = Table(random_units(1_000, 6))
    file = VectorFile(folder, made_for)
    file.write(iter(texts), table.embed_documents, len(texts))
    assert (file.rows, file.dimension) == (len(texts), 6 if texts else 0)
    stored = (folder / "vectors.int16").read_bytes()
    wanted = fixed_point(table.texts[[int(text) for text in texts]]) if texts else np.empty((0, 6), np.int16)
    assert stored == wanted.tobytes()
    assert b"".join(block.tobytes() for block in file.blocks(7)) == stored
    return [text for block in table.embedded for text in block], stored


TEXTS = [str(number) for number in range(95)]


@pytest.mark.usefixtures("small_blocks")
def test_what_is_there_is_not_embedded_again(tmp_path):
    assert written(tmp_path, TEXTS)[0] == TEXTS
    assert written(tmp_path, TEXTS)[0] == []


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    ("texts", "embedded"),
    [
        ([*TEXTS, "100", "101"], [*TEXTS[90:], "100", "101"]),
        (TEXTS[:90], []),
        (TEXTS[:87], TEXTS[80:87]),
        ([*TEXTS[:42], "200", *TEXTS[43:]], [*TEXTS[40:42], "200", *TEXTS[43:]]),
        (TEXTS[1:], TEXTS[1:]),
        ([], []),
    ],
    ids=["more", "fewer", "fewer, with a part of a block", "another", "other places", "none"],
)
def test_of_other_texts_the_blocks_before_the_first_change_are_kept(tmp_path, texts, embedded):
    written(tmp_path, TEXTS)
    assert written(tmp_path, texts)[0] == embedded
    assert written(tmp_path, texts)[0] == []
    assert len(written(tmp_path, TEXTS)[0]) <= 95


@pytest.mark.usefixtures("small_blocks")
def test_vectors_of_another_model_are_made_again(tmp_path):
    written(tmp_path, TEXTS)
    assert written(tmp_path, TEXTS, "another model")[0] == TEXTS


@pytest.mark.usefixtures("small_blocks")
@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "manifest.json").write_text("{"),
        lambda folder: (folder / "manifest.json").write_text("[1]"),
        lambda folder: (folder / "manifest.json").write_text('{"dimension": null, "rows": 5, "blocks": 7}'),
        lambda folder: (folder / "manifest.json").unlink(),
        lambda folder: (folder / "vectors.int16").unlink(),
        lambda folder: (folder / "vectors.int16").write_bytes(b"short"),
    ],
    ids=["torn", "no object", "nothing in it", "no manifest", "no vectors", "cut vectors"],
)
def test_damaged_files_are_made_again(tmp_path, damage):
    written(tmp_path, TEXTS)
    damage(tmp_path)
    assert written(tmp_path, TEXTS)[0] == TEXTS


@pytest.mark.usefixtures("small_blocks")
def test_a_block_that_was_being_written_over_is_nobody_s(tmp_path):
    """Broken off while block 3 of other texts takes the place of the old one: the old one is not trusted any more."""
    written(tmp_path, TEXTS)

    def broken(texts):
        if "200" in texts:
            with (tmp_path / "vectors.int16").open("rb+") as file:
                file.seek(30 * 6 * 2)
                file.write(b"torn")
            raise KeyboardInterrupt
        raise AssertionError

    with pytest.raises(KeyboardInterrupt):
        VectorFile(tmp_path, "model").write([*TEXTS[:30], "200", *TEXTS[31:]], broken, 95)
    assert written(tmp_path, TEXTS)[0] == TEXTS[30:]


CHILD = """
import os, signal, sys, threading
from pathlib import Path
import numpy as np
from finegrade.retrieval import dense as vectors

vectors.BLOCK = 16
folder, log, blocks, seconds = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3]), float(sys.argv[4])

def embed(texts):
    global blocks
    with log.open("a") as file:
        file.write("".join(f"{text}\\n" for text in texts))
    blocks -= 1
    if blocks == 0:
        threading.Timer(seconds, os.kill, (os.getpid(), signal.SIGKILL)).start()
    rows = np.array([np.random.default_rng(int(text)).standard_normal(24) for text in texts], dtype=np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)

vectors.VectorFile(folder, "model").write(map(str, range(1_000)), embed, 1_000)
"""


KILLS = 12


@pytest.mark.slow
def test_kill_9_again_and_again_ends_with_the_same_file(tmp_path):
    """Each process kills itself a moment after so many blocks: where the kills fall does not depend on its speed."""

    def end_of_child(folder: Path, blocks: int, seconds: float) -> int:
        log = tmp_path / f"{folder.name}.log"
        return subprocess.run([sys.executable, "-c", CHILD, folder, log, str(blocks), str(seconds)]).returncode

    whole, killed, dice = tmp_path / "whole", tmp_path / "killed", random.Random(7)
    assert end_of_child(whole, 0, 0.0) == 0
    rows, ended = [], -signal.SIGKILL
    while ended:
        ended = end_of_child(killed, dice.randint(2, 6) if len(rows) < KILLS else 0, dice.uniform(0, 0.003))
        assert ended in (0, -signal.SIGKILL)
        if (killed / "manifest.json").exists():
            rows.append(json.loads((killed / "manifest.json").read_text())["rows"])
    assert rows == sorted(rows), "what was whole stays"
    assert len(set(rows)) > 4, "the kills must fall all over the work"
    for name in ("vectors.int16", "manifest.json"):
        assert (killed / name).read_bytes() == (whole / name).read_bytes()
    embedded = (tmp_path / "killed.log").read_text().splitlines()
    assert set(embedded) == set(map(str, range(1_000)))
    assert len(embedded) - 1_000 <= 16 * len(rows), "a kill costs one block"


# bi-encoders


class States:
    """A model of one token a word: each word's state is its length and one."""

    def run(self, text: str) -> np.ndarray:
        return np.array([[[len(word), 1] for word in text.split()]], dtype=np.float32)

    def each(self, do, items):
        return map(do, items)


def test_a_text_is_embedded_once_wherever_it_stands(monkeypatch):
    asked = []
    monkeypatch.setattr(States, "run", lambda self, text: asked.append(text) or np.ones((1, 1, 2), dtype=np.float32))
    model = OnnxBiEncoder(States())
    pairs = [(f"q{i % 3}", f"t{i % 5}") for i in range(600)]
    assert len(list(model.scores(pairs))) == 600
    assert len(asked) == 3 + 5


@pytest.mark.parametrize("mean", [False, True])
def test_an_onnx_bi_encoder_embeds_queries_and_documents_with_their_prompts(mean):
    plain, prompted = OnnxBiEncoder(States(), mean), OnnxBiEncoder(States(), mean, "find this: ")
    texts = ["a tall tower", "butter and dough"]
    found = plain.embed_documents(texts)
    lengths = [(1 + 4 + 5) / 3, (6 + 3 + 5) / 3] if mean else [1, 6]
    assert found == pytest.approx(unit([[length, 1] for length in lengths]))
    assert found.dtype == np.float32
    assert (plain.embed_queries(texts) == found).all()
    assert (prompted.embed_documents(texts) == found).all()
    assert (prompted.embed_queries(texts) == plain.embed_documents([f"find this: {text}" for text in texts])).all()
    both = OnnxBiEncoder(States(), mean, document_prompt="read this: ")
    assert (both.embed_documents(texts) == plain.embed_documents([f"read this: {text}" for text in texts])).all()
    assert (both.embed_queries(texts) == found).all()
    pairs = [(query, text) for query in texts for text in texts]
    wanted = (prompted.embed_queries(texts) @ prompted.embed_documents(texts).T).reshape(-1)
    assert list(prompted.scores(pairs)) == pytest.approx(wanted.tolist())


@pytest.mark.parametrize(
    ("config", "prompts"),
    [
        ('{"prompts": {"query": "query: ", "document": "text: "}}', ["query: ", "text: "]),
        ('{"prompts": {"query": 7}}', ["", ""]),
        ('{"prompts": ["query"]}', ["", ""]),
        ("[1]", ["", ""]),
        ("{", ["", ""]),
        (None, ["", ""]),
    ],
)
def test_prompts_are_what_the_folder_says(tmp_path, config, prompts):
    if config is not None:
        (tmp_path / "config_sentence_transformers.json").write_text(config)
    assert [prompt(tmp_path, kind) for kind in ("query", "document")] == prompts


@pytest.mark.slow
def test_a_torch_bi_encoder_embeds_with_the_prompts_of_its_folder(tiny_encoder, tmp_path):
    from sentence_transformers import SentenceTransformer

    model = SentenceTransformer(str(tiny_encoder))
    model.prompts = {"query": "the token graph ", "document": ""}
    model.save_pretrained(str(tmp_path), create_model_card=False)
    plain, prompted = TorchBiEncoder(tiny_encoder, 64), TorchBiEncoder(tmp_path, 64)
    texts = ["sort the list", "open the socket", "a"]
    found = plain.embed_documents(texts)
    assert found.dtype == np.float32
    assert np.linalg.norm(found, axis=1) == pytest.approx(np.ones(3), abs=1e-5)
    assert prompted.embed_documents(texts) == pytest.approx(found, abs=1e-5)
    with_prompt = plain.embed_documents([f"the token graph {text}" for text in texts])
    assert prompted.embed_queries(texts) == pytest.approx(with_prompt, abs=1e-5)
    pairs = [(query, text) for query in texts for text in texts]
    assert list(prompted.scores(pairs)) == pytest.approx((with_prompt @ found.T).reshape(-1).tolist(), abs=1e-5)


@pytest.mark.slow
def test_the_embedded_bi_encoder_finds_what_answers(tmp_path):
    from finegrade.models.scorers import load_scorer

    texts = [
        "Croissants are baked from dough.",
        "The Eiffel Tower is 330 metres tall.",
        "Files are opened for reading.",
    ]
    there = DenseIndex(texts, load_scorer("bge-small-en", 64), tmp_path, "bge-small-en", len(texts))
    assert [row[0] for row in there.rank(["how high is the tower in paris", "read a file", "bakery"], 3)] == [1, 2, 0]
