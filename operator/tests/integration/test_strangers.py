"""Pods that only look like a pool's get no secret and are not believed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import kubelet
import model_control
import pool
from api_server import ApiServer
from pool import Pool, endpoint, until
from tritonllm_operator import names

COMMIT = "d" * 40
LABELS = {names.POOL: "llm", names.COMPONENT: "server"}
SPEC = {
    "containers": [{"name": "server", "image": "attacker"}],
    "initContainers": [{"name": "weights", "image": "attacker"}],
}
FORMER = {"apiVersion": "apps/v1", "kind": "Deployment", "name": "llm", "uid": "former", "controller": True}


def stranger(llm: Pool, kind: str) -> str:
    """A pod with the pool's labels, and its name."""
    if kind == "alone":
        llm.create("pods", {"metadata": {"name": "rogue", "labels": LABELS}, "spec": SPEC})
        return "rogue"
    template = {"metadata": {"labels": LABELS}, "spec": SPEC}
    # With labels of its own, the Deployment would adopt it.
    metadata = {"name": "rogue", "finalizers": ["example.com/stay"]}
    spec = {"selector": {"matchLabels": LABELS}, "template": template}
    llm.create("replicasets", {"metadata": metadata, "spec": spec})
    (pod,) = until(lambda: llm.list("pods", f"{names.POOL}=llm,!pod-template-hash"))
    if kind.startswith("of a Deployment"):
        # The garbage collector ends what has an owner that is not there. The finalizer keeps it for a while.
        llm.patch("replicasets", "rogue", {"metadata": {"ownerReferences": [FORMER]}})
    return pod["metadata"]["name"]


@pytest.mark.parametrize("kind", ["alone", "of a ReplicaSet", "of a Deployment that has the pool's name"])
def test_a_pod_with_the_pools_labels_gets_no_secret_and_its_commit_is_not_believed(
    api_server: ApiServer, llm: Pool, tritons: model_control.Tritons, tmp_path: Path, kind: str
) -> None:
    rogue = tritons.new()
    llm.as_left(endpoint(model={"repo": "org/one"}, engine={"type": "vllm"}))
    name = stranger(llm, kind)
    # It is ready, and tells of weights.
    said = json.dumps({"endpoints": {"chat": {"commit": COMMIT}}})
    weights: Any = kubelet.ended(0, said, "weights")["initContainerStatuses"]
    llm.trouble(name, **kubelet.running(rogue.address), initContainerStatuses=weights)
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
                f"pod {llm.name}/{name} has the labels of pool llm and is not of its Deployment"
                in operator.story()
            )
        assert rogue.told == []
        assert COMMIT not in json.dumps(llm.get("configmaps", "llm-endpoints"))
    finally:
        llm.delete("pods", "rogue")
        if kind != "alone":
            llm.delete("replicasets", "rogue")
            llm.patch("replicasets", "rogue", {"metadata": {"finalizers": None}})
        tritons.end(rogue)


def test_a_pod_that_the_pools_deployment_made_is_believed(
    api_server: ApiServer, llm: Pool, tmp_path: Path
) -> None:
    llm.as_left(endpoint(model={"repo": "org/one"}, engine={"type": "vllm"}))
    (first, _) = llm.tritons
    said = json.dumps({"endpoints": {"chat": {"commit": COMMIT}}})
    llm.trouble(first, initContainerStatuses=kubelet.ended(0, said, "weights")["initContainerStatuses"])
    with pool.operating(api_server, tmp_path, llm.name) as operator:
        until(
            lambda: COMMIT in json.dumps(llm.get("configmaps", "llm-endpoints")),
            lambda: (llm.status(), operator.story()),
        )
