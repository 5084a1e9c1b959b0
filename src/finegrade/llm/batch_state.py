"""What is read of a server's answer about a batch, and nothing of it believed until it is checked."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, StringConstraints

OVER = ("completed", "failed", "expired", "cancelled")
"""States after which a batch does not change any more."""

_Id = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9_-]{1,200}$")]  # it becomes part of a URL


class _Read(BaseModel):
    model_config = ConfigDict(from_attributes=True)


class _Counts(_Read):
    completed: Any = None
    failed: Any = None


class _Error(_Read):
    code: Any = None


class _Errors(_Read):
    data: list[_Error] | None = None


class Named(_Read):
    """A file or a batch."""

    id: _Id


class State(Named):
    """How far a batch is."""

    status: str
    request_counts: _Counts | None = None
    errors: _Errors | None = None
    output_file_id: _Id | None = None
    error_file_id: _Id | None = None
    metadata: dict[str, Any] | None = None

    def failed_with(self, code: str) -> bool:
        """Whether that is the server's word for why the batch as a whole has failed."""
        errors = (self.errors and self.errors.data) or []
        return any(error.code == code for error in errors)

    @property
    def done(self) -> int:
        """Requests that were dealt with."""
        counts = (self.request_counts.completed, self.request_counts.failed) if self.request_counts else ()
        return sum(count for count in counts if isinstance(count, int))
