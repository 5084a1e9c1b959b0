"""What every section of finegrade.toml is, and how a user's path is read."""

import os
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Section(BaseModel):
    """A section of finegrade.toml: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    @field_validator("*", mode="before")
    @classmethod
    def _truth_is_no_number(cls, value: Any, info: ValidationInfo) -> Any:
        """pydantic would read true as 1."""
        wanted = cls.model_fields[info.field_name or ""].annotation
        if isinstance(value, bool) and {int, float} & {wanted, *get_args(wanted)}:
            raise ValueError("a number")
        return value


def user_path(text: str) -> Path:
    """A path as a user writes it: ~ is the home folder."""
    return Path(os.path.expanduser(text))  # noqa: PTH111  (Path.expanduser raises where there is no such user)
