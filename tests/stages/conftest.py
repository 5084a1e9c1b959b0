"""What the tests of several stages share."""

from collections.abc import Iterator

import pytest

from helpers.kill import Server


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Forks stages, and kills them."""
    server = Server()
    yield server
    server.close()
