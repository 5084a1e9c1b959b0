"""Runs stages in forked processes and kills them: imports cost seconds, a fork costs none.

Reads one JSON object a line: config (as JSON), run, stage (or "given": data.jsonl beside the run, verified to
out.jsonl), kill_after (seconds, or null), grown (null, or a file and a size: the seconds count from when it is so
large). Answers with one line: how the process ended ("killed", or its exit code) and after how many seconds.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

import finegrade.stages.documents
import finegrade.stages.evaluate  # every stage's own imports, before the fork
import finegrade.stages.queries
import finegrade.stages.report
import finegrade.stages.seeds
import finegrade.stages.synthesize
import finegrade.stages.tasks
import finegrade.stages.train
import finegrade.stages.verify
from finegrade.cli.verify_input import verify_external
from finegrade.config import Config
from finegrade.stages.pipeline import run_stage
from finegrade.storage.run_folder import RunFolder

finegrade.stages.verify.SAMPLES_A_PART = 3  # so that kills fall between parts, too


def work(command: dict) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    config, run = Config.model_validate_json(command["config"]), Path(command["run"])
    if command["stage"] == "given":
        verify_external(
            run.with_name("data.jsonl"), run.with_name("out.jsonl"), config, run, lambda folder, ahead: None
        )
    else:
        run_stage(command["stage"], config, RunFolder(run))


def main() -> None:
    for line in sys.stdin:
        command = json.loads(line)
        began = time.monotonic()
        child = os.fork()
        if child == 0:
            try:
                work(command)
            except BaseException as error:
                print(repr(error), file=sys.stderr)
                os._exit(1)
            os._exit(0)
        print(json.dumps(watch(child, began, command["kill_after"], command["grown"])), flush=True)


def watch(child: int, began: float, kill_after: float | None, grown: list | None) -> dict:
    """Waits for the child's end, or kills it at its time."""
    since = began
    while True:
        ended, status = os.waitpid(child, os.WNOHANG)
        spent = time.monotonic() - began
        if ended:
            return {"end": os.waitstatus_to_exitcode(status), "seconds": spent}
        if grown and Path(grown[0]).stat().st_size >= grown[1]:
            since, grown = time.monotonic(), None
        if kill_after is not None and not grown and time.monotonic() - since >= kill_after:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
            return {"end": "killed", "seconds": spent}
        time.sleep(0.001)


main()
