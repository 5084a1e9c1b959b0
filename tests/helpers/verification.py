"""A scorer that counts shared words, and samples for it."""

import json

import pytest

from finegrade.records import Negative, Sample
from finegrade.verification.verifier import Verifier

OWN = {"answer": 10.0, "far": 1.0, "near": 5.0, "nearer": 6.0, "same": 9.9, "weak": 0.0, "better": 12.0}
"""A text's score for its own query, by what it begins with; 0 for other queries, and 1 for a sibling query."""


class Words:
    """A scorer that goes by the first word and the number behind it; counts what it is asked."""

    def __init__(self):
        self.asked = []

    def scores(self, pairs):
        for query, text in pairs:
            self.asked.append((query, text))
            kind, number = text.split()[:2]
            yield OWN[kind] if query == f"query {number}" else 11.0 if query.startswith("sibling") else 0.0


def sample(number, *negatives, positive="answer"):
    """A sample from (kind, level) or (kind, level, source) or (kind, level, source, sibling)."""
    made = tuple(
        Negative(
            text=f"{kind} {number} text", level=level, source=(*source, "mined")[0], sibling=(*source, None, None)[1]
        )
        for kind, level, *source in negatives
    )
    return Sample(
        id=str(number), query=f"query {number}", positive=f"{positive} {number}", negatives=made, group=str(number)
    )


@pytest.fixture
def made(monkeypatch):
    """The sizes of the parts that are made."""
    sizes, verify = [], Verifier.verify
    monkeypatch.setattr(
        Verifier, "verify", lambda self, some, advance: (sizes.append(len(some)), verify(self, some, advance))[1]
    )
    return sizes


ROWS = [(f"query {i}", f"answer {i}", [f"far {i} text", f"near {i} text"]) for i in range(10)]


def flag_embedding(path, rows):
    path.write_text("".join(json.dumps({"query": q, "pos": [p], "neg": n}) + "\n" for q, p, n in rows))
    return path
