"""What every row is scored on."""

from collections.abc import Sequence

from finegrade.config import Config
from finegrade.data.user_queries import read_own_queries
from finegrade.records import Seed
from finegrade.storage.run_folder import TEST_SEEDS, RunFolder
from finegrade.storage.tables import read_rows


class TestSet:
    """Held-out queries, the corpus they search, which documents answer them, and queries of which nobody knows."""

    def __init__(self, seeds: Sequence[Seed], unlabelled: Sequence[str] = ()) -> None:
        self.unlabelled = list(unlabelled)
        self.documents = list(dict.fromkeys(text for seed in seeds for text in seed.positives))
        number = {text: i for i, text in enumerate(self.documents)}
        asked = [seed for seed in seeds if seed.query]
        self.queries = [seed.query for seed in asked]
        self.relevant = [frozenset(number[text] for text in seed.positives) for seed in asked]


def load_test_set(config: Config, run: RunFolder) -> TestSet:
    """The test set of a run."""
    return TestSet(read_rows(run.path(TEST_SEEDS), Seed), unlabelled_queries(config))


def unlabelled_queries(config: Config) -> list[str]:
    """The user's own queries of which nobody knows what answers them."""
    return [own.query for own in read_own_queries(config.source) if not own.labelled]
