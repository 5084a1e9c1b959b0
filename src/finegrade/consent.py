"""Before the first text leaves this machine: who gets it, how much, what it costs, and a yes."""

from collections.abc import Callable
from typing import Any

from finegrade.config import Config, LLMConfig
from finegrade.console import say
from finegrade.errors import InputError
from finegrade.estimating import Estimate, estimate, told_money
from finegrade.storage.atomic import read_json, write_json
from finegrade.storage.run_folder import CONSENT, RunFolder


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
