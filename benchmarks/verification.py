"""Faults that are planted, and how many of them verification finds, with each scorer and with the default.

    python benchmarks/verification.py [--judges reranker-en bge-small-en all-minilm-l6-v2 two three llm default]

The faults, each beside texts of its kind that are right:
- false negatives: the positive in other words (benchmarks/data/verification.txt, 110 read and labelled; the head of the
  file says how they were made), beside 110 near misses, which look right and are not;
- false negatives of STS-B: pairs of sentences scored 4.5 or more, beside pairs scored 1 to 2.5. The query is made of
  the words of content that both have;
- swapped levels: another query's answer above the near miss, beside samples in order, where both negatives stay;
- off-topic positives: the positive of another query, beside the right ones;
- duplicates: the positive, or a harder negative, with other signs and case, beside near misses.

For false negatives a scorer's margin is chosen on every second case (the smallest that catches 85 % of those of the
file there), that of the LLM alone so that it keeps 65 % of the near misses there; otherwise it is the default, what
holds where finegrade.toml says nothing. Everything is reported on the other cases, with 95 % bootstrap intervals over
the cases.
"""

import argparse
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finegrade.config import LLMConfig, VerificationConfig
from finegrade.evaluation.sts import load_stsb
from finegrade.llm_judge import LlmJudge
from finegrade.panel import Panel
from finegrade.records import Negative, Sample, Source
from finegrade.score_book import ScoreBook
from finegrade.text import content_words, words
from finegrade.verifier import Judged, Verifier

FILE = Path(__file__).parent / "data" / "verification.txt"
WANTED, KEPT, RESAMPLES, LEVELS = 0.85, 0.65, 2_000, 4
MARGINS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.075, *(i / 20 for i in range(2, 20)), 1.0)
JUDGES: dict[str, dict[str, object]] = {
    **{
        name: {"scorer": name, "committee": (), "second_opinion": ()}
        for name in ("reranker-en", "bge-small-en", "all-minilm-l6-v2")
    },
    "two": {"scorer": "reranker-en", "committee": ("bge-small-en",), "second_opinion": ()},
    "three": {"scorer": "reranker-en", "committee": ("bge-small-en", "all-minilm-l6-v2"), "second_opinion": ()},
    "llm": {"doubt_written": 1_000.0},
    "default": {},
}
"""What finegrade.toml would say. "llm": the LLM alone decides on texts that an LLM wrote, wherever they score."""


@dataclass(frozen=True)
class Block:
    """A query with its positive, and a negative of each class."""

    query: str
    positive: str
    false: str
    false_kind: str
    near_miss: str
    near_miss_kind: str


@dataclass(frozen=True)
class Case:
    """A sample, and whether a fault was planted in it.

    Attributes:
        place: Of what it was made from; the even ones are for choosing.
    """

    sample: Sample
    kind: str
    is_fault: bool
    place: int


Found = Callable[[Sample, Judged], bool | None]
"""Whether something was found in a sample; None: the sample does not count."""


def read_blocks(path: Path = FILE) -> list[Block]:
    """All blocks of the file."""
    parts = [part.splitlines() for part in path.read_text(encoding="utf-8").split("\n\n") if part.startswith("q: ")]
    found = []
    for part in parts:
        (_, query), (_, positive), (false_kind, false), (near_miss_kind, near_miss) = (
            line.split(": ", 1) for line in part
        )
        found.append(Block(query, positive, false, false_kind, near_miss, near_miss_kind))
    return found


def made_sample(name: str, query: str, positive: str, *negatives: tuple[str, int], source: Source = "mined") -> Sample:
    """A sample with negatives (text, level)."""
    made = tuple(Negative(text=text, level=level, source=source) for text, level in negatives)
    return Sample(id=name, query=query, positive=positive, negatives=made, group=name)


def rewritten(blocks: Sequence[Block]) -> list[Case]:
    """The positive in other words, and near misses."""
    kinds = {"=s": "synonyms", "=p": "said anew", "x1": "one word turned", "x2": "another aspect"}
    cases = []
    for i, block in enumerate(blocks):
        for text, kind in ((block.false, block.false_kind), (block.near_miss, block.near_miss_kind)):
            sample = made_sample(f"{i}{kind}", block.query, block.positive, (text, LEVELS), source="llm")
            cases.append(Case(sample, kinds[kind], kind.startswith("="), i))
    return cases


def of_stsb(number: int = 60) -> list[Case]:
    """Sentences that mean the same, and sentences that do not."""
    data = load_stsb("sts-b")
    cases: list[Case] = []
    for kind, low, high in (("scored 4.5 to 5", 4.5, 5.0), ("scored 1 to 2.5", 1.0, 2.5)):
        made = []
        for i, (left, right, score) in enumerate(zip(*data, strict=True)):
            shared = [word for word in words(left) if word in content_words(left) & content_words(right)]
            if low <= score <= high and len(shared) >= 2 and words(left) != words(right):
                made.append(made_sample(f"sts{i}", " ".join(shared), left, (right, LEVELS), source="llm"))
        drawn = random.Random(0).sample(made, number)
        cases += [Case(sample, kind, low >= 4.5, place) for place, sample in enumerate(drawn)]
    return cases


