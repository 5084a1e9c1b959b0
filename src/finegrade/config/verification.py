"""The section of finegrade.toml that says how negatives are checked."""

from pydantic import Field, field_validator, model_validator

from finegrade.config.base import Section

LLM_JUDGE, LEXICAL = "llm", "bm25"
"""The names that stand for the LLM of [llm], and for BM25, among scorers."""
JUDGED = 8
"""Queries that calibrate an LLM judge; each takes seconds."""


class VerificationConfig(Section):
    """How negatives are checked. Scores are on a common scale: 0 is what a random text gets, 1 what a query's own
    positive gets (docs/verification.md)."""

    scorer: str = Field("reranker-en", min_length=1)
    """Catalogue name, local folder or Hugging Face id of a cross-encoder or bi-encoder (ONNX or sentence-transformers);
    or "llm", the LLM of [llm], which grades from 0 to 3; or "bm25"."""
    committee: tuple[str, ...] = ("bge-small-en",)
    """More scorers; the mean of all counts."""
    second_opinion: tuple[str, ...] = ()
    """Scorers that decide where the first ones are in doubt about a text that no LLM wrote."""
    doubt: float = Field(0.0, ge=0)
    """They are in doubt about such a text if they call it false, or nearly: it is less than this below. 0: never."""
    second_opinion_written: tuple[str, ...] = (LLM_JUDGE,)
    """Likewise for LLM-written texts: they are made to look right, and similarity does not show whether they are."""
    doubt_written: float = Field(1.0, ge=0)
    """As doubt, for LLM-written texts."""
    margin: float = Field(0.05, ge=0)
    """A negative is false unless it scores at least this much below the positive."""
    judge_margin: float = Field(0.4, ge=0, le=1)
    """The same margin for the LLM's grades: 0 is unrelated, 1/3 another answer, 1 the same answer."""
    relative_margin: float = Field(0.0, ge=0, lt=1)
    """A negative must also score at most (1 - relative_margin) times the positive's score."""
    min_gap: float = Field(0.0, ge=0)
    """A negative is dropped if it scores less than this below the next harder one."""
    weakest_positive: float = 0.2
    """A sample is left out if its positive scores less: it is hardly closer to the query than a random text."""
    promote: bool = True
    """A false negative from the corpus becomes a positive if every scorer rates it at least as high as the query's own
    positive and as positives in general (1). Else it is dropped."""
    benchmarks: tuple[str, ...] = ()
    """BEIR folders, files (.jsonl .csv .tsv .parquet .txt), or mteb:TASK: samples that match them are left out."""
    max_length: int = Field(192, ge=16)
    """Tokens of query and text together that a cross-encoder reads, and of a text that a bi-encoder reads."""

    @property
    def scorers(self) -> tuple[str, ...]:
        """The scorers that are asked first."""
        return (self.scorer, *self.committee)

    @field_validator("benchmarks")
    @classmethod
    def _has_a_name(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not all(value):
            raise ValueError("must name each benchmark: a folder, a file, or mteb:TASK")
        return value

    @field_validator("committee", "second_opinion", "second_opinion_written")
    @classmethod
    def _named_once(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if len(set(value)) < len(value) or not all(value):
            raise ValueError("must name each scorer once")
        return value

    @model_validator(mode="after")
    def _is_another(self) -> "VerificationConfig":
        if self.scorer in self.committee:
            raise ValueError(f'committee: "{self.scorer}" is the scorer already')
        again = set(self.scorers) & {*self.second_opinion, *self.second_opinion_written}
        if again - {LLM_JUDGE}:
            raise ValueError(f"second_opinion: {', '.join(sorted(again))} is asked first already")
        if self.doubt > 0 and not self.second_opinion:
            raise ValueError("doubt: no scorer can be asked; name scorers in second_opinion")
        return self

    @property
    def asks_llm_of_written(self) -> bool:
        """Whether the LLM of [llm] is asked about texts that an LLM wrote."""
        return LLM_JUDGE in self.scorers or (LLM_JUDGE in self.second_opinion_written and self.doubt_written > 0)

    @property
    def asks_llm_of_corpus(self) -> bool:
        """Whether it is asked about other texts."""
        return LLM_JUDGE in self.scorers or (LLM_JUDGE in self.second_opinion and self.doubt > 0)

    @property
    def asks_llm(self) -> bool:
        """Whether it is among the scorers."""
        return self.asks_llm_of_written or self.asks_llm_of_corpus

    @property
    def models(self) -> tuple[str, ...]:
        """The scorers that are models to be loaded."""
        of_corpus = self.second_opinion if self.doubt else ()
        of_written = self.second_opinion_written if self.doubt_written else ()
        named = dict.fromkeys((*self.scorers, *of_corpus, *of_written))
        return tuple(name for name in named if name not in (LLM_JUDGE, LEXICAL))
