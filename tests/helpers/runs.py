"""Run folders, configurations and replies for the tests of several stages."""

import json
import re
from pathlib import Path

from finegrade.records import Negative, Sample
from finegrade.storage.run_folder import SAMPLES, VERIFIED, RunFolder
from finegrade.storage.tables import write_rows
from helpers.corpus import WORDS
from helpers.fake_llm import FakeLLM


def text(number: int, *salt: str) -> str:
    return " ".join([*salt, *(WORDS[(number * factor + 3) % len(WORDS)] for factor in (1, 3, 7, 11, 17))])


def make_samples() -> list[Sample]:
    return [
        Sample(
            id=str(i),
            query=text(i, "query", *("to" for _ in range(i // 20))),
            positive=text(i, "answer", *("the" for _ in range(i // 20))),
            negatives=tuple(
                Negative(text=text(i + 5 * level, "level", f"{i} {level}"), level=level, source="mined")
                for level in range(1, 5)
            ),
            group="g",
        )
        for i in range(48)
    ]


def make_run(folder: Path) -> RunFolder:
    """A run folder as verify leaves it."""
    run = RunFolder(folder)
    for stage_name, file in (("synthesize", SAMPLES), ("verify", VERIFIED)):
        with run.stage(stage_name, {}) as stage:
            write_rows(run.path(file), make_samples(), Sample)
            stage.finish([run.path(file)], {})
    return run


PARTS = re.compile(r"How to (\w+) the (\w+) in (\w+) number (\d+)\?$")


def asked_for(body) -> str:
    return body["messages"][-1]["content"]


def rewrite(body):
    """Answers as a good LLM would; one request in five badly: of the first six asked for, two."""
    prompt = asked_for(body)
    a, b, c, i = PARTS.search(prompt).groups()
    if int(i) % 5 == 4:
        return FakeLLM.reply("Sure! Here is a passage.")
    passage = (
        f"To {a} the {b} you take item {i} of the {c} and call it with the {b} as its value. Then it is quite done."
    )
    return FakeLLM.reply(json.dumps({"passage": passage}))
