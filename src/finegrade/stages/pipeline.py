"""The stages in order: ``run`` for the user's configuration, ``demo`` for the one that comes along."""

from collections.abc import Callable, Sequence
from importlib import resources
from pathlib import Path

from finegrade.config import Config
from finegrade.config.toml import load_config
from finegrade.console import say
from finegrade.errors import InputError
from finegrade.storage.run_folder import REPORT, RunFolder


def _tasks(config: Config, run: RunFolder) -> None:
    from finegrade.stages.tasks import write_tasks

    write_tasks(config, run)


def _documents(config: Config, run: RunFolder) -> None:
    from finegrade.stages.documents import import_documents

    import_documents(config, run)


def _queries(config: Config, run: RunFolder) -> None:
    from finegrade.stages.queries import write_queries

    write_queries(config, run)


def _seeds(config: Config, run: RunFolder) -> None:
    from finegrade.stages.seeds import make_seeds

    make_seeds(config, run)


def _synthesize(config: Config, run: RunFolder) -> None:
    from finegrade.stages.synthesize import synthesize

    synthesize(config, run)


def _verify(config: Config, run: RunFolder) -> None:
    from finegrade.stages.verify import verify

    verify(config, run)


def _train(config: Config, run: RunFolder) -> None:
    from finegrade.stages.train import train

    train(config, run)


def _evaluate(config: Config, run: RunFolder) -> None:
    from finegrade.stages.evaluate import evaluate

    evaluate(config, run)


def _report(config: Config, run: RunFolder) -> None:
    from finegrade.stages.report import write_report

    write_report(config, run)


STAGES: dict[str, Callable[[Config, RunFolder], None]] = {
    "tasks": _tasks,
    "documents": _documents,
    "queries": _queries,
    "seeds": _seeds,
    "synthesize": _synthesize,
    "verify": _verify,
    "train": _train,
    "evaluate": _evaluate,
    "report": _report,
}
"""Each imports what it needs when it runs: the data half works without torch."""

_ENDS = ("verify", "train", "evaluate", "report")


def road(config: Config) -> tuple[str, ...]:
    """The stages that a source takes, in order: where the LLM writes queries and answers, seeds come out of samples."""
    if config.source.is_tasks:
        return ("tasks", "synthesize", "seeds", *_ENDS)
    if config.source.has_documents:
        return ("documents", "queries", "seeds", "synthesize", *_ENDS)
    return ("seeds", "synthesize", *_ENDS)


def run_all(config: Config, run: RunFolder) -> Path:
    """Runs every stage that is not done.

    Returns:
        The path of the report.
    """
    _need_steps(config)
    with run.locked():
        fetch_models(config)
        for name in road(config):
            STAGES[name](config, run)
            if name == "seeds":
                _need_a_batch(config, run)
        return run.path(REPORT)


def run_stage(name: str, config: Config, run: RunFolder) -> None:
    """Runs one stage; those before it must hold with this configuration.

    Args:
        name: The stage's command.
        config: Of the whole run.
        run: Where ``only`` is the same name.

    Raises:
        InputError: The source takes another road.
    """
    stages = road(config)
    if name not in stages:
        wanted = f"one of {', '.join(stages)}"
        remedy = "Change source.kind, or leave this stage out."
        raise InputError(
            f'a source of kind "{config.source.kind}"', got=f"finegrade {name}", wanted=wanted, remedy=remedy
        )
    with run.locked():
        for other in stages[: stages.index(name) + 1]:
            STAGES[other](config, run)
        if name == "verify":
            _say_what_was_found(config, run)


def _say_what_was_found(config: Config, run: RunFolder) -> None:
    """Where there is no report yet, a page of its own says it."""
    from finegrade.stages.report import write_verification_report

    say(f"verify: what it found: {write_verification_report(config, run)}")


def _need_a_batch(config: Config, run: RunFolder) -> None:
    """Too few seeds show before an LLM works for hours, not after."""
    seeds, batch = run.record("seeds")["details"]["counts"]["train"], config.training.batch_size
    if seeds < batch:
        remedy = "Lower training.batch_size, or give more pairs."
        raise InputError("training.batch_size", got=batch, wanted=f"at most the {seeds} train seeds", remedy=remedy)


def _need_steps(config: Config) -> None:
    """Likewise too few steps."""
    steps, levels = config.training.steps, config.synthesis.levels
    if steps < levels and not config.training.schedule.startswith("fixed:"):
        wanted = f"at least one step for each of {levels} levels"
        raise InputError("training.steps", got=steps, wanted=wanted, remedy="Raise it, or lower synthesis.levels.")


def fetch_models(config: Config) -> None:
    """Fetches whatever the run will need, first: what is missing or wrong shows before hours of work, not after."""
    from finegrade.models.resolve import model_path
    from finegrade.models.scorers import load_cross_encoder, load_scorer
    from finegrade.retrieval.mining import load_bi_encoder
    from finegrade.verification.decontamination.benchmarks import check_benchmarks

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
        load_bi_encoder(name)
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
