from __future__ import annotations

from collections.abc import Iterator

import pytest
from server import Server

from flux_client import Flux


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server()
    yield server
    server.remove()


@pytest.fixture(scope="module")
def shared() -> Iterator[Server]:
    """A server for tests that leave it alive; each uses a namespace of its own."""
    server = Server()
    yield server
    server.remove()


@pytest.fixture
def flux(shared: Server) -> Iterator[Flux]:
    with Flux(shared.url) as flux:
        yield flux
