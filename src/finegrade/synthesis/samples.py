"""Drafts become samples: what the LLM did not write the corpus gives."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby, islice, tee
from pathlib import Path
from typing import NamedTuple

from finegrade.config import SynthesisConfig
from finegrade.records import Displaced, Negative, Sample, Seed, SetAside, Side, Source
from finegrade.retrieval.bm25 import BM25
from finegrade.retrieval.minhash import NearDuplicates
from finegrade.retrieval.mining import Index, Miner, Wanted, fill_levels
from finegrade.synthesis.requests import sources_of
from finegrade.synthesis.writer import Draft
from finegrade.text import content_hash, normalised, word_count
from finegrade.training.variants import hardest_mined

MINED_TOGETHER = 2_000
"""Samples of tasks that are each other's corpus: enough for all rank bands, and memory stays flat."""


class _Planned(NamedTuple):
    """A sample of a seed, before it is mined for."""

    id: str
    seed: Seed
    turn: int
    draft: Draft | None


def samples_of_seeds(
    drafts: Iterable[Draft], seeds: Sequence[Seed], synthesis: SynthesisConfig, seed: int, passed_over: Counter[str],
    index: Index = BM25, displaced: Callable[[Displaced], None] = lambda row: None,
) -> Iterator[Sample]:  # fmt: skip
    """Samples of pairs and documents: those that the LLM wrote for, then all others.

    Args:
        drafts: What the LLM wrote for some of the seeds.
        seeds: The train seeds.
        synthesis: Says where negatives come from.
        seed: Of the draws.
        passed_over: Is told which texts of the corpus were no negatives, counted by reason.
        index: What the corpus is searched with.
        displaced: Gets the corpus' hardest negative of each sample where the LLM's text took its place.
    """
    miner = Miner(seeds, seed, synthesis.levels, index)
    planned, asked = tee(_planned(drafts, seeds))
    wanted = (Wanted(one.seed, _from_corpus(sources_of(one.id, synthesis, seed)), one.turn) for one in asked)
    for one, mined in zip(planned, miner.negatives_of(wanted), strict=True):
        yield _sample(one.draft, mined, mined, displaced) if one.draft else _mined_sample(one, mined)
    passed_over.update(miner.set_aside)


def _planned(drafts: Iterable[Draft], seeds: Sequence[Seed]) -> Iterator[_Planned]:
    """Each seed's samples: the first as the LLM wrote it, where it did, and one for each positive beside."""
    by_id = {seed.id: seed for seed in seeds}
    drafted = set()
    for draft in drafts:
        seed = by_id[draft.seed]
        drafted.add(seed.id)
        yield _Planned(draft.id, seed, 0, draft)
        yield from _without_llm(seed, range(1, len(seed.positives)))
    for seed in seeds:
        if seed.query and seed.id not in drafted:
            yield from _without_llm(seed, range(len(seed.positives)))


def _without_llm(seed: Seed, indices: Iterable[int]) -> Iterator[_Planned]:
    return (_Planned(content_hash(seed.query, seed.positives[index]), seed, index, None) for index in indices)


def samples_of_tasks(
    drafts: Iterable[Draft], synthesis: SynthesisConfig, seed: int, passed_over: Counter[str],
    index: Index = BM25, displaced: Callable[[Displaced], None] = lambda row: None,
) -> Iterator[Sample]:  # fmt: skip
    """Samples of tasks: their corpus is what the LLM wrote for the samples beside them.

    A level that the LLM did not write stays empty, and one that those of the same language do not give.
    """
    left = iter(drafts)
    while some := list(islice(left, MINED_TOGETHER)):
        by_language = sorted(some, key=lambda draft: draft.language)  # a negative in another language is told by that
        for _, alike in groupby(by_language, key=lambda draft: draft.language):
            yield from _samples_of_each_other(list(alike), synthesis, seed, passed_over, index, displaced)


def _samples_of_each_other(
    drafts: Sequence[Draft], synthesis: SynthesisConfig, seed: int, passed_over: Counter[str], index: Index,
    displaced: Callable[[Displaced], None],
) -> Iterator[Sample]:  # fmt: skip
    seeds = [Seed(id=d.id, query=d.query, positives=(d.positive,), group=d.group) for d in drafts]
    miner = Miner(seeds, seed, synthesis.levels, index)
    sources = [sources_of(draft.id, synthesis, seed) for draft in drafts]
    wanted = (Wanted(one, _from_corpus(own)) for one, own in zip(seeds, sources, strict=True))
    for draft, own, mined in zip(drafts, sources, miner.negatives_of(wanted), strict=True):
        yield _sample(draft, [one for one in mined if own[one.rank] != "llm"], mined, displaced)
    passed_over.update(miner.set_aside)


def _sample(
    draft: Draft, fill: Iterable[Negative], mined: Sequence[Negative], displaced: Callable[[Displaced], None]
) -> Sample:
    """What the LLM wrote takes its levels; of the others ``fill`` has some, as far as they are other texts."""
    sample = Sample(
        id=content_hash(draft.query, draft.positive),
        query=draft.query,
        positive=draft.positive,
        negatives=fill_levels(draft.negatives, fill),
        group=draft.group,
        kind=draft.kind,
        instruction=draft.instruction,
    )
    if mined and hardest_mined(sample) != (text := max(mined, key=lambda negative: negative.rank).text):
        displaced(Displaced(sample=sample.id, text=text))
    return sample


def _from_corpus(sources: Mapping[int, Source]) -> dict[int, Source]:
    """What of the corpus stands in for each level: for level 1 a random text, if nothing else is said."""
    return {
        level: "random" if source == "random" or (source == "llm" and level == 1) else "mined"
        for level, source in sources.items()
    }


