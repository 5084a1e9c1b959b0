"""What every section of finegrade.toml is."""

from pydantic import BaseModel, ConfigDict


class Section(BaseModel):
    """A section of finegrade.toml: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
