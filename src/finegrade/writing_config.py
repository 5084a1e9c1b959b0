"""The section of finegrade.toml that says what negatives the LLM writes."""

from pydantic import Field

from finegrade.section import Section


class SynthesisConfig(Section):
    """How negatives are written and mined."""

    llm_samples: int = Field(100, ge=0)
    """How many rewritten texts to get past the gates: the hardest level of that many samples."""
    max_requests: int = Field(1_000, ge=0)
    """Hard cap on the requests to the LLM."""
    temperature: float = Field(0.2, ge=0, le=2)
    max_passage_chars: int = Field(600, ge=120)
    """Longer positives are not rewritten: the time an LLM takes grows with them."""
    min_changed: int = Field(2, ge=1)
    """A rewrite that differs from the positive in fewer content words (gone and new together) is a near-copy."""
