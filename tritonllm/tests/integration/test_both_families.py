"""With `--host ::`, clients of IPv4 and of IPv6 are served; Triton's HTTP has the family of the pod."""

from __future__ import annotations

import socket
import urllib.request

import pytest

from integration import server

pytestmark = pytest.mark.skipif(
    not socket.has_ipv6 or not any("::1" in str(one) for one in socket.getaddrinfo("::1", 0)),
    reason="this machine has no IPv6",
)

ENDPOINT = """
    apiVersion: tritonllm.io/v1alpha1
    kind: LLMEndpoint
    metadata: {name: chat}
    spec: {pool: llm, engine: {type: simulated}, guardrails: {}}
"""
V4, V6 = "127.0.0.1", "[::1]"


def answers(host: str, url: str, path: str) -> bool:
    port = url.rsplit(":", 1)[1].split("/")[0]
    try:
        with urllib.request.urlopen(f"http://{host}:{port}{path}", timeout=10) as answer:
            return answer.status == 200
    except OSError:
        return False


def connects(host: str, address: str) -> bool:
    try:
        socket.create_connection((host.strip("[]"), int(address.rsplit(":", 1)[1])), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("pod_ip", "workers", "family"), [("10.0.0.7", 1, V4), ("fd00::7", 2, V6), ("", 1, V6)]
)
def test_every_port_listens_on_both_families_but_those_of_tritons_http(
    pod_ip: str, workers: int, family: str
) -> None:
    open_to_all = {"workers": workers, "allow_anonymous": True}
    with server.running([ENDPOINT], host="::", pod_ip=pod_ip, gateway=open_to_all) as served:
        for host in (V4, V6):
            assert answers(host, served.health, "/readyz"), host
            assert answers(host, served.gateway, "/health"), host
            assert connects(host, served.grpc), host
            assert answers(host, served.http, "/v2/health/live") == (host == family)
            assert answers(host, served.metrics, "/metrics") == (host == family)
