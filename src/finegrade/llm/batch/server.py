"""A server's Batch API: makes batches, finds them again, says how far they are, and reads what came of them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, TypeVar

import openai
from pydantic import BaseModel, ConfigDict, StringConstraints

from finegrade.errors import InputError
from finegrade.llm.batch.files import ENDPOINT, Line, read_line, split
from finegrade.llm.connection import connect, hiding, host_of, parts_of
from finegrade.llm.errors import Patience, explain, passes, strange, tell_pause

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


T = TypeVar("T")

_ATTEMPTS = 12
"""Of each call to a server that has answered before, with pauses that double up to a minute: a batch takes hours, and a
network may be away."""

_LOOKED_AT = 10_000  # batches, when one is looked for: the list has the newest first
_MOST_READ = 1_000_000_000  # bytes of one file
_NO_SUCH_THING = (404, 405)
_NAME = "finegrade"  # in the batch's metadata


class NotMadeError(Exception):
    """A batch was certainly not made; what the user is to be told."""

    def __init__(self, told: InputError) -> None:
        super().__init__(str(told))
        self.told = told


class BatchServer:
    """One server; its failures are waited for, and then told in one line.

    Attributes:
        base_url: As it was given.
        hide: Takes the key out of what the server says.

    Raises:
        InputError: The key cannot be sent in a header.
    """

    def __init__(self, base_url: str, api_key: str, timeout: float, lost: str) -> None:
        self.host, self._lost, self.hide = host_of(base_url), lost, hiding(api_key)
        self._answered = False
        self.base_url, self._client = base_url, connect(base_url, api_key, timeout)

    async def close(self) -> None:
        """Closes the connections."""
        await self._client.close()

    async def find(self, name: str) -> str | None:
        """The server's id for a batch that was made under a name, or None.

        Raises:
            InputError: The server does not answer, or not in the right form.
        """
        with self._told():
            return await self._patiently(lambda: self._found(name))

    async def make(self, name: str, content: bytes) -> str:
        """Makes a batch of lines under a name; gives the server's id.

        Raises:
            NotMadeError: The server has none.
            InputError: It may have one: it did not answer, or not in the right form.
        """
        tried = False

        async def create() -> str:
            nonlocal tried
            found = await self._found(name) if tried else None  # the answer may have been lost, not the batch
            tried = True
            try:
                return found or await self._create(name, file)
            except openai.APIStatusError as error:
                if error.status_code < 500 and not passes(error):
                    raise NotMadeError(self._line(error)) from None
                raise

        try:
            file = await self._patiently(lambda: self._upload(content))
        except (openai.OpenAIError, ValueError) as error:
            raise NotMadeError(self._line(error)) from None
        with self._told():
            return await self._patiently(create)

    async def state(self, id: str) -> State:
        """How far a batch is.

        Raises:
            InputError: The server does not answer, or not in the right form.
        """
        with self._told():
            return State.model_validate(await self._patiently(lambda: self._client.batches.retrieve(id)))

    async def lines(self, state: State, known: Collection[str]) -> tuple[dict[str, Line], int]:
        """What the server says of the requests of a batch that is over.

        Returns:
            The first line for each key, and how many others there were: of another form, or about no such request.

        Raises:
            InputError: The server does not answer, or not in the right form.
        """
        found: dict[str, Line] = {}
        useless = 0
        for file in (state.output_file_id, state.error_file_id):
            if file is not None:
                with self._told():
                    fresh, others = await self._patiently(partial(self._read, file, known))
                found = fresh | found
                useless += others
        return found, useless

    async def _upload(self, content: bytes) -> str:
        made = await self._client.files.create(file=("finegrade.jsonl", content), purpose="batch")
        return Named.model_validate(made).id

    async def _create(self, name: str, file: str) -> str:
        made = await self._client.batches.create(
            input_file_id=file, endpoint=ENDPOINT, completion_window="24h", metadata={_NAME: name}
        )
        return Named.model_validate(made).id

    async def _found(self, name: str) -> str | None:
        looked_at = 0
        async for batch in self._client.batches.list(limit=100):
            looked_at += 1
            state = State.model_validate(batch)
            if (state.metadata or {}).get(_NAME) == name:
                return state.id
            if looked_at >= _LOOKED_AT:
                break
        return None

    async def _read(self, file: str, known: Collection[str]) -> tuple[dict[str, Line], int]:
        found: dict[str, Line] = {}
        useless = 0
        async with self._client.files.with_streaming_response.content(file) as answer:
            async for raw in split(_parts(answer)):
                line = read_line(raw)
                if line is None or line.custom_id not in known or line.custom_id in found:
                    useless += 1
                else:
                    found[line.custom_id] = line
        return found, useless

    async def _patiently(self, call: Callable[[], Awaitable[T]]) -> T:
        patience, told = Patience(0, _ATTEMPTS if self._answered else None), False
        while True:
            try:
                result = await call()
                self._answered = True
                return result
            except openai.OpenAIError as error:
                pause = patience.after(error, 0) if passes(error) else None
                if pause is None:
                    raise
                told = tell_pause(self.host, pause, told)
                await asyncio.sleep(pause)

    @contextmanager
    def _told(self) -> Iterator[None]:
        try:
            yield
        except (openai.OpenAIError, ValueError) as error:
            raise self._line(error) from None

    def _line(self, error: openai.OpenAIError | ValueError) -> InputError:
        if isinstance(error, openai.APIStatusError) and error.status_code in _NO_SUCH_THING:
            got, wanted = f"HTTP status {error.status_code}", "a server with a Batch API that knows the batch"
            remedy = "Set llm.batch = false to ask directly, or use the key that the batch was made with."
            return InputError(f"the LLM at {self.host}", got=got, wanted=wanted, remedy=remedy)
        if isinstance(error, openai.OpenAIError):
            return explain(self.host, error, self._lost)
        return strange(self.host)  # no JSON, or of another form


async def _parts(answer: openai.AsyncAPIResponse[Any]) -> AsyncIterator[bytes]:
    """As far as a file is read."""
    read = 0
    async for part in parts_of(answer):
        read += len(part)
        if read > _MOST_READ:
            return
        yield part
