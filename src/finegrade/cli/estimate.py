"""What a run will take: minutes and money, for what it asks and what it trains. Shown before anything is spent."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from finegrade.cli.dry_run import Asked, grades_of_external, requests_of_run
from finegrade.config import Config, LLMConfig
from finegrade.console import say
from finegrade.errors import InputError
from finegrade.llm.accounts import cost
from finegrade.storage.atomic import read_json, write_json
from finegrade.storage.run_folder import CONSENT, RunFolder
from finegrade.training.variants import TRAINED_ROWS

# On two cores of a server (docs/lab/synthesis.md); other machines differ, so minutes are an estimate and called one.
READ_PER_SECOND, WRITTEN_PER_SECOND = 45.0, 24.0  # tokens, by the embedded LLM
REQUEST_SECONDS, START_SECONDS = 0.7, 15.0  # of the embedded LLM, besides reading and writing
TRAINED_PER_SECOND, EMBEDDED_PER_SECOND = 34.0, 86.0  # texts of 80 tokens
SCORED_PER_SECOND = 85.0  # pairs, by one scorer
MINED_PER_SECOND = 33.0  # texts, embedded to mine with
STS_SECONDS = 12.0  # a row
BATCH_SECONDS = 3_600.0  # a guess: servers promise no more than a day, for few requests as for many
_TOKENS_OF_REFERENCE = 80

QUERIES_KEPT = 2.2
"""Of three that are written for a chunk."""


@dataclass(frozen=True)
class Estimate:
    """What a run will take.

    Attributes:
        asked: Of the LLM.
        minutes: By stage, on two cores.
        cost: In the currency of the prices; None without prices.
    """

    asked: tuple[Asked, ...]
    minutes: dict[str, float]
    cost: float | None

    @property
    def requests(self) -> int:
        """All requests to the LLM."""
        return sum(asked.requests for asked in self.asked)

    @property
    def most_requests(self) -> int:
        """Never more than so many."""
        return sum(asked.most for asked in self.asked)

    @property
    def tokens(self) -> int:
        """All tokens, read and written."""
        return sum(asked.tokens_in + asked.tokens_out for asked in self.asked)


def estimate(config: Config, queries: int | None = None, chunks: int | None = None) -> Estimate:
    """Estimates a run.

    Args:
        config: Of the run.
        queries: Queries to train and test with; None: what the configuration allows at most, or the LLM will write.
        chunks: Texts to search; None: as many as the configuration allows.
    """
    asked = requests_of_run(config)
    if config.source.has_documents:
        queries = queries or round(config.queries.chunks * QUERIES_KEPT * len(config.queries.styles) / 3)
        chunks = min(chunks or config.source.max_chunks, config.source.max_chunks)
    if config.source.is_tasks:
        queries = queries or config.synthesis.llm_samples
    queries = queries or _pairs(config) or config.source.max_train
    train = min(round(queries * (1 - config.source.test_share)), config.source.max_train)
    test = min(queries - train, config.source.max_test)
    minutes = {a.what: _llm_seconds(a, config) / 60 for a in asked}
    minutes |= {name: s / 60 for name, s in _model_seconds(config, train, test, chunks or queries).items()}
    return Estimate(asked, minutes, _money(asked, config))


def _pairs(config: Config) -> int:
    """As many lines as the user's file of pairs has; 0 where there is none."""
    path = config.source.path
    if config.source.kind != "pairs" or path is None or not path.is_file():
        return 0
    with path.open("rb") as file:
        return sum(1 for line in file if line.strip())


def estimate_given(config: Config, negatives: int, characters: float) -> Estimate:
    """Estimates what the LLM is asked when others' data is verified."""
    asked = grades_of_external(config, negatives, characters)
    return Estimate(asked, {a.what: _llm_seconds(a, config) / 60 for a in asked}, _money(asked, config))


def _money(asked: Sequence[Asked], config: Config) -> float | None:
    money = cost(config.llm, sum(a.tokens_in for a in asked), sum(a.tokens_out for a in asked))
    return money if money or config.llm.is_remote else 0.0


def _llm_seconds(asked: Asked, config: Config) -> float:
    if config.llm.batch:
        return BATCH_SECONDS
    if config.llm.base_url:
        return asked.requests * 5.0 / config.llm.concurrency  # a guess: servers differ by far more
    read, written = asked.tokens_fresh / READ_PER_SECOND, asked.tokens_out / WRITTEN_PER_SECOND
    return START_SECONDS + asked.requests * REQUEST_SECONDS + read + written


