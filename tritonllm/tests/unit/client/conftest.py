"""A server for the client, once for each protocol."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

import fake_triton


@pytest.fixture(params=[fake_triton.FakeGrpc, fake_triton.FakeHttp], ids=["grpc", "http"])
def fake(request: pytest.FixtureRequest) -> Iterator[fake_triton.FakeTriton]:
    """A server, once for each protocol."""
    server = request.param()
    yield server
    server.stop()
