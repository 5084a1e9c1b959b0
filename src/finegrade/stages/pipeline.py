"""The stages in order: ``run`` for the user's configuration, ``demo`` for the one that comes along."""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module, resources
from operator import attrgetter
from pathlib import Path

from finegrade.config import Config
from finegrade.config.toml import load_config
from finegrade.console import say
from finegrade.errors import InputError
from finegrade.storage.run_folder import (
    CHUNKS,
    CONTROLS,
    LEFT_OUT,
    MODEL,
    QUERIES,
    REPORT,
    SAMPLES,
    SCORES,
    TASKS,
    TEST_SAMPLES,
    TEST_SEEDS,
    TRAIN_SEEDS,
    VERDICTS,
    VERIFIED,
    RunFolder,
)
from finegrade.training.curriculum import check_steps


@dataclass(frozen=True)
class StageDeclaration:
    """One stage: what it is called with, what it reads and what it writes.

    Attributes:
        name: The stage's command, and its module in this package.
        function: Of the module, which is imported when it is called: the data half works without torch.
        takes: Paths of the settings that the function is given, each as a keyword: the last part of the path.
            "config" is the whole configuration.
        reads: The stages whose results it reads, where they come before it in the order.
        writes: Paths in the run folder.
        summary: One sentence, for the command's help.
    """

    name: str
    function: str
    takes: tuple[str, ...]
    reads: tuple[str, ...]
    writes: tuple[str, ...]
    summary: str


_DECLARATIONS = (  # name, function, takes / reads, writes, summary
    StageDeclaration("tasks", "write_tasks", ("source", "tasks", "draws", "llm", "models", "seed"),
        (), (TASKS,), "Thinks up embedding tasks of all kinds, for a domain or for the open one."),
    StageDeclaration("documents", "import_documents", ("source", "training.backbone", "models", "seed"),
        (), (CHUNKS,), "Reads documents, cuts them into chunks and splits them into train and test."),
    StageDeclaration("queries", "write_queries",
        ("source", "queries", "llm", "training", "evaluation.batch_size", "seed"), ("documents",), (QUERIES,),
        "Writes queries for chunks and keeps those that find their chunk again."),
    StageDeclaration("seeds", "make_seeds", ("source", "models", "seed"), ("documents", "queries", "synthesize"),
        (TRAIN_SEEDS, TEST_SEEDS), "Splits queries and the texts that answer them into train and test."),
    StageDeclaration("synthesize", "synthesize", ("source", "resolved.synthesis", "draws", "llm", "seed"),
        ("seeds", "tasks"), (SAMPLES, TEST_SAMPLES), "Writes and mines negatives at graded levels."),
    StageDeclaration("verify", "verify_samples", ("verification", "llm", "synthesis.levels", "seed"), ("synthesize",),
        (VERIFIED, VERDICTS, LEFT_OUT), "Checks that negatives are negative and that levels are in order."),
    StageDeclaration("train", "train_rows", ("training", "seed"),
        ("verify",), (MODEL, CONTROLS), "Trains the model, coarse to fine, and its controls."),
    StageDeclaration("evaluate", "evaluate_rows", ("source", "training", "verification", "evaluation", "seed"),
        ("seeds", "train"), (SCORES,), "Scores the model and its controls on held-out queries."),
    StageDeclaration("report", "make_report", ("config",),
        ("synthesize", "verify", "evaluate"), (REPORT,), "Writes the report and the model's card."),
)  # fmt: skip
STAGES = {declaration.name: declaration for declaration in _DECLARATIONS}


def stage_order(config: Config) -> tuple[str, ...]:
    """The stages that a kind of source needs, in order. Of tasks, the LLM writes samples, and seeds come from them."""
    last = ("verify", "train", "evaluate", "report")
    if config.source.is_tasks:
        return ("tasks", "synthesize", "seeds", *last)
    if config.source.has_documents:
        return ("documents", "queries", "seeds", "synthesize", *last)
    return ("seeds", "synthesize", *last)


def call_stage(name: str, config: Config, run: RunFolder) -> None:
    """Calls the function of one stage with the settings that it takes; it finds its result done, or makes it."""
    declaration = STAGES[name]
    stage = getattr(import_module(f"finegrade.stages.{name}"), declaration.function)
    values = {path: config if path == "config" else attrgetter(path)(config) for path in declaration.takes}
    stage(run, **{path.rpartition(".")[2]: value for path, value in values.items()})


