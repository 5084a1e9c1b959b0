"""The command line: parse, call, print."""

import errno
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from finegrade.config import Config
from finegrade.config.toml import load_config, plain_config
from finegrade.console import say
from finegrade.data.formats.base import DEPTH
from finegrade.errors import CheckFailedError, InputError, is_disk_full, no_space, unreadable
from finegrade.machine import VERSION
from finegrade.report.summary import print_summary
from finegrade.stages.pipeline import STAGES, StageDeclaration, demo_config, run_all, run_stage
from finegrade.storage.run_folder import RunFolder

if TYPE_CHECKING:
    from finegrade.cli.estimate import Estimate

app = typer.Typer(
    name="finegrade",
    help="Better text-embedding models for your own search: graded negatives, verified, trained coarse to fine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(help="The embedded models and data.", no_args_is_help=True)
app.add_typer(models_app, name="models")

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
RunOption = Annotated[Path, typer.Option("--run", help="The run folder, which holds everything that a run makes.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Allow texts to go to the remote LLM of the configuration.")]
ForceOption = Annotated[bool, typer.Option("--force", help="Go on where a model does not speak the texts' language.")]
_ENGINE = "ray: ask the LLM from all machines of a Ray cluster; plain: from this one."
SetOption = Annotated[list[str] | None, typer.Option("--set", help="section.key=value; wins over the file.")]
ModelOption = Annotated[Path, typer.Option(help="A model that finegrade trained.")]

_INTERRUPTED = 130  # typer's exit code for Ctrl-C
DEFAULT_CONFIG, DEFAULT_RUN = Path("finegrade.toml"), Path("runs/run")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"finegrade {VERSION}")
        raise typer.Exit


@app.command()
def demo(run: RunOption = Path("runs/demo"), settings: SetOption = None) -> None:
    """Runs all stages on the Python documentation of this machine."""
    _run(demo_config(settings or ()), run)


@app.command(name="run")
def run_command(
    config: ConfigOption = DEFAULT_CONFIG,
    run: RunOption = DEFAULT_RUN,
    settings: SetOption = None,
    yes: YesOption = False,
    force: ForceOption = False,
    engine: Annotated[str | None, typer.Option(help=_ENGINE)] = None,
    preview: Annotated[int, typer.Option(min=0, help="Show this many samples first, and stop.")] = 0,
) -> None:
    """Runs every stage that is not done, from documents or pairs to the report."""
    checked = load_config(config, _overrides(settings, force, engine))
    if preview:
        from finegrade.cli.preview import show_preview

        folder = RunFolder(run)
        _need_consent(checked, folder, yes)
        show_preview(checked, folder, preview)
    else:
        _run(checked, run, yes)


def _overrides(settings: list[str] | None, force: bool, engine: str | None = None) -> list[str]:
    named = [f"synthesis.engine={engine}"] if engine else []
    return [*(settings or ()), *(["source.language=any"] if force else []), *named]


def _need_consent(config: Config, run: RunFolder, yes: bool, ahead: "Estimate | None" = None) -> None:
    from finegrade.cli.estimate import need_consent

    need_consent(config, run, yes, typer.confirm if sys.stdin.isatty() else None, ahead)


def _run(config: Config, folder: Path, yes: bool = False) -> None:
    run = RunFolder(folder)
    _need_consent(config, run, yes)
    report = run_all(config, run)
    print_summary(run)
    typer.echo(report)


def _run_stage(name: str, config: Config, folder: Path, yes: bool) -> None:
    run = RunFolder(folder, only=name)
    if name in ("tasks", "queries", "synthesize") or (name == "verify" and config.verification.asks_llm):
        _need_consent(config, run, yes)
    run_stage(name, config, run)
    if name == "report":
        print_summary(run)


@app.command(name="anchors")
def anchors_command(
    texts: Annotated[list[str] | None, typer.Argument(help="A text; or two, to compare side by side.")] = None,
    model: ModelOption = DEFAULT_RUN / "model",
    file: Annotated[list[Path] | None, typer.Option(help="Files, each with one text.")] = None,
    html: Annotated[Path | None, typer.Option(help="Also write a page.")] = None,
) -> None:
    """Shows which tokens carry a text's vector."""
    from finegrade.cli.anchors import show_anchors

    show_anchors(texts or (), file or (), model, html)


