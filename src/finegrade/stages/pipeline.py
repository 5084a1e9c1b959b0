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
        name: The stage's command.
        summary: One sentence, for the command's help.
        function: "module:function"; it is imported when it is called, so that the data half works without torch.
        takes: Paths of the settings that the function is given, each as a keyword: the last part of the path.
            "config" is the whole configuration. None: the function is called as ``function(config, run)``.
        reads: The stages whose results it reads, where they come before it in the order.
        writes: Paths in the run folder.
    """

    name: str
    summary: str
    function: str
    takes: tuple[str, ...] | None
    reads: tuple[str, ...]
    writes: tuple[str, ...]


_DECLARATIONS = (
    StageDeclaration(
        name="tasks",
        summary="Thinks up embedding tasks of all kinds, for a domain or for the open one.",
        function="finegrade.stages.tasks:write_tasks",
        takes=None,
        reads=(),
        writes=(TASKS,),
    ),
    StageDeclaration(
        name="documents",
        summary="Reads documents, cuts them into chunks and splits them into train and test.",
        function="finegrade.stages.documents:import_documents",
        takes=("source", "training.backbone", "models", "seed"),
        reads=(),
        writes=(CHUNKS,),
    ),
    StageDeclaration(
        name="queries",
        summary="Writes queries for chunks and keeps those that find their chunk again.",
        function="finegrade.stages.queries:write_queries",
        takes=None,
        reads=("documents",),
        writes=(QUERIES,),
    ),
    StageDeclaration(
        name="seeds",
        summary="Splits queries and the texts that answer them into train and test.",
        function="finegrade.stages.seeds:make_seeds",
        takes=("source", "models", "seed"),
        reads=("documents", "queries", "synthesize"),
        writes=(TRAIN_SEEDS, TEST_SEEDS),
    ),
    StageDeclaration(
        name="synthesize",
        summary="Writes and mines negatives at graded levels.",
        function="finegrade.stages.synthesize:synthesize",
        takes=None,
        reads=("seeds", "tasks"),
        writes=(SAMPLES, TEST_SAMPLES),
    ),
    StageDeclaration(
        name="verify",
        summary="Checks that negatives are negative and that levels are in order.",
        function="finegrade.stages.verify:verify_samples",
        takes=("verification", "llm", "synthesis.levels", "seed"),
        reads=("synthesize",),
        writes=(VERIFIED, VERDICTS, LEFT_OUT),
    ),
    StageDeclaration(
        name="train",
        summary="Trains the model, coarse to fine, and its controls.",
        function="finegrade.stages.train:train_rows",
        takes=("training", "seed"),
        reads=("verify",),
        writes=(MODEL, CONTROLS),
    ),
    StageDeclaration(
        name="evaluate",
        summary="Scores the model and its controls on held-out queries.",
        function="finegrade.stages.evaluate:evaluate_rows",
        takes=("source", "training", "verification", "evaluation", "seed"),
        reads=("seeds", "train"),
        writes=(SCORES,),
    ),
    StageDeclaration(
        name="report",
        summary="Writes the report and the model's card.",
        function="finegrade.stages.report:make_report",
        takes=("config",),
        reads=("synthesize", "verify", "evaluate"),
        writes=(REPORT,),
    ),
)
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
    """Calls the function of one stage with the settings that it takes.

    Args:
        name: The stage's command.
        config: The whole configuration.
        run: The run folder; the stage finds its result there done, or makes it.
    """
    declaration = STAGES[name]
    module, _, function = declaration.function.partition(":")
    stage = getattr(import_module(module), function)
    if declaration.takes is None:
        stage(config, run)
    else:
        stage(run, **{path.rpartition(".")[2]: _setting(config, path) for path in declaration.takes})


def _setting(config: Config, path: str) -> object:
    return config if path == "config" else attrgetter(path)(config)


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
    """Runs every stage that is not done.

    Returns:
        The path of the report.
    """
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
    """Runs one stage; the results of those before it must still be valid with this configuration.

    Args:
        name: The stage's command.
        config: The whole configuration.
        run: A run folder with the same name as ``only``.

    Raises:
        InputError: The source needs no such stage.
    """
    stages = stage_order(config)
    if name not in stages:
        wanted = f"one of {', '.join(stages)}"
        remedy = "Change source.kind, or leave this stage out."
        raise InputError(
            f'a source of kind "{config.source.kind}"', got=f"finegrade {name}", wanted=wanted, remedy=remedy
        )
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
    for name in (*own_llm, *rules.models, *sorted(miners), config.training.backbone):
        model_path(name)
    for name in rules.models:
        load_scorer(name, rules.max_length)
    if config.source.queries:
        load_cross_encoder(rules.models, rules.max_length)
    for name in sorted(miners):
        load_bi_encoder(name, MAX_LENGTH)
    _need_backbone(config.training.backbone)
    if config.evaluation.sts:
        from finegrade.evaluation.sts import load_stsb

        load_stsb(config.evaluation.sts_data)


def _need_backbone(name: str) -> None:
    """Whether it looks like one: whether it can be loaded shows when it is."""
    from finegrade.models.resolve import model_path

    path = model_path(name)
    if path.suffix != ".gguf" and not (path / "config.json").is_file():
        wanted = "a folder with a config.json, or a .gguf file of a decoder"
        raise InputError("training.backbone", got=name, wanted=wanted, remedy="Name an encoder or decoder.")


def demo_config(overrides: Sequence[str] = ()) -> Config:
    """The configuration of ``make demo``: Python docs, small enough for two cores and twenty minutes.

    Args:
        overrides: "section.key=value" strings that win over it.
    """
    with resources.as_file(resources.files("finegrade.stages").joinpath("demo.toml")) as path:
        return load_config(path, overrides)