def synthesize(config: Config, run: RunFolder) -> None:
    """Runs the synthesize stage in a run folder: writes and mines negatives, into ``samples/``.

    Args:
        config: The whole configuration, e.g. of ``load_config``.
        run: The run folder; the stages before it must have run there.

    Raises:
        InputError: An earlier stage has not run, or the LLM cannot be had.
    """
    call_stage("synthesize", config, run)


def write_report(config: Config, run: RunFolder) -> None:
    """Runs the report stage in a run folder: writes ``report.html`` and the model's card.

    Args:
        config: The whole configuration, e.g. of ``load_config``.
        run: The run folder; the stages before it must have run there.

    Raises:
        InputError: An earlier stage has not run.
    """
    call_stage("report", config, run)


def run_all(config: Config, run: RunFolder) -> Path:
    """Runs every stage that is not done, and returns the path of the report."""
    from finegrade.models.scorers import free_scorers

    if not config.training.schedule.startswith("fixed:"):
        check_steps(config.training.steps, config.synthesis.levels)
    with run.locked():
        fetch_models(config)
        for name in stage_order(config):
            if name == "train":
                free_scorers()  # training needs the memory
            call_stage(name, config, run)
            if name == "seeds":
                _need_a_batch(config, run)
        return run.path(REPORT)


def run_stage(name: str, config: Config, run: RunFolder) -> None:
    """Runs one stage; the results of those before it must still be valid. ``run`` has the same name as ``only``."""
    stages = stage_order(config)
    if name not in stages:
        what, remedy = f'a source of kind "{config.source.kind}"', "Change source.kind, or leave this stage out."
        raise InputError(what, got=f"finegrade {name}", wanted=f"one of {', '.join(stages)}", remedy=remedy)
    with run.locked():
        for other in stages[: stages.index(name) + 1]:
            call_stage(other, config, run)
        if name == "verify":
            from finegrade.stages.report import write_verification_report

            say(f"verify: what it found: {write_verification_report(run, config.synthesis.levels)}")


def _need_a_batch(config: Config, run: RunFolder) -> None:
    """Too few seeds show before an LLM works for hours, not after."""
    seeds, batch = run.record("seeds")["details"]["counts"]["train"], config.training.batch_size
    if seeds < batch:
        remedy = "Lower training.batch_size, or give more pairs."
        raise InputError("training.batch_size", got=batch, wanted=f"at most the {seeds} train seeds", remedy=remedy)


def fetch_models(config: Config) -> None:
    """Fetches whatever the run will need, first: what is missing or wrong shows before hours of work, not after."""
    from finegrade.models.resolve import model_path
    from finegrade.models.scorers import load_bi_encoder, load_cross_encoder, load_scorer
    from finegrade.retrieval.mining import MAX_LENGTH
    from finegrade.verification.benchmarks import check_benchmarks

    if config.synthesis.engine == "ray":
        from finegrade.synthesis.ray_engine import need_ray

        need_ray()
    rules = config.verification
    check_benchmarks(rules.benchmarks)
    miners = {config.synthesis.miner_model} if config.synthesis.miner != "bm25" else set()
    llm_writes = config.synthesis.llm_samples or config.source.has_documents or config.source.is_tasks
    own_llm = [config.llm.model] if (llm_writes or rules.asks_llm_of_corpus) and not config.llm.base_url else []
    for name in (*own_llm, *rules.models, *sorted(miners)):
        model_path(name)
    backbone = model_path(config.training.backbone)
    for name in rules.models:
        load_scorer(name, rules.max_length)
    if config.source.queries:
        load_cross_encoder(rules.models, rules.max_length)
    for name in sorted(miners):
        load_bi_encoder(name, MAX_LENGTH)
    if backbone.suffix != ".gguf" and not (backbone / "config.json").is_file():  # whether it loads shows when it does
        got, wanted = config.training.backbone, "a folder with a config.json, or a .gguf file of a decoder"
        raise InputError("training.backbone", got=got, wanted=wanted, remedy="Name an encoder or decoder.")
    if config.evaluation.sts:
        from finegrade.evaluation.sts import load_stsb

        load_stsb(config.evaluation.sts_data)


def demo_config(overrides: Sequence[str] = ()) -> Config:
    """The configuration of ``make demo``: Python docs, small enough for two cores and twenty minutes."""
    with resources.as_file(resources.files("finegrade.stages").joinpath("demo.toml")) as path:
        return load_config(path, overrides)
