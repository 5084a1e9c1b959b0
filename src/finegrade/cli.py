"""The command line: parse, call, print."""

import errno
import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from finegrade import __version__
from finegrade.config import Config, load_config
from finegrade.console import say
from finegrade.errors import InputError, no_space
from finegrade.pipeline import demo_config, run_all, run_stage
from finegrade.store import RunFolder

app = typer.Typer(
    name="finegrade",
    help="Better text-embedding models for your own search: graded negatives, verified, trained coarse to fine.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
models_app = typer.Typer(help="The models and data that finegrade can bring along.", no_args_is_help=True)
app.add_typer(models_app, name="models")

ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="The configuration file.")]
RunOption = Annotated[Path, typer.Option("--run", help="The run folder: everything one run makes.")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="section.key=value, wins over the file.")]

_INTERRUPTED = 130  # typer's exit code for Ctrl-C
_FULL_DISK = ("No space left on device", "database or disk is full")  # safetensors and SQLite raise types of their own
DEFAULT_CONFIG, DEFAULT_RUN = Path("finegrade.toml"), Path("runs/run")


@app.callback(invoke_without_command=True)
def _root(version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False) -> None:
    if version:
        typer.echo(f"finegrade {__version__}")
        raise typer.Exit


@app.command()
def demo(run: RunOption = Path("runs/demo"), settings: SetOption = None) -> None:
    """Runs the whole main job on the Python documentation of this machine."""
    _run(demo_config(settings or ()), run)


@app.command(name="run")
def run_command(
    config: ConfigOption = DEFAULT_CONFIG, run: RunOption = DEFAULT_RUN, settings: SetOption = None
) -> None:
    """Runs every stage that is not done: seeds, synthesize, verify, train, evaluate, report."""
    _run(load_config(config, settings or ()), run)


def _run(config: Config, folder: Path) -> None:
    run = RunFolder(folder)
    report = run_all(config, run)
    _print_end(run)
    typer.echo(report)


def _print_end(run: RunFolder) -> None:
    from finegrade.summary import print_summary

    print_summary(run)


def _stage_command(name: str, does: str) -> None:
    def command(
        config: ConfigOption = DEFAULT_CONFIG, run: RunOption = DEFAULT_RUN, settings: SetOption = None
    ) -> None:
        folder = RunFolder(run, only=name)
        run_stage(name, load_config(config, settings or ()), folder)
        if name == "report":
            _print_end(folder)

    app.command(name=name, help=does)(command)


_stage_command("seeds", "Reads the source and splits it into train and test.")
_stage_command("synthesize", "Writes and mines negatives at graded levels.")
_stage_command("verify", "Checks that negatives are negative and levels in order.")
_stage_command("train", "Trains the model, coarse to fine, and its controls.")
_stage_command("evaluate", "Scores every row on the held-out groups.")
_stage_command("report", "Writes report.html.")


@models_app.command(name="list")
def models_list() -> None:
    """Lists the catalogue: what each entry is, its licence, its size, and where it is."""
    from finegrade.catalogue import CATALOGUE, is_complete
    from finegrade.fetching import entry_folder

    for entry in CATALOGUE.values():
        place = str(entry_folder(entry)) if is_complete(entry, entry_folder(entry)) else "not fetched"
        typer.echo(f"{entry.name:20} {entry.size / 1e6:7,.0f} MB  {entry.licence:12} {entry.what}")
        typer.echo(f"{'':20} upstream {entry.upstream}; {place}")


@models_app.command(name="fetch")
def models_fetch(names: Annotated[list[str], typer.Argument(help="Names of entries.")]) -> None:
    """Fetches entries, or checks the hashes of what is there."""
    from finegrade.fetching import fetch

    for name in names:
        say(f"{name}: {fetch(name, check=True)}")


@models_app.command(name="path")
def models_path(name: Annotated[str, typer.Argument(help="Catalogue name, path or Hugging Face id.")]) -> None:
    """Prints where a model lies, fetching it where needed."""
    from finegrade.fetching import model_path

    typer.echo(model_path(name))


def main() -> None:
    """Runs the command line; wrong input is one line and exit code 2, Ctrl-C loses nothing and says so."""
    try:
        app()
    except SystemExit as end:
        if end.code == _INTERRUPTED:
            say("finegrade: stopped; what is done is kept, the same command continues")
        raise
    except Exception as error:
        told = error if isinstance(error, InputError) else _fault_of_the_machine(error)
        if told is None:
            raise
        say(f"finegrade: {told}")
        sys.exit(2)


def _fault_of_the_machine(error: Exception) -> InputError | None:
    """A full disk or a place that cannot be written to, as one line: the user's to mend, not a crash."""
    number = error.errno if isinstance(error, OSError) else None
    place = Path(str(getattr(error, "filename", None) or "the run folder"))
    if number in (errno.ENOSPC, errno.EDQUOT) or any(words in str(error) for words in _FULL_DISK):
        return no_space(place, "space to go on")
    if number in (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EEXIST, errno.EISDIR):
        remedy = "Name another run folder with --run, or mend its permissions."
        return InputError(str(place), got=os.strerror(number), wanted="a place to write", remedy=remedy)
    return None