@app.command(name="export")
def export_command(
    onnx: Annotated[bool, typer.Option("--onnx", help="One ONNX graph: encoder, pooling, unit length.")] = False,
    pooling: Annotated[str | None, typer.Option(help="mean: a student for servers with mean pooling only.")] = None,
    model: ModelOption = DEFAULT_RUN / "model",
    output: Annotated[Path | None, typer.Option(help="The folder to write; beside the model by default.")] = None,
    texts: Annotated[
        Path | None, typer.Option(help="A file of texts that the student learns from; the run's texts by default.")
    ] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Training steps of the student; 100 by default.")] = None,
    data: Annotated[
        bool, typer.Option("--data", help="The samples, as files for sentence-transformers and FlagEmbedding.")
    ] = False,
    run: Annotated[Path, typer.Option("--run", help="With --data: the run folder.")] = DEFAULT_RUN,
) -> None:
    """Writes the model for other servers (--onnx, or --pooling mean), or the samples for other tools (--data)."""
    if onnx + data + (pooling is not None) != 1 or pooling not in (None, "mean"):
        got = f"--pooling {pooling}" if pooling not in (None, "mean") else "several" if onnx + data else "none"
        remedy = "Each writes a folder of its own."
        raise InputError("finegrade export", got=got, wanted="--onnx, --data or --pooling mean", remedy=remedy)
    if pooling is None and (texts or steps):
        remedy = "Leave them out: only a student learns."
        raise InputError("finegrade export", got="--texts or --steps", wanted="neither", remedy=remedy)
    if data:
        from finegrade.export.data import export_data

        export_data(run, output)
    elif onnx:
        from finegrade.export.onnx import export_onnx

        export_onnx(model, output)
    else:
        from finegrade.export.student import STEPS, distil

        distil(model, texts, output, steps or STEPS)


@app.command(name="init")
def init(
    path: Annotated[Path, typer.Argument(help="A folder or file of documents, a BEIR folder, or pairs in JSONL.")],
    minutes: Annotated[float, typer.Option(min=5, help="Minutes that a run may take, on two cores.")] = 30,
    output: Annotated[Path, typer.Option("--output", "-o", help="The configuration to write.")] = DEFAULT_CONFIG,
    queries: Annotated[Path | None, typer.Option(help="Your own queries, JSONL.")] = None,
    settings: SetOption = None,
) -> None:
    """Looks at your data and writes a configuration that keeps to the minutes, and to llm.max_cost if you set it."""
    from finegrade.cli.init import write_config

    write_config(path, minutes, output, queries, settings or ())


@app.command(name="estimate")
def estimate_command(config: ConfigOption = DEFAULT_CONFIG, settings: SetOption = None) -> None:
    """Estimates requests, tokens, minutes and money of a run. Nothing is sent, nothing is spent."""
    from finegrade.cli.estimate import told_estimate

    typer.echo(told_estimate(load_config(config, settings or ())))


def _add_stage_command(stage: StageDeclaration) -> None:
    def command(
        config: ConfigOption = DEFAULT_CONFIG,
        run: RunOption = DEFAULT_RUN,
        settings: SetOption = None,
        yes: YesOption = False,
        force: ForceOption = False,
        engine: Annotated[str | None, typer.Option(help=_ENGINE, hidden=stage.name != "synthesize")] = None,
    ) -> None:
        if engine and stage.name != "synthesize":
            remedy = "Leave it out: only synthesize has engines."
            raise InputError("--engine", got=f"it for {stage.name}", wanted="it for synthesize", remedy=remedy)
        _run_stage(stage.name, load_config(config, _overrides(settings, force, engine)), run, yes)

    reads = f"Reads the results of {', '.join(stage.reads)}. " if stage.reads else ""
    app.command(name=stage.name, help=f"{stage.summary}\n\n{reads}Writes {', '.join(stage.writes)}.")(command)


