"""Faults that are planted, and how many of them verification finds, with each scorer and with the default.

    python benchmarks/verification.py [--judges reranker-en bge-small-en all-minilm-l6-v2 bm25 two three llm default]

The faults, each beside texts of its kind that are right:
- false negatives: the positive in other words (benchmarks/data/verification_second.txt, 110 read and labelled; the head
  of the file says how they were made), beside 110 near misses, which look right and are not. As texts that an LLM
  wrote, which are what they are, and as if they were a corpus's: then the LLM is not asked by default;
- false negatives of STS-B: pairs of sentences scored 4.5 or more, beside pairs scored 1 to 2.5. The query is made of
  the words of content that both have;
- swapped levels: another query's answer above the near miss, beside samples in order, where both negatives stay;
- off-topic positives: the positive of another query, beside the right ones;
- duplicates: the positive, or a harder negative, with other signs and case, beside near misses.

Everything is chosen on another file, benchmarks/data/verification.txt (110 and 110): for false negatives a scorer's
margin, the LLM's too, is the one of which the lesser of (share caught - .85) and (share kept - .60) is greatest; the
default is what holds where finegrade.toml says nothing. A sample that is left out for its positive counts in the class
of off-topic positives alone. Intervals: 95 %, bootstrap over the cases.
"""

import argparse
import random
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from finegrade.config import LLM_JUDGE, LLMConfig, VerificationConfig
from finegrade.evaluation.sts import load_stsb
from finegrade.records import Negative, Sample, Source
from finegrade.text import content_words, words
from finegrade.verification.ensemble import Ensembles
from finegrade.verification.llm_judge import HIGHEST, LlmJudge
from finegrade.verification.rules import NEARLY_ANSWERS, REPEATS, THE_POSITIVE
from finegrade.verification.score_cache import ScoreCache
from finegrade.verification.verifier import Verified, Verifier

