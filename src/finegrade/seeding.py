"""The seeds stage: reads the source, splits it, and writes train and test seeds."""

import random

from finegrade.config import Config, SourceConfig
from finegrade.console import say
from finegrade.records import Seed
from finegrade.sources.pairs import Pair, read_pairs
from finegrade.sources.python_docs import installed_versions, read_python_docs
from finegrade.sources.splitting import split_pairs
from finegrade.store import TEST_SEEDS, TRAIN_SEEDS, RunFolder, file_hash, write_rows


def make_seeds(config: Config, run: RunFolder) -> None:
    """Reads the source and writes ``seeds/train.parquet`` and ``seeds/test.parquet``.

    Test queries beyond ``max_test`` are not asked, but their texts stay in the corpus that the others search:
    such seeds keep an empty query.

    Raises:
        InputError: The source cannot be read, or leaves nothing to train or test on.
    """
    source = config.source
    settings = {"source": source.model_dump(mode="json"), "seed": config.seed, "content": _content(source)}
    with run.stage("seeds", settings) as stage:
        if stage.done:
            return
        split = split_pairs(_pairs(source), source.test_groups, source.test_share, source.max_train, config.seed)
        test = _cap_queries(split.test, source.max_test, config.seed)
        write_rows(run.path(TRAIN_SEEDS), split.train)
        write_rows(run.path(TEST_SEEDS), test)
        asked = sum(bool(seed.query) for seed in test)
        counts = {**split.counts, "test queries asked": asked}
        details = {"counts": counts, "corpus_hash": split.corpus_hash, "test_groups": split.test_groups}
        stage.finish([run.path(TRAIN_SEEDS), run.path(TEST_SEEDS)], details)
        listed = ", ".join(f"{name} {number:,}" for name, number in counts.items())
        say(f"seeds: {listed}; corpus {split.corpus_hash}")


def _content(source: SourceConfig) -> str:
    """What the source holds now, so that an edited file makes the stage run again."""
    if source.kind == "python-docs" or source.path is None:
        return installed_versions()
    try:
        return file_hash(source.path)
    except OSError:
        return "cannot be read"  # read_pairs tells it


def _pairs(source: SourceConfig) -> list[Pair]:
    if source.kind == "python-docs" or source.path is None:
        return list(read_python_docs(source.packages))
    return list(read_pairs(source.path))


def _cap_queries(test: list[Seed], limit: int, seed: int) -> list[Seed]:
    asked = {s.id for s in random.Random(seed).sample(test, min(limit, len(test)))}
    return [s if s.id in asked else s.model_copy(update={"query": ""}) for s in test]
