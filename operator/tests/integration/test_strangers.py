"""Pods that only look like a pool's get no secret and are not believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import model_control
import pool
from api_server import ApiServer
from pool import Pool, endpoint, until
from tritonllm_operator import names

COMMIT = "d" * 40
LABELS = {names.POOL: "llm", names.COMPONENT: "server"}
CONTAINER = {"name": "server", "image": "attacker"}


def stranger(llm: Pool, name: str, address: str, owners: list[pool.Json]) -> None:
    """A ready pod with the pool's labels, which also tells of weights."""
    metadata = {"name": name, "labels": LABELS, "ownerReferences": owners}
    inits = [{"name": "weights", "image": "attacker"}]
    llm.create("pods", {"metadata": metadata, "spec": {"containers": [CONTAINER], "initContainers": inits}})
    said = json.dumps({"endpoints": {"chat": {"commit": COMMIT}}})
    weights: Any = pool.ended(0, said, "weights")["initContainerStatuses"]
    llm.trouble(name, **pool.running(address), initContainerStatuses=weights)


def replica_set(llm: Pool, name: str, owners: list[pool.Json]) -> pool.Json:
    template = {"metadata": {"labels": LABELS}, "spec": {"containers": [CONTAINER]}}
    metadata = {"name": name, "labels": LABELS, "ownerReferences": owners}
    spec = {"selector": {"matchLabels": LABELS}, "template": template}
    return llm.create("replicasets", {"metadata": metadata, "spec": spec})


@pytest.mark.parametrize("kind", ["alone", "of a ReplicaSet", "of a Deployment that has the pool's name"])
def test_a_pod_with_the_pools_labels_gets_no_secret_and_its_commit_is_not_believed(
    api_server: ApiServer, llm: Pool, tritons: model_control.Tritons, tmp_path: Path, kind: str
) -> None:
    rogue = tritons.new()
    llm.as_left(endpoint(model={"repo": "org/one"}, engine={"type": "vllm"}))
    owners: list[pool.Json] = []
    if kind != "alone":
        former = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "llm", "uid": "former"}}
        above = [pool.owned_by(former)] if kind.startswith("of a Deployment") else []
        owners = [pool.owned_by(replica_set(llm, "rogue", above))]
    stranger(llm, "rogue", rogue.address, owners)
    try:
        with pool.operating(api_server, tmp_path, llm.name, resync=0.5) as operator:
            # The pool's own pods are followed all the same.
            llm.ban("chat", "other")
            until(
                lambda: all(each.told and each.done for each in llm.tritons.values()),
                lambda: (llm.status(), operator.story()),
            )
            operator.until_looked(2)
            assert llm.status()["pods"]["loaded"] <= llm.pods
            assert (
                f"pod {llm.name}/rogue has the labels of pool llm and is not of its Deployment"
                in operator.story()
            )
        assert rogue.told == []
        assert COMMIT not in json.dumps(llm.get("configmaps", "llm-endpoints"))
    finally:
        llm.delete("pods", "rogue")
        llm.delete("replicasets", "rogue")
        tritons.end(rogue)


def test_a_pod_that_the_pools_deployment_made_is_believed(
    api_server: ApiServer, llm: Pool, tmp_path: Path
) -> None:
    llm.as_left(endpoint(model={"repo": "org/one"}, engine={"type": "vllm"}))
    (first, _) = llm.tritons
    said = json.dumps({"endpoints": {"chat": {"commit": COMMIT}}})
    llm.trouble(first, initContainerStatuses=pool.ended(0, said, "weights")["initContainerStatuses"])
    with pool.operating(api_server, tmp_path, llm.name) as operator:
        until(
            lambda: COMMIT in json.dumps(llm.get("configmaps", "llm-endpoints")),
            lambda: (llm.status(), operator.story()),
        )
