"""The hand-checked texts that benchmarks/verification.py and levels.py measure on are what they say."""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

DATA = Path(__file__).parents[1] / "benchmarks" / "data"
HAND_CHECKED = ("verification.txt", "verification_second.txt")


def lines(name):
    """(mark, text) of each line: q, +, then a false negative (=s, =p) and a near miss (x1, x2)."""
    written = (DATA / name).read_text(encoding="utf-8").splitlines()
    return [tuple(line.split(": ", 1)) for line in written if line and not line.startswith("#")]


@pytest.mark.parametrize("name", HAND_CHECKED)
def test_a_hundred_of_each_class_in_blocks_of_four(name):
    marks = "".join(mark[0] for mark, _ in lines(name))
    assert re.fullmatch(r"(q\+=x)+", marks)
    counts = Counter(mark for mark, _ in lines(name))
    assert counts["=s"] + counts["=p"] >= 100
    assert counts["x1"] + counts["x2"] >= 100
    assert min(counts[kind] for kind in ("=s", "=p", "x1", "x2")) >= 25


def test_what_is_reported_on_shares_no_text_with_what_is_chosen_on():
    chosen, reported = ({text.casefold() for _, text in lines(name)} for name in HAND_CHECKED)
    assert len(chosen) == len(lines(HAND_CHECKED[0]))
    assert len(reported) == len(lines(HAND_CHECKED[1]))
    assert not chosen & reported


def test_two_hundred_samples_have_a_text_a_level():
    rows = [json.loads(line) for line in (DATA / "graded.jsonl").read_text(encoding="utf-8").splitlines()]
    assert len(rows) >= 200
    for row in rows:
        texts = [row["positive"], *(row[f"level_{level}"] for level in range(1, 5))]
        assert all(text.strip() for text in (row["query"], *texts))
        assert len(set(texts)) == 5