def _model_seconds(config: Config, train: int, test: int, chunks: int) -> dict[str, float]:
    training = config.training
    longer = training.max_length / _TOKENS_OF_REFERENCE
    texts = {"none": 2, "graded": 3, "mined": 3}
    rows = [row for row in TRAINED_ROWS if training.controls or not row.is_control]
    read = sum(training.steps * training.batch_size * texts[row.negatives] for row in rows)
    embedded = (len(rows) + 1) * (chunks + test) * longer / EMBEDDED_PER_SECOND
    sts = STS_SECONDS * (len(rows) + 1) if config.evaluation.sts else 0.0
    found_again = {"queries found again": chunks * longer / EMBEDDED_PER_SECOND} if config.source.has_documents else {}
    if config.synthesis.miner != "bm25":
        found_again["vectors to mine with"] = (chunks + train) / MINED_PER_SECOND
    return found_again | {
        "verify": _scored(config) * train / SCORED_PER_SECOND,
        "train": read * longer / TRAINED_PER_SECOND,
        "evaluate": embedded + sts,
    }


def _scored(config: Config) -> int:
    """How many pairs of a sample models score: those of a second opinion all of them, at most."""
    return len(config.verification.models) * (1 + config.synthesis.levels)


def told_estimate(config: Config) -> str:
    """The estimate for people."""
    found = estimate(config)
    lines = [
        f"{a.what}: {a.requests:,} requests{_at_most(a)}, {a.tokens_in:,} tokens in, {a.tokens_out:,} out"
        for a in found.asked
    ]
    lines.append(f"LLM: {config.llm.host or 'embedded, on this machine'}; {told_money(found.cost)}")
    lines += [f"{name}: {minutes:.1f} minutes" for name, minutes in found.minutes.items()]
    lines.append(f"in all: about {sum(found.minutes.values()):.0f} minutes on two cores without a GPU")
    return "\n".join(lines)


def _at_most(asked: Asked) -> str:
    return f" (at most {asked.most:,})" if asked.most > asked.requests else ""


def told_money(money: float | None) -> str:
    """A cost for people."""
    if money is None:
        return "cost unknown: name llm.price_in and llm.price_out"
    return f"about {money:.2f} by the prices you named" if money else "no cost"


def need_consent(
    config: Config, run: RunFolder, yes: bool, ask: Callable[[str], bool] | None, ahead: Estimate | None = None
) -> None:
    """Asks once for each run folder, host, model and cap; where the LLM is on this machine nothing is asked.

    Args:
        config: Of the run.
        run: Keeps the answer.
        yes: Whether the user has said so already (--yes).
        ask: Puts a question to the user; None where nobody is there.
        ahead: What will be asked; None: all that a run asks.

    Raises:
        InputError: The answer is no, or nobody could be asked.
    """
    llm = config.llm
    if not llm.is_remote:
        return
    terms = {"host": llm.host, "model": llm.model, "max_tokens": llm.max_tokens, "max_cost": llm.max_cost}
    if _agreed(run) == terms:
        return
    say(told(config, ahead or estimate(config)))
    if not yes and not (ask and ask("Send them?")):
        got = "no" if ask else "nobody to ask"
        remedy = "Say --yes, or leave llm.base_url out: the embedded LLM sends nothing anywhere."
        raise InputError(f"sending texts to {llm.host}", got=got, wanted="a yes", remedy=remedy)
    write_json(run.path(CONSENT), terms)


def told(config: Config, found: Estimate) -> str:
    """What is going to be sent, in one line."""
    llm = config.llm
    return (
        f"Your texts go to {llm.host} (model {llm.model}): about {found.requests:,} requests, at most "
        f"{found.most_requests:,}; about {found.tokens:,} tokens, {told_money(found.cost)}; {_cap(llm)}."
    )


def _cap(llm: LLMConfig) -> str:
    caps = []
    if llm.max_cost is not None:
        caps.append(f"{llm.max_cost:g} in money")
    if llm.max_tokens is not None:
        caps.append(f"{llm.max_tokens:,} tokens")
    return f"never more than {' or '.join(caps)}"


def _agreed(run: RunFolder) -> Any:
    try:
        return read_json(run.path(CONSENT))
    except (OSError, ValueError):
        return None