def swapped(blocks: Sequence[Block]) -> list[Case]:
    """Another query's answer and the near miss, in order and exchanged."""
    dice, cases = random.Random(0), []
    for i, block in enumerate(blocks):
        texts = [dice.choice([one.positive for one in blocks if one is not block]), block.near_miss]
        for kind, order in (("in order", texts), ("swapped", texts[::-1])):
            sample = made_sample(f"{i}{kind}", block.query, block.positive, *zip(order, (1, LEVELS), strict=True))
            cases.append(Case(sample, kind, kind == "swapped", i))
    return cases


def off_topic(blocks: Sequence[Block]) -> list[Case]:
    """The right positive, and one of another query."""
    dice, cases = random.Random(0), []
    for i, block in enumerate(blocks):
        other = dice.choice([one for one in blocks if one is not block])
        for kind, positive in (("own positive", block.positive), ("another's positive", other.positive)):
            sample = made_sample(f"{i}{kind}", block.query, positive, (block.near_miss, LEVELS))
            cases.append(Case(sample, kind, positive != block.positive, i))
    return cases


def duplicates(blocks: Sequence[Block]) -> list[Case]:
    """Copies of the positive and of a harder negative with other signs and case; near misses beside a random text."""
    cases = []
    for i, block in enumerate(blocks):
        other = blocks[i - 1].positive
        copies = {
            "the positive": [(block.positive.upper().replace(".", " !"), LEVELS)],
            "a harder negative": [(other, LEVELS), (f"- {other.lower()}", 2)],
            "near miss": [(block.near_miss, LEVELS), (other, 2)],
        }
        for kind, negatives in copies.items():
            sample = made_sample(f"{i}{kind}", block.query, block.positive, *negatives)
            cases.append(Case(sample, kind, kind != "near miss", i))
    return cases


def is_gone(sample: Sample, judged: Judged) -> bool:
    """Whether the negative was dropped or promoted."""
    return any(v.level_after is None for v in judged.verdicts if v.sample == sample.id)


def is_reordered(sample: Sample, judged: Judged) -> bool | None:
    """Whether the levels were changed; a sample that lost one of the two negatives has no order."""
    own = [v for v in judged.verdicts if v.sample == sample.id]
    both = len(own) == 2 and all(v.level_after for v in own)
    return any(v.decision == "regraded" for v in own) if both else None


def is_left_out(sample: Sample, judged: Judged) -> bool:
    """Whether the sample was left out."""
    return any(row.sample == sample.id for row in judged.left_out)


def is_duplicate(sample: Sample, judged: Judged) -> bool:
    """Whether a negative went as one that is there already."""
    own = [v for v in judged.verdicts if v.sample == sample.id]
    return any(v.reason in ("is the positive", "repeats a harder negative") for v in own)


class Remembering:
    """A judge that is asked about a pair once, whatever the margin."""

    def __init__(self, judge: LlmJudge) -> None:
        self._judge, self._answers = judge, {}
        self._known: dict[tuple[str, ...], tuple[float, str]] = {}

    def know(self, answers: Mapping[str, Sequence[str]]) -> None:
        """See `Judge`."""
        self._answers = answers
        self._judge.know(answers)

    def scores(self, pairs: Sequence[tuple[str, str]]) -> Iterator[float]:
        """See `Judge`."""
        fresh = [pair for pair in pairs if self._key(pair) not in self._known]
        for pair, score in zip(fresh, self._judge.scores(fresh), strict=True):
            self._known[self._key(pair)] = score, self._judge.reason(pair)
        yield from (self._known[self._key(pair)][0] for pair in pairs)

    def reason(self, pair: tuple[str, str]) -> str:
        """See `Judge`."""
        return self._known[self._key(pair)][1]

    def _key(self, pair: tuple[str, str]) -> tuple[str, ...]:
        return (*pair, *self._answers.get(pair[0], ()))


class Bench:
    """Asks the judges; scores and grades are kept, so that other margins cost nothing.

    Args:
        blocks: What scorers are calibrated on.
        book: Of their scores.
        judge: What the LLM is.
    """

    def __init__(self, blocks: Sequence[Block], book: ScoreBook, judge: LlmJudge) -> None:
        self._drawn = [made_sample(str(i), block.query, block.positive) for i, block in enumerate(blocks)]
        self._book, remembering = book, Remembering(judge)
        self._judge = lambda: remembering
        self._panels: dict[str, Panel] = {}

    def judged(self, name: str, cases: Sequence[Case], **rules: object) -> Judged:
        """What is decided on the cases."""
        config = VerificationConfig.model_validate(JUDGES[name] | rules)
        if name not in self._panels:
            self._panels[name] = Panel(config, self._drawn, self._book, self._judge, 0)
        panel = self._panels[name]
        second = (lambda: panel.second) if config.second_opinion else None
        verifier = Verifier(config, LEVELS, panel.first, second)
        return verifier.judge([case.sample for case in cases])


