"""The LLM as a scorer: it grades from 0 to 3 how well a text answers, beside a text that is known to answer."""

from collections.abc import Iterator, Mapping, Sequence
from math import nan
from pathlib import Path
from types import TracebackType
from typing import Self

from finegrade.config import LLMConfig
from finegrade.console import progress
from finegrade.judge_prompts import HIGHEST, Judgement, expected_grade, grade_request
from finegrade.llm.ledger import Reply
from finegrade.llm.session import Ask, Session, request_settings
from finegrade.llm.structured import CUT, Answer, UnreadableError, ask_for, read

Pair = tuple[str, str]

NO_GRADE = "no grade: "
"""What the reason begins with where a reply could not be read."""


class LlmJudge:
    """Grades through client and ledger: what the ledger holds is not asked again. A context manager.

    A query's known answers have the highest grade; other texts are read beside the first of them. A pair of a query
    without a known answer, and a reply that cannot be read, give a score that is no number.

    Args:
        config: Names the LLM.
        ledger: The file of requests and replies.
        log: Where the embedded server's own log goes.
        seed: Of the server's sampling.

    Attributes:
        best: See `Judge`.
    """

    best: float = HIGHEST

    def __init__(self, config: LLMConfig, ledger: Path, log: Path, seed: int) -> None:
        self._session = Session(config, ledger, "verify", log)
        self._settings = request_settings(config, temperature=0, seed=seed)
        self._answers: Mapping[str, Sequence[str]] = {}
        self._reasons: dict[Pair, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._session.__exit__(kind, error, trace)

    def know(self, answers: Mapping[str, Sequence[str]]) -> None:
        """Says what answers: query -> texts. What was known before is forgotten."""
        self._answers, self._reasons = answers, {}

    def scores(self, pairs: Sequence[Pair]) -> Iterator[float]:
        """Yields the grade of each (query, text), in order."""
        unsure = dict.fromkeys(pair for pair in pairs if self._known(pair) is None)
        found = self._grades(list(unsure)) if unsure else {}
        for pair in pairs:
            known = self._known(pair)
            yield found[pair] if known is None else known

    def _known(self, pair: Pair) -> float | None:
        """The grade that needs no asking, or cannot be asked for."""
        answers = self._answers.get(pair[0], ())
        return HIGHEST if pair[1] in answers else None if answers else nan

    def reason(self, pair: Pair) -> str:
        """What the LLM said of a (query, text)."""
        return self._reasons.get(pair, "")

    def _grades(self, pairs: Sequence[Pair]) -> dict[Pair, float]:
        with progress("the LLM judges", len(pairs)) as meter:
            answers = self._session.ask(pairs, self._grade, meter.advance)
        grades = {}
        for pair, answer in zip(pairs, answers, strict=True):
            told = answer.value or _judgement_of_cut(answer)
            grades[pair] = expected_grade(told.answer, answer.reply.alternatives) if told else nan
            self._reasons[pair] = told.reason if told else f"{NO_GRADE}{answer.reason}"
        return grades

    async def _grade(self, ask: Ask, pair: Pair) -> Answer[Judgement]:
        query, text = pair
        return await ask_for(ask, grade_request(query, self._answers[query][0], text, self._settings), Judgement)


def _judgement_of_cut(answer: Answer[Judgement]) -> Judgement | None:
    """What a reply says that was cut within its reason: the word comes before it, and is whole."""
    if answer.reason != CUT or not answer.reply.text.lstrip().startswith("{"):
        return None
    ended: Reply = answer.reply.model_copy(update={"finish_reason": "stop"})
    try:
        return read(ended, Judgement)
    except UnreadableError:
        return None
