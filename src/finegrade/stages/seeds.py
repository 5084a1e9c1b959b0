"""The seeds stage: queries and the texts that answer them, on their two sides."""

import json
import random
from collections.abc import Sequence
from typing import Any

from finegrade.config import SourceConfig
from finegrade.console import say
from finegrade.data.languages import check_language, frequent_languages
from finegrade.data.pairs import read_pairs
from finegrade.data.python_docs import installed_versions, read_python_docs
from finegrade.data.splitting import Split, seeds_from_documents, split_pairs
from finegrade.data.user_queries import OwnQuery, labels_identity, read_own_queries
from finegrade.errors import InputError
from finegrade.records import Chunk, Sample, Seed, WrittenQuery
from finegrade.storage.atomic import file_hash
from finegrade.storage.run_folder import CHUNKS, QUERIES, SAMPLES, TEST_SAMPLES, TEST_SEEDS, TRAIN_SEEDS, RunFolder
from finegrade.storage.tables import iterate_rows, read_rows, write_rows
from finegrade.text import content_hash

_AFTER = {"tasks": ["synthesize"], "documents": ["documents", "queries"], "beir": ["documents", "queries"]}


def make_seeds(run: RunFolder, source: SourceConfig, models: Sequence[tuple[str, str]], seed: int) -> None:
    """Writes ``seeds/train.parquet`` and ``seeds/test.parquet``.

    Pairs and Python docs are read and split here; ``models`` (setting and name of each) must speak their language.
    Documents give their chunks and the queries for them; tasks give the samples that an LLM wrote, those of held-out
    tasks to test with. Test queries beyond ``max_test`` are not asked, but their texts stay in the corpus that the
    others search: such seeds have an empty query.
    """
    user_queries = read_own_queries(source) if source.has_documents else []
    settings = {
        "source": source.model_dump(mode="json", exclude={"path", "queries", "language"}),  # by their content
        "seed": seed,
        "content": _content(source, user_queries),
    }
    reads_texts = not source.has_documents and not source.is_tasks
    with run.stage("seeds", settings, after=_AFTER.get(source.kind, [])) as stage:
        if not stage.done:
            split = _split(run, source, user_queries, seed)
            test = _cap_queries(split.test, source.max_test, seed)
            write_rows(run.path(TRAIN_SEEDS), split.train, Seed)
            write_rows(run.path(TEST_SEEDS), test, Seed)
            counts = {**split.counts, "test queries asked": sum(bool(seed.query) for seed in test)}
            details: dict[str, Any] = {"counts": counts, "corpus_hash": split.corpus_hash}
            details |= {"test_groups": split.test_groups, "test_queries": split.test_queries}
            if reads_texts:
                details["languages"] = frequent_languages([text for seed in split.train for text in seed.positives])
            stage.finish([run.path(TRAIN_SEEDS), run.path(TEST_SEEDS)], details)
            listed = ", ".join(f"{name} {number:,}" for name, number in counts.items())
            say(f"seeds: {listed}; corpus {split.corpus_hash}")
    if reads_texts:
        check_language(run.record("seeds")["details"]["languages"], models, source.language)


def _split(run: RunFolder, source: SourceConfig, user_queries: Sequence[OwnQuery], seed: int) -> Split:
    if source.is_tasks:
        return _split_of_samples(run)
    if source.has_documents:
        chunks, written = read_rows(run.path(CHUNKS), Chunk), read_rows(run.path(QUERIES), WrittenQuery)
        return seeds_from_documents(chunks, written, user_queries, source, seed)
    pairs = read_python_docs(source.packages) if source.path is None else read_pairs(source.path)
    return split_pairs(pairs, source.test_groups, source.test_share, source.max_train, seed)


def _split_of_samples(run: RunFolder) -> Split:
    def seeds(name: str) -> list[Seed]:
        samples = iterate_rows(run.path(name), Sample)
        return [Seed(id=s.id, query=s.query, positives=(s.positive,), group=s.group) for s in samples]

    train, test = seeds(SAMPLES), seeds(TEST_SAMPLES)
    if not train or not test:
        remedy = "Raise synthesis.llm_samples or tasks.number, or see set_aside.jsonl."
        raise InputError("the samples", got=f"{len(train)} train, {len(test)} test", wanted="both", remedy=remedy)
    digest = content_hash(*(s.id for s in train), "|", *(s.id for s in test))
    counts = {"train": len(train), "test": len(test)}
    return Split(train, test, counts, digest, sorted({s.group for s in test}), "tasks")


def _content(source: SourceConfig, user_queries: Sequence[OwnQuery]) -> str:
    """What the source holds now, so that an edited file makes the stage run again."""
    if source.has_documents:
        unlabelled = (one.query for one in user_queries if not one.labelled)
        return content_hash(json.dumps(labels_identity(user_queries)), *unlabelled)
    if source.is_tasks:
        return ""  # it is all in the samples
    if source.path is None:
        return installed_versions()
    try:
        return file_hash(source.path)
    except OSError:
        return "cannot be read"  # read_pairs says why


def _cap_queries(test: list[Seed], limit: int, seed: int) -> list[Seed]:
    with_query = [s for s in test if s.query]
    asked = {s.id for s in random.Random(seed).sample(with_query, min(limit, len(with_query)))}
    return [s if s.id in asked else s.model_copy(update={"query": ""}) for s in test]
