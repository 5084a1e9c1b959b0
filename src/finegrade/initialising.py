"""``finegrade init``: looks at the user's data and writes a short configuration for it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from finegrade.config.toml import apply_setting, as_toml, parse_config
from finegrade.console import say
from finegrade.data.user_queries import read_own_queries
from finegrade.errors import InputError
from finegrade.estimating import told_money
from finegrade.fitting import expected, fits, fitted
from finegrade.sources.looking import look_at
from finegrade.storage.atomic import replacing


def write_config(
    path: Path, minutes: float, output: Path, queries: Path | None = None, settings: Sequence[str] = ()
) -> None:
    """Writes a configuration, and says what was found and what the run will take.

    Args:
        path: The data.
        minutes: What a run may take on two cores.
        output: The file to write; one that is there is not touched.
        queries: The user's own queries.
        settings: "section.key=value" strings that are the user's choice. With a remote LLM the run is fitted to its
            cap, too.

    Raises:
        InputError: There is nothing to read, a setting is wrong, or the output is there already.
    """
    if output.exists():
        remedy = "Remove it, or name another with --output."
        raise InputError(str(output), got="a file that is there already", wanted="a new file", remedy=remedy)
    found = look_at(path, _source_settings(path, settings))
    config = fitted(found, path, minutes, queries, settings)
    read_own_queries(config.source)  # what is wrong with them shows here, not after an hour
    told = f"Fitted to {minutes:.0f} minutes on two cores"
    if config.llm.max_cost is not None:
        told += f" and {config.llm.max_cost} for the LLM"
    head = f"{found.told}.\n{told}. `finegrade estimate` tells what each change makes of that."
    text = as_toml(config, head, output.parent)
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as temporary:
        temporary.write_text(text, encoding="utf-8")
    run = expected(config, found)
    taken = sum(run.minutes.values())
    say(f"{path}: {found.told}")
    say(f"{output}: written; a run will take about {taken:.0f} minutes on two cores; {told_money(run.cost)}")
    say(f"Look at it, then: finegrade run -c {output}")
    if not fits(config, run, minutes, share=1.0):
        say("That is more than the minutes or the cap you named: less is not worth a run.")
    if any(language != "en" for language in found.spoken):
        say(f"Languages: {', '.join(found.spoken)}. The embedded models speak English: see the comments in {output}.")


def _source_settings(path: Path, settings: Sequence[str]) -> dict[str, Any]:
    """What the settings say of the source, checked."""
    data: dict[str, Any] = {"source": {"path": str(path)}}
    for setting in settings:
        apply_setting(data, setting)
    source = parse_config(data, "init").source
    return source.model_dump(include=source.model_fields_set - {"path"})
