"""The LLM as a scorer: it grades from 0 to 3 how well a text answers, beside a text that is known to answer."""

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from contextlib import aclosing
from math import nan
from pathlib import Path

from finegrade.config import LLMConfig
from finegrade.console import progress
from finegrade.judge_prompts import HIGHEST, Judgement, expected_grade, grade_request
from finegrade.llm.asking import Ask, ask_each, request_settings
from finegrade.llm.ledger import Ledger
from finegrade.llm.structured import Answer, ask_for

Pair = tuple[str, str]


class LlmJudge:
    """Grades through client and ledger: what the ledger holds is not asked again.

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
        self._config, self._ledger, self._log = config, ledger, log
        self._settings = request_settings(config, temperature=0, seed=seed)
        self._answers: Mapping[str, Sequence[str]] = {}
        self._reasons: dict[Pair, str] = {}

    def know(self, answers: Mapping[str, Sequence[str]]) -> None:
        """Says what answers: query -> texts. What was known before is forgotten."""
        self._answers, self._reasons = answers, {}

    def scores(self, pairs: Sequence[Pair]) -> Iterator[float]:
        """Yields the grade of each (query, text), in order."""
        unsure = dict.fromkeys(pair for pair in pairs if self._known(pair) is None)
        found = asyncio.run(self._grades(list(unsure))) if unsure else {}
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

    async def _grades(self, pairs: Sequence[Pair]) -> dict[Pair, float]:
        grades = {}
        with Ledger(self._ledger, "verify") as ledger, progress("the LLM judges", len(pairs)) as meter:
            async with aclosing(ask_each(pairs, self._grade, self._config, ledger, self._log)) as answers:
                async for pair, answer in answers:
                    told = answer.value
                    grades[pair] = expected_grade(told.answer, answer.reply.alternatives) if told else nan
                    self._reasons[pair] = answer.value.reason if answer.value else f"no grade: {answer.reason}"
                    meter.advance()
        return grades

    async def _grade(self, ask: Ask, pair: Pair) -> Answer[Judgement]:
        query, text = pair
        return await ask_for(ask, grade_request(query, self._answers[query][0], text, self._settings), Judgement)
