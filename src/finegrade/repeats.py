"""Which drafts repeat an earlier one: what tests comes first, so that it is what trains that gives way."""

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from pathlib import Path

from finegrade.records import SetAside, Side
from finegrade.retrieval.minhash import NearDuplicates
from finegrade.text import content_hash, normalised, word_count
from finegrade.writing import Draft

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
        """The drafts of a side, without what repeats.

        Args:
            side: Those that train, or those that test.
            set_aside: Told of everything that is left out.
        """
        place = 0
        for draft, reason in self._judged():
            flags = self._negatives[place : place + len(draft.negatives)] if not reason else ()
            place += len(flags)
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
        place = 0
        for draft in self._ordered():
            reason = ""
            if draft.kind:
                of_query, of_positive = self._queries[place], self._positives[place]
                place += 1
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