TO_CHOOSE_ON, REPORTED = (
    Path(__file__).parent / "data" / name for name in ("verification.txt", "verification_second.txt")
)
WANTED, KEPT, RESAMPLES, LEVELS = 0.85, 0.60, 2_000, 4
MARGINS = (0.0, 0.01, 0.02, 0.03, 0.05, 0.075, *(i / 20 for i in range(2, 21)))
JUDGES: dict[str, dict[str, object]] = {
    **{
        name: {"scorer": name, "committee": (), "second_opinion_written": ()}
        for name in ("reranker-en", "bge-small-en", "all-minilm-l6-v2", "bm25")
    },
    "two": {"second_opinion_written": ()},
    "three": {"committee": ("bge-small-en", "all-minilm-l6-v2"), "second_opinion_written": ()},
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
    """A sample, and whether a fault was planted in it."""

    sample: Sample
    kind: str
    is_fault: bool


Found = Callable[[Sample, Verified], bool | None]
"""Whether something was found in a sample; None: the sample does not count."""


def read_blocks(path: Path) -> list[Block]:
    """All blocks of a file."""
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


def rewritten(blocks: Sequence[Block], source: Source) -> list[Case]:
    """The positive in other words, and near misses."""
    kinds = {"=s": "synonyms", "=p": "said anew", "x1": "one word turned", "x2": "another aspect"}
    cases = []
    for i, block in enumerate(blocks):
        for text, kind in ((block.false, block.false_kind), (block.near_miss, block.near_miss_kind)):
            sample = made_sample(f"{i}{kind}", block.query, block.positive, (text, LEVELS), source=source)
            cases.append(Case(sample, kinds[kind], kind.startswith("=")))
    return cases


def of_stsb(source: Source, number: int = 60) -> list[Case]:
    """Sentences that mean the same, and sentences that do not."""
    data = load_stsb("sts-b")
    cases: list[Case] = []
    for kind, low, high in (("scored 4.5 to 5", 4.5, 5.0), ("scored 1 to 2.5", 1.0, 2.5)):
        made = []
        for i, (left, right, score) in enumerate(zip(*data, strict=True)):
            shared = [word for word in words(left) if word in content_words(left) & content_words(right)]
            if low <= score <= high and len(shared) >= 2 and words(left) != words(right):
                made.append(made_sample(f"sts{i}", " ".join(shared), left, (right, LEVELS), source=source))
        cases += [Case(sample, kind, low >= 4.5) for sample in random.Random(0).sample(made, number)]
    return cases


def swapped(blocks: Sequence[Block]) -> list[Case]:
    """Another query's answer and the near miss, in order and exchanged."""
    dice, cases = random.Random(0), []
    for i, block in enumerate(blocks):
        texts = [dice.choice([one.positive for one in blocks if one is not block]), block.near_miss]
        for kind, order in (("in order", texts), ("swapped", texts[::-1])):
            sample = made_sample(f"{i}{kind}", block.query, block.positive, *zip(order, (1, LEVELS), strict=True))
            cases.append(Case(sample, kind, kind == "swapped"))
    return cases


def off_topic(blocks: Sequence[Block]) -> list[Case]:
    """The right positive, and one of another query."""
    dice, cases = random.Random(0), []
    for i, block in enumerate(blocks):
        other = dice.choice([one for one in blocks if one is not block])
        for kind, positive in (("own positive", block.positive), ("another's positive", other.positive)):
            sample = made_sample(f"{i}{kind}", block.query, positive, (block.near_miss, LEVELS))
            cases.append(Case(sample, kind, positive != block.positive))
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
            cases.append(Case(sample, kind, kind != "near miss"))
    return cases


def is_gone(sample: Sample, found: Verified) -> bool | None:
    """Whether the negative was dropped or promoted; a sample that was left out has no verdicts."""
    own = [v for v in found.verdicts if v.sample == sample.id]
    return any(v.level_after is None for v in own) if own else None


def is_reordered(sample: Sample, found: Verified) -> bool | None:
    """Whether the levels were changed; a sample that lost one of the two negatives has no order."""
    own = [v for v in found.verdicts if v.sample == sample.id]
    both = len(own) == 2 and all(v.level_after for v in own)
    return any(v.decision == "regraded" for v in own) if both else None


def is_left_out(sample: Sample, found: Verified) -> bool:
    """Whether the sample was left out."""
    return any(row.sample == sample.id for row in found.left_out)


def is_duplicate(sample: Sample, found: Verified) -> bool | None:
    """Whether a negative went as one that is there already; a sample that was left out has no verdicts."""
    own = [v for v in found.verdicts if v.sample == sample.id]
    return any(v.reason in (THE_POSITIVE, REPEATS, NEARLY_ANSWERS) for v in own) if own else None


class Remembering:
    """A judge that is asked about a pair once, whatever the margin."""

    best = HIGHEST

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
        cache: Of their scores.
        judge: What the LLM is.
    """

    def __init__(self, blocks: Sequence[Block], cache: ScoreCache, judge: LlmJudge) -> None:
        self._drawn = [made_sample(str(i), block.query, block.positive) for i, block in enumerate(blocks)]
        self._cache, self._judge = cache, Remembering(judge)
        self._ensembles: dict[str, Ensembles] = {}

    def judged(self, name: str, cases: Sequence[Case], **rules: object) -> Verified:
        """What is decided on the cases."""
        config = VerificationConfig.model_validate(JUDGES[name] | rules)
        if name not in self._ensembles:
            self._ensembles[name] = Ensembles(config, self._drawn, 0, {LLM_JUDGE: self._judge}, self._cache)
        ensembles = self._ensembles[name]
        verifier = Verifier(config, LEVELS, ensembles.first, ensembles.second)
        return verifier.verify([case.sample for case in cases])


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


def margin_for(bench: Bench, name: str, setting: str, cases: Sequence[Case]) -> float:
    """The margin that is farthest above what is wanted, of false negatives caught and near misses kept the lesser."""

    def slack(margin: float) -> float:
        told = hits(bench, name, cases, is_gone, **{setting: margin})
        caught, gone = (np.mean([hit for case, hit in told if case.is_fault == side]) for side in (True, False))
        return float(min(caught - WANTED, 1 - gone - KEPT))

    return max(MARGINS, key=slack)


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
        ScoreCache(folder / "scores.sqlite") as cache,
        LlmJudge(LLMConfig(), folder / "ledger.sqlite", folder / "llm.log", 0) as judge,
    ):
        report(Bench(read_blocks(TO_CHOOSE_ON), cache, judge), arguments.judges)


def report(bench: Bench, judges: Sequence[str]) -> None:
    """A line a judge and class."""
    to_choose_on, blocks = read_blocks(TO_CHOOSE_ON), read_blocks(REPORTED)
    classes: dict[str, tuple[list[Case], Found]] = {
        "false negatives": (rewritten(blocks, "llm"), is_gone),
        "false negatives, as a corpus's": (rewritten(blocks, "mined"), is_gone),
        "of STS-B": (of_stsb("llm"), is_gone),
        "of STS-B, as a corpus's": (of_stsb("mined"), is_gone),
        "swapped levels": (swapped(blocks), is_reordered),
        "off-topic positives": (off_topic(blocks), is_left_out),
        "duplicates": (duplicates(blocks), is_duplicate),
    }
    print("| judge | margin | fault | detected | false alarms | kept | by kind |\n|---|---|---|---|---|---|---|")
    for name in judges:
        rules: dict[str, object] = {}
        if name != "default":
            setting = "judge_margin" if name == "llm" else "margin"
            rules[setting] = margin_for(bench, name, setting, rewritten(to_choose_on, "llm"))
        for title, (cases, found) in classes.items():
            of_written = any(n.source == "llm" for case in cases for n in case.sample.negatives)
            if not of_written and (name == "llm" or (found is is_gone and name != "default")):
                continue  # the LLM is not asked about these; and to the others both sources are the same
            own = rules if found is is_gone else {}
            told = next(iter(own.values()), "default")
            print(f"| {name} | {told} | {title} | {row(bench, name, cases, found, own)} |", flush=True)


if __name__ == "__main__":
    main()
