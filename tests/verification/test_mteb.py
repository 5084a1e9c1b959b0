"""Tasks as mteb itself makes and loads them, from data on this machine; where mteb is installed."""

import json
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest

from finegrade.verification.benchmarks import benchmark_texts, check_benchmarks

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]  # importing mteb takes ten seconds, and warns

QUERIES = [{"_id": "q0", "text": "who?"}, {"_id": "q1", "text": "not judged"}]
CORPUS = [{"_id": f"d{i}", "title": "A title" if i else "", "text": f"Text {i}."} for i in range(4)]
QRELS = [
    {"query-id": "q0", "corpus-id": document, "score": grade} for document, grade in (("d1", 1), ("d0", 2), ("d2", 0))
]
OF_RETRIEVAL = [("query", "who?"), ("document", "Text 0."), ("title", "A title"), ("document", "Text 1.")]


@pytest.fixture(scope="module")
def mteb():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return pytest.importorskip("mteb", minversion="2.0")


@pytest.fixture(autouse=True)
def caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")


def write_rows(path: Path, rows: list[dict[str, object]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")


def a_data_set(folder: Path, tables: dict[str, list[dict[str, object]]]) -> None:
    """A folder as it lies on the hub; "default" may be the name of a table."""
    configs = []
    for name, rows in tables.items():
        write_rows(folder / name / "test.jsonl", rows)
        configs.append(f"- config_name: {name}\n  data_files:\n  - split: test\n    path: {name}/test.jsonl\n")
    (folder / "README.md").write_text("---\nconfigs:\n" + "".join(configs) + "---\n", encoding="utf-8")


def metadata(mteb, kind: str, folder: Path, subsets: object = None):
    from mteb.abstasks.task_metadata import TaskMetadata

    return TaskMetadata(
        name="OurOwn", description="A task of these tests.", type=kind, category="t2t", modalities=["text"],
        dataset={"path": str(folder), "revision": "main"}, eval_splits=["test"],
        eval_langs=subsets or ["eng-Latn"], main_score="ndcg_at_10",
    )  # fmt: skip


@pytest.fixture
def register(mteb, monkeypatch: pytest.MonkeyPatch) -> Callable[[type], None]:
    registry = sys.modules["mteb.get_tasks"]._TASKS_REGISTRY  # mteb.get_tasks is a function of the same name
    return lambda task: monkeypatch.setitem(registry, "OurOwn", task)


def found() -> list[tuple[str, str]]:
    check_benchmarks(["mteb:OurOwn"])
    return [(one.role, one.text) for one in benchmark_texts("mteb:OurOwn")]


@pytest.mark.parametrize("subsets", [("",), ("en-", "de-")])
def test_a_retrieval_task_that_mteb_loads(mteb, register, tmp_path, subsets):
    from mteb.abstasks import AbsTaskRetrieval

    tables = {"corpus": CORPUS, "queries": QUERIES, "qrels" if subsets[0] else "default": QRELS}
    a_data_set(tmp_path, {f"{subset}{name}": rows for subset in subsets for name, rows in tables.items()})
    languages = {"en": ["eng-Latn"], "de": ["deu-Latn"]} if subsets[0] else None

    class OurOwn(AbsTaskRetrieval):
        metadata = metadata(mteb, "Retrieval", tmp_path, languages)

    register(OurOwn)
    assert found() == OF_RETRIEVAL * len(subsets)


def test_a_retrieval_task_of_the_older_kind(mteb, register, tmp_path):
    from mteb.abstasks import AbsTaskRetrieval

    class OurOwn(AbsTaskRetrieval):
        metadata = metadata(mteb, "Retrieval", tmp_path)

        def load_data(self, **more: object) -> None:
            self.queries = {"test": {row["_id"]: row["text"] for row in QUERIES}}
            self.corpus = {"test": {row["_id"]: {"title": row["title"], "text": row["text"]} for row in CORPUS}}
            self.relevant_docs = {"test": {"q0": {row["corpus-id"]: row["score"] for row in QRELS}}}
            self.data_loaded = True

    register(OurOwn)
    assert sorted(found()) == sorted(OF_RETRIEVAL)


def test_conversations_that_ask(mteb, register, tmp_path):
    from mteb.abstasks import AbsTaskRetrieval

    turns = [{"role": "user", "content": "who?"}, {"role": "assistant", "content": "me"}]
    a_data_set(tmp_path, {"corpus": CORPUS, "queries": [{"_id": "q0", "text": turns}], "default": QRELS})

    class OurOwn(AbsTaskRetrieval):
        metadata = metadata(mteb, "Retrieval", tmp_path)

    register(OurOwn)
    assert found() == [("query", "who?"), ("query", "me"), *OF_RETRIEVAL[1:]]


def test_tasks_of_pairs_and_of_classes(mteb, register, tmp_path):
    from mteb.abstasks import AbsTaskClassification, AbsTaskPairClassification, AbsTaskSTS

    a_data_set(tmp_path, {"default": [{"sentence1": "one", "sentence2": "two", "text": "", "label": 1, "score": 1.0}]})
    wanted = [("query", "one"), ("document", "one"), ("query", "two"), ("document", "two")]
    for base, kind in (
        (AbsTaskSTS, "STS"), (AbsTaskPairClassification, "PairClassification"),
        (AbsTaskClassification, "Classification"),
    ):  # fmt: skip

        class OurOwn(base):
            metadata = metadata(mteb, kind, tmp_path)

        register(OurOwn)
        assert found() == wanted
