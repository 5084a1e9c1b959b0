"""The records that travel between the stages."""

from typing import Annotated, Literal, get_args

from pydantic import AfterValidator, AliasChoices, BaseModel, ConfigDict, Field

Source = Literal["llm", "mined", "random", "external"]
"""Where a negative's text came from; external: data that others made, which has no levels."""

Decision = Literal["kept", "regraded", "promoted", "dropped"]
"""What verification decided on one negative; promoted: it answers the query, and is a positive now."""

Kind = Literal["short-long", "long-short", "short-short", "long-long", "sts"]
"""Of a task: how long query and text are; sts: two sentences that mean the same (symmetric)."""

KINDS: tuple[Kind, ...] = get_args(Kind)

Side = Literal["train", "test"]

MAX_SET_ASIDE = 10_000
"""Characters that are kept of a text that is set aside: a hostile reply has millions, and a part of drafts is held."""


class Record(BaseModel):
    """Immutable, and strict about its fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Task(Record):
    """An embedding task: what is searched for what.

    Args:
        id: Content hash of kind and description.
        kind: How long its queries and texts are.
        description: What is given and what is to be found.
        instruction: For the model, before each query: what to retrieve.
        side: Whether its samples train or test.
    """

    id: str
    kind: Kind
    description: str
    instruction: str
    side: Side


class Chunk(Record):
    """A piece of one of the user's documents, as it is searched; its id is the content hash of the text.

    Args:
        text: The heading above it and its own text, white space folded.
        path: Of the document, relative to the folder that was named.
        offset: Where it begins in the document, in characters.
        heading: The headings above it, outermost first.
        group: The unit that train and test are split by: the document, or a part of it where there are few.
        side: Whether queries for it train or test.
    """

    id: str
    text: str
    path: str
    offset: int
    heading: str
    group: str
    side: Side

    @property
    def section(self) -> str:
        """Names what stands under the same heading of the same document."""
        return f"{self.path} > {self.heading}" if self.heading else ""


class WrittenQuery(Record):
    """A query that an LLM wrote in a style (keywords, question, symptom), and the id of the chunk that answers it."""

    query: str
    style: str
    chunk: str


class Seed(Record):
    """What one sample is written from: a query with the texts that answer it.

    Args:
        id: Content hash of query and positives.
        query: What a user would type; empty for texts that nobody asks for but that are searched and mined, too.
        positives: Texts that answer the query, at least one.
        group: The unit that train and test are split by (a Python package, a document, a product).
        section: The part of a document that the first positive is from; empty where there are no documents. What
            stands beside an answer under the same heading often answers, too, and is no negative.
    """

    id: str
    query: str
    positives: tuple[str, ...] = Field(min_length=1)
    group: str
    section: str = ""


class Negative(Record):
    """A text that does not answer the query.

    Args:
        text: The text.
        level: 1..L, similarity to the positive's answer; L is the hardest (the paper's N1). None: external, not yet
            verified.
        source: Where the text came from.
        sibling: The other real query that a rewritten text answers; None for all other texts.
        flaw: What makes the text wrong, in the words of the LLM that wrote it; None where it did not say.
    """

    text: str
    level: int | None = Field(ge=1)
    source: Source
    sibling: str | None = None
    flaw: str | None = None

    @property
    def rank(self) -> int:
        """The level, for sorting; 0 without one."""
        return self.level or 0


class Sample(Record):
    """A training sample: query, positive, and negatives at graded levels.

    Args:
        id: Content hash of query and positive.
        query: What a user would type.
        positive: One text that answers it.
        negatives: Easiest first; at most one a level, but for external data.
        group: Of its seed.
        kind: Of the task that it was written for; empty where it is from pairs or documents.
        instruction: Of the task.
    """

    id: str
    query: str
    positive: str
    negatives: tuple[Negative, ...]
    group: str
    kind: str = ""
    instruction: str = ""


class Displaced(Record):
    """The hardest negative that the corpus gave for a sample (by its id), where a text by the LLM took its place."""

    sample: str
    text: str


class SetAside(Record):
    """Something that an LLM wrote and that is not used, and why.

    Args:
        order: Id of what was to be written: of pairs and documents, what their sample is called where the LLM writes
            negatives only.
        query: The sample's query, as far as there is one.
        level: That the text was to be of; None where it is no negative.
        reason: In a few words that can be counted.
        text: What was written, or the reply where it could not be read: its beginning, the ledger has the whole.
    """

    order: str
    query: str
    level: int | None
    reason: str
    text: Annotated[str, AfterValidator(lambda text: text[:MAX_SET_ASIDE])]


class ScorerResult(Record):
    """One scorer's scores of one negative, on the common scale: 0 is a random text, 1 a query's own positive.

    Args:
        scorer: Its name.
        positive: Its score of (query, positive).
        score: Its score of (query, negative).
        sibling: Its score of (sibling query, negative); None without a sibling.
        raw: Its score of (query, negative) before calibration.
        reason: An LLM's, in its own words; empty for other scorers.
    """

    scorer: str
    positive: float
    score: float
    sibling: float | None
    raw: float
    reason: str = ""


class Verdict(Record):
    """What verification decided on one negative, why, and every score it saw.

    Args:
        sample: The sample's id.
        text: The negative's text.
        source: The negative's source.
        level_before: The level it was written or mined for; None where it is external and has none.
        level_after: The level it has now; None when it left its sample.
        decision: kept, regraded, promoted or dropped.
        reason: Empty for kept; else why, in a few words that can be counted.
        positive_score: Of (query, positive), on the common scale: the mean of the last scorers that were asked about
            all negatives of the sample. An LLM's grade is no measure of similarity and counts only where it alone was
            asked.
        score: Of (query, negative), likewise.
        sibling_score: Of (sibling query, negative), likewise; None without a sibling.
        results: Of each scorer that was asked; earlier versions wrote the column as "opinions".
    """

    sample: str
    text: str
    source: Source
    level_before: int | None
    level_after: int | None
    decision: Decision
    reason: str
    positive_score: float
    score: float
    sibling_score: float | None
    results: tuple[ScorerResult, ...] = Field(validation_alias=AliasChoices("results", "opinions"))


IN_BENCHMARK = "in benchmark"
"""What the reason begins with where a sample is in one."""


class LeftOut(Record):
    """A sample that verification left out as a whole: the reason in a few words that can be counted, and evidence."""

    sample: str
    query: str
    positive: str
    reason: str
    evidence: str
