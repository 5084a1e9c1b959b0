"""A tiny corpus: words, pairs, documents, seeds."""

import json
import random
from pathlib import Path

from finegrade.records import Seed

WORDS = " ".join(
    (
        "the a of and to in is it for with array matrix value index row column file path read write open close parse",
        "token graph node edge list sort search tree hash key string number date time zone server client socket thread",
        "lock queue image pixel color sound model train test score loss level text query answer",
    )
).split()


def write_pairs(path: Path) -> Path:
    """A JSONL file of 120 pairs in 6 groups, every text different."""
    rows = []
    for i in range(120):
        a, b, c = WORDS[7 + i % 50], WORDS[7 + (i * 7 + i // 50) % 50], WORDS[7 + (i * 13 + 5) % 50]
        query = f"How to {a} the {b} in {c} number {i}?"
        positive = f"To {a} the {b} you take item {i} of the {c} and call it with the {b} as its value. So it ends."
        rows.append({"query": query, "positive": positive, "group": f"group{i % 6}"})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


THINGS = ("matrix", "index", "column", "file", "token", "graph", "list", "tree", "string", "date")


VERBS = ("open", "close", "sort", "search", "read", "write")


def made_seeds():
    seeds = []
    for number, (thing, verb) in enumerate((thing, verb) for thing in THINGS for verb in VERBS):
        query = f"How to {verb} the {thing} of a train?"
        positive = f"You {verb} it with the call that is named after the {thing}, once a train is there."
        seeds.append(Seed(id=str(number), query=query, positives=(positive,), group=f"group{number % 3}"))
    return seeds


VOCABULARY = [*WORDS, *(f"{word}{i}" for word in WORDS for i in range(8))]


FOOTER = "Copyright the example company, all rights reserved."


def sentence(generator: random.Random, length: int = 14) -> str:
    return " ".join(generator.choices(VOCABULARY, k=length)).capitalize() + "."


def write_documents(folder: Path, number: int, sections: int = 3, seed: int = 0) -> Path:
    """Markdown files with sections of prose, each with the same footer."""
    generator = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(number):
        parts = [f"# Title {i} {generator.choice(WORDS)}"]
        for j in range(sections):
            parts += [f"## Section {j} {generator.choice(WORDS)}", " ".join(sentence(generator) for _ in range(4))]
        (folder / f"doc{i:03}.md").write_text("\n\n".join([*parts, FOOTER]), encoding="utf-8")
    return folder


TEXTS = [
    f"Part {i} of the manual tells how the valve number {i} is opened, closed and cleaned in order." for i in range(6)
]


def beir(folder: Path, *splits: str) -> Path:
    (folder / "qrels").mkdir(parents=True)
    corpus = [{"_id": f"d{i}", "title": f"Valve {i}", "text": text} for i, text in enumerate(TEXTS)]
    (folder / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
    rows = [{"_id": f"q{i}", "text": f"query {i}"} for i in range(6)]
    (folder / "queries.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    for number, split in enumerate(splits):
        lines = ["query-id\tcorpus-id\tscore", f"q{number}\td{number}\t1", f"q{number}\td{number + 3}\t0"]
        (folder / "qrels" / f"{split}.tsv").write_text("\n".join(lines) + "\n")
    return folder


QUERY = "At which pressure does the relief valve of the boiler open?"


POSITIVE = (
    "The relief valve on the boiler opens at three bar. It closes again once the gauge has fallen below two bar, and "
    "the pump starts ten seconds later."
)


NEGATIVE = (
    "The bypass flap on the heater turns at forty degrees. It shuts again once the probe has cooled under thirty "
    "degrees, and the fan stops two minutes later."
)


GERMAN = (
    "Das Überdruckventil am Kessel öffnet sich bei drei Bar. Es schließt sich wieder, sobald der Druck unter zwei Bar "
    "gefallen ist, und die Pumpe läuft zehn Sekunden später an."
)
