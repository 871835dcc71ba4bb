"""A thousand endpoints cost an operator that starts anew some reading, and nothing else."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

import fleet
import model_control
import pool
from api_server import ApiServer
from pool import until

POOLS, ENDPOINTS = 20, 50


@pytest.mark.timeout(600)
def test_a_thousand_endpoints_in_twenty_pools_are_left_alone_after_a_restart(
    api_server: ApiServer,
    client: httpx.Client,
    tritons: model_control.Tritons,
    namespace: str,
    tmp_path: Path,
) -> None:
    count = POOLS * ENDPOINTS
    with fleet.of(client, [namespace], tritons, POOLS, ENDPOINTS) as pools:
        before = pools[0].versions()
        with pool.operating(api_server, tmp_path, namespace) as operator:
            until(lambda: operator.count("tritonllm_operator_endpoints") == count, operator.story, 120)
            until(lambda: operator.passes() >= POOLS, operator.story, 120)
            assert operator.writes() == 0
        assert pools[0].versions() == before
