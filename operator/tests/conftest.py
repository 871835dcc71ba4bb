"""What tests of the operator can ask for."""

from __future__ import annotations

import itertools
import signal
from collections.abc import Iterator

import pytest

import api_server as processes

_numbers = itertools.count(1)

# A shell starts what it puts in the background with SIGINT ignored, and everything below inherits that: a test of Ctrl-C
# would wait for ever.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def api_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[processes.ApiServer]:
    """A real API server, one for all tests."""
    with processes.running(tmp_path_factory.mktemp("api-server")) as server:
        yield server


@pytest.fixture
def namespace(api_server: processes.ApiServer) -> str:
    """A namespace for one test. It stays: only a controller could end its deletion."""
    name = f"test-{next(_numbers)}"
    with api_server.client() as client:
        client.post("/api/v1/namespaces", json={"metadata": {"name": name}}).raise_for_status()
    return name