def share(hits: NDArray[np.bool_]) -> str:
    """A share with its 95 % interval."""
    if not len(hits):
        return "–"
    draws = np.random.default_rng(0).integers(0, len(hits), (RESAMPLES, len(hits)))
    low, high = np.quantile(hits[draws].mean(axis=1), [0.025, 0.975])
    return f"{hits.mean():.2f} [{low:.2f}, {high:.2f}]"


def hits(bench: Bench, name: str, cases: Sequence[Case], found: Found, **rules: object) -> list[tuple[Case, bool]]:
    """The cases that count, each with whether something was found."""
    judged = bench.judged(name, cases, **rules)
    told = ((case, found(case.sample, judged)) for case in cases)
    return [(case, hit) for case, hit in told if hit is not None]


def margin_for(bench: Bench, name: str, cases: Sequence[Case]) -> float:
    """The smallest margin that catches so many of the false negatives as are wanted."""
    false = [case for case in cases if case.is_fault]
    for margin in MARGINS:
        if np.mean([hit for _, hit in hits(bench, name, false, is_gone, margin=margin)]) >= WANTED:
            return margin
    return MARGINS[-1]


def judge_margin_for(bench: Bench, cases: Sequence[Case]) -> float:
    """The largest margin of the LLM that keeps so many of the near misses as are wanted."""
    near_misses = [case for case in cases if not case.is_fault]
    for margin in reversed(MARGINS):
        if np.mean([not hit for _, hit in hits(bench, "llm", near_misses, is_gone, judge_margin=margin)]) >= KEPT:
            return margin
    return MARGINS[0]


def half(cases: Sequence[Case], which: int) -> list[Case]:
    """0: what is chosen on; 1: what is reported."""
    return [case for case in cases if case.place % 2 == which]


def row(bench: Bench, name: str, cases: Sequence[Case], found: Found, rules: dict[str, object]) -> str:
    """Detection, false alarms, share kept, and the share of each kind in which something was found."""
    told = hits(bench, name, cases, found, **rules)
    faults, others = (
        np.array([hit for case, hit in told if case.is_fault == side], dtype=bool) for side in (True, False)
    )
    kinds = {
        kind: [hit for case, hit in told if case.kind == kind] for kind in dict.fromkeys(case.kind for case, _ in told)
    }
    by_kind = ", ".join(f"{kind} {np.mean(own):.2f} of {len(own)}" for kind, own in kinds.items())
    return f"{share(faults)} | {share(others)} | {share(~others)} | {by_kind}"


def main() -> None:
    """Chooses, reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--judges", nargs="+", default=list(JUDGES), choices=list(JUDGES))
    parser.add_argument("--folder", type=Path, help="keeps scores and grades, so that a second run is quick")
    arguments = parser.parse_args()
    folder = arguments.folder or Path(tempfile.mkdtemp())
    folder.mkdir(parents=True, exist_ok=True)
    with (
        ScoreBook(folder / "scores.sqlite") as book,
        LlmJudge(LLMConfig(), folder / "ledger.sqlite", folder / "llm.log", 0) as judge,
    ):
        blocks = read_blocks()
        report(Bench(blocks, book, judge), blocks, arguments.judges)


def report(bench: Bench, blocks: Sequence[Block], judges: Sequence[str]) -> None:
    """A line a judge and class."""
    classes: dict[str, tuple[list[Case], Found]] = {
        "false negatives": (rewritten(blocks), is_gone),
        "false negatives of STS-B": (of_stsb(), is_gone),
        "swapped levels": (swapped(blocks), is_reordered),
        "off-topic positives": (off_topic(blocks), is_left_out),
        "duplicates": (duplicates(blocks), is_duplicate),
    }
    print("| judge | margin | fault | detected | false alarms | kept | by kind |\n|---|---|---|---|---|---|---|")
    for name in judges:
        rules: dict[str, object] = {}
        to_choose_on = half(classes["false negatives"][0], 0)
        if name == "llm":
            rules["judge_margin"] = judge_margin_for(bench, to_choose_on)
        elif name != "default":
            rules["margin"] = margin_for(bench, name, to_choose_on)
        for title, (cases, found) in classes.items():
            if name == "llm" and found is not is_gone:
                continue  # it is asked about what an LLM wrote, and about nothing else here
            own = rules if found is is_gone else {}
            told = next(iter(own.values()), "default")
            print(f"| {name} | {told} | {title} | {row(bench, name, half(cases, 1), found, own)} |", flush=True)


if __name__ == "__main__":
    main()
