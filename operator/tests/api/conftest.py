"""What tests of the resource can ask for: an API server with all that charts/tritonllm-operator installs in it."""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

import api_server
import asking
import chart
import crds
from pool import until

_ADMISSION = "/apis/admissionregistration.k8s.io/v1"


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    """An administrator's connection. The server is another one than that of the operator's tests, which has no policy."""
    with api_server.running(tmp_path_factory.mktemp("guarded")) as server, server.client() as client:
        crds.install(client)
        for kind, plural in (
            ("ValidatingAdmissionPolicy", "validatingadmissionpolicies"),
            ("ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings"),
        ):
            for document in chart.operator({}):
                if document["kind"] == kind:
                    client.post(f"{_ADMISSION}/{plural}", json=document).raise_for_status()
        # It takes a moment until the server follows a new policy.
        until(lambda: not asking.create(client, {"guardrails": {"misspelt": 1}}).is_success)
        yield client


@pytest.fixture(scope="session")
def bare(api_server: api_server.ApiServer) -> Iterator[httpx.Client]:
    """An administrator's connection to a server that has the resource, but not the policy."""
    with api_server.client() as client:
        crds.install(client)
        yield client