def verify_command(
    config: ConfigOption = DEFAULT_CONFIG,
    run: Annotated[
        Path | None, typer.Option("--run", help="The run folder: runs/run, or with --input one for each data file.")
    ] = None,
    settings: SetOption = None,
    yes: YesOption = False,
    force: ForceOption = False,
    data: Annotated[
        Path | None, typer.Option("--input", help="External training data, in place of a run's samples.")
    ] = None,
    output: Annotated[
        Path | None, typer.Option(help="With --input: the file to write; NAME.verified beside the data by default.")
    ] = None,
    depth: Annotated[
        int | None, typer.Option(min=1, max=1_000, help=f"Of a BEIR run: documents of a query to check; {DEPTH}.")
    ] = None,
) -> None:
    """Checks that negatives are negative and levels in order: of a run, or of any training data (--input).

    Data: columns as sentence-transformers has them (.parquet .jsonl .csv .tsv), FlagEmbedding's JSONL, or a run over a
    BEIR folder. It is written back in the same format. A finegrade.toml is used if there is one.
    """
    if data is None:
        for name, value in (("--output", output), ("--depth", depth)):
            if value is not None:
                remedy = "Leave it out, or name the data with --input."
                raise InputError(name, got=value, wanted="--input beside it", remedy=remedy)
        _run_stage("verify", load_config(config, _overrides(settings, force)), run or DEFAULT_RUN, yes)
        return
    if force:
        remedy = "Leave it out: the language of external data is not checked."
        raise InputError("--force", got="it beside --input", wanted="one of them", remedy=remedy)
    from finegrade.cli.verify_input import verify_external

    has_file = config.exists() or config != DEFAULT_CONFIG
    checked = load_config(config, settings or ()) if has_file else plain_config(settings or ())
    verify_external(data, output, checked, run, lambda folder, ahead: _need_consent(checked, folder, yes, ahead), depth)


for _stage in STAGES.values():
    if _stage.name == "verify":
        app.command(name="verify")(verify_command)
    else:
        _add_stage_command(_stage)


@models_app.command(name="list")
def models_list() -> None:
    """Lists the catalogue: name, size, licence, contents, origin and path of each entry."""
    from finegrade.models.catalogue import CATALOGUE
    from finegrade.models.resolve import entry_folder

    for entry in CATALOGUE.values():
        path = str(entry_folder(entry)) if entry.is_complete(entry_folder(entry)) else "not fetched"
        typer.echo(f"{entry.name:20} {entry.size / 1e6:7,.0f} MB  {entry.licence:12} {entry.what}")
        typer.echo(f"{'':20} upstream {entry.upstream}; {path}")


@models_app.command(name="fetch")
def models_fetch(names: Annotated[list[str], typer.Argument(help="Names of entries.")]) -> None:
    """Fetches entries, and checks the hashes of those that are there."""
    from finegrade.models.resolve import fetch

    for name in names:
        say(f"{name}: {fetch(name, check=True)}")


@models_app.command(name="path")
def models_path(name: Annotated[str, typer.Argument(help="Catalogue name, path or Hugging Face id.")]) -> None:
    """Prints the path of a model; fetches it first where needed."""
    from finegrade.models.resolve import model_path

    typer.echo(model_path(name))


def main() -> None:
    """Runs the command line. Wrong input is one line and exit code 2; Ctrl-C loses no finished work and says so."""
    try:
        app()
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            say("finegrade: stopped; what is done is kept, the same command continues")
        raise
    except CheckFailedError as error:
        say(f"finegrade: {error}")
        sys.exit(1)
    except Exception as error:
        known = error if isinstance(error, InputError) else _system_error(error)
        if known is None:
            raise
        say(f"finegrade: {known}")
        sys.exit(2)


def _system_error(error: Exception) -> InputError | None:
    """A full disk or a path that cannot be written, as one line: the user can mend it, it is no crash."""
    number = error.errno if isinstance(error, OSError) else None
    path = Path(str(getattr(error, "filename", None) or "the run folder"))
    if is_disk_full(error):
        return no_space(path, "space to go on")
    if number == errno.ENOENT:
        remedy = "Check --run and --output; where a file of a run is gone, run the stage that makes it again."
        return unreadable(path, error, "a file or folder there", remedy)
    if number in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        remedy = "Name another path with --run or --output, or correct its permissions."
        return unreadable(path, error, "a path to write to", remedy)
    return None