def _mined_sample(planned: _Planned, mined: Sequence[Negative]) -> Sample:
    """A sample without an LLM's text."""
    return Sample(
        id=planned.id,
        query=planned.seed.query,
        positive=planned.seed.positives[planned.turn],
        negatives=fill_levels((), mined),
        group=planned.seed.group,
    )


class Counts:
    """What there is, counted while it goes by."""

    def __init__(self, levels: int) -> None:
        self._levels = range(levels, 0, -1)
        self.samples = self.written = 0
        self.negatives: Counter[str] = Counter()
        self.empty_levels = dict.fromkeys(self._levels, 0)
        self.kinds: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def passing(self, samples: Iterable[Sample]) -> Iterator[Sample]:
        """The same samples."""
        for sample in samples:
            self.samples += 1
            self.written += any(negative.source == "llm" for negative in sample.negatives)
            self.negatives.update(f"level {negative.level} {negative.source}" for negative in sample.negatives)
            for level in set(self._levels).difference(negative.level for negative in sample.negatives):
                self.empty_levels[level] += 1
            self.kinds[sample.kind or "pair"] += 1
            yield sample

    def set_aside(self, rows: Iterable[SetAside]) -> Iterator[SetAside]:
        """The same rows."""
        for row in rows:
            self.reasons[f"llm: {row.reason}"] += 1
            yield row


LABEL_WORDS = 8
"""Shorter texts are labels ("billing department"): right or wrong for many queries, and the same only for the same."""

_AT_ONCE = 1_000  # drafts


class Repeats:
    """Which texts of the drafts are nearly the same as one of an earlier draft.

    Queries and positives count only where the LLM wrote them: what repeats in the user's own data was there before. An
    earlier one counts whether or not it stays itself; negatives are compared among those that stay. No text of a draft
    that trains is nearly the query or the positive of one that tests; a label may be another query's held-out positive.

    Args:
        drafts: Called for each pass over all of them.
        folder: For the signatures, while they are computed.
    """

    def __init__(self, drafts: Callable[[], Iterator[Draft]], folder: Path) -> None:
        self._drafts = drafts
        self._tested_labels = {
            content_hash(normalised(draft.query))
            for draft in self._ordered()
            if draft.side == "test" and _is_label(draft.query)
        }
        with NearDuplicates(folder / "queries") as queries, NearDuplicates(folder / "positives") as positives:
            for some in _parts(draft for draft in self._ordered() if draft.kind):
                queries.add(draft.query for draft in some)
                positives.add(_as_answer(draft, draft.positive) for draft in some)
                tested = [draft for draft in some if draft.side == "test"]
                queries.add((draft.positive for draft in tested), watched=False)
                positives.add((draft.query for draft in tested), watched=False)
            self._queries, self._positives = queries.flags(), positives.flags()
        with NearDuplicates(folder / "negatives") as negatives:
            for some in _parts(draft for draft, reason in self._judged() if not reason):
                tested = [draft for draft in some if draft.side == "test"]
                negatives.add((text for one in tested for text in (one.query, one.positive)), watched=False)
                negatives.add(_as_answer(draft, negative.text) for draft in some for negative in draft.negatives)
            self._negatives = negatives.flags()

    def without(self, side: Side, set_aside: Callable[[SetAside], None]) -> Iterator[Draft]:
        """The drafts of a side, without what repeats."""
        index = 0
        for draft, reason in self._judged():
            flags = self._negatives[index : index + len(draft.negatives)] if not reason else ()
            index += len(flags)
            if draft.side != side:
                continue
            if reason:
                set_aside(_aside(draft, None, reason, draft.query))
                continue
            kept = []
            for one, flagged in zip(draft.negatives, flags, strict=True):
                if flagged:
                    set_aside(_aside(draft, one.level, "nearly the negative of another sample", one.text))
                elif side == "train" and self._is_tested(one.text):
                    set_aside(_aside(draft, one.level, "a held-out query", one.text))
                else:
                    kept.append(one)
            yield draft.model_copy(update={"negatives": tuple(kept)})

    def _judged(self) -> Iterator[tuple[Draft, str]]:
        """All drafts, with the reason of those that go as a whole."""
        index = 0
        for draft in self._ordered():
            reason = ""
            if draft.kind:
                of_query, of_positive = self._queries[index], self._positives[index]
                index += 1
                if of_query or of_positive:
                    reason = f"nearly the {'query' if of_query else 'positive'} of another sample"
                elif draft.side == "train" and self._is_tested(draft.positive):
                    reason = "a held-out query"
            yield draft, reason

    def _is_tested(self, text: str) -> bool:
        return _is_label(text) and content_hash(normalised(text)) in self._tested_labels

    def _ordered(self) -> Iterator[Draft]:
        for side in ("test", "train"):
            yield from (draft for draft in self._drafts() if draft.side == side)


def _as_answer(draft: Draft, text: str) -> str:
    """What a text is compared as: a label as nothing but itself, for this query."""
    return content_hash(normalised(draft.query), normalised(text)) if _is_label(text) else text


def _is_label(text: str) -> bool:
    return word_count(text) < LABEL_WORDS


def _parts(drafts: Iterable[Draft]) -> Iterator[list[Draft]]:
    """All of a part are of one side: what tests counts as earlier than what trains."""
    for _, of_side in groupby(drafts, key=lambda draft: draft.side):
        while some := list(islice(of_side, _AT_ONCE)):
            yield some


def _aside(draft: Draft, level: int | None, reason: str, text: str) -> SetAside:
    return SetAside(order=draft.id, query=draft.query, level=level, reason=reason, text=text)
