"""Who counts as connected."""

from __future__ import annotations

import os
import socket

import pytest

from tritonllm.serve import connections


@pytest.mark.parametrize(
    ("address", "here"),
    [
        ("127.0.0.1", True),
        ("::1", True),
        ("::ffff:127.0.0.6", True),
        ("10.244.0.7", False),
        ("::ffff:10.244.0.7", False),
        ("fe80::1%eth0", False),
    ],
)
def test_an_address_of_this_machine_is_told_from_others(address: str, here: bool) -> None:
    assert connections.is_here(address) is here


def test_open_connections_to_the_port_count_and_closed_ones_do_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)) as client:
            accepted, _ = server.accept()
            with accepted:
                assert connections.from_elsewhere(os.getpid(), port) == 0
                monkeypatch.setattr(connections, "is_here", lambda address: False)
                assert connections.from_elsewhere(os.getpid(), port) == 1
                assert connections.from_elsewhere(os.getpid(), client.getsockname()[1]) == 1
        assert connections.from_elsewhere(os.getpid(), port) == 0
