"""Pods that have a pool's labels and are not of it: refused, or ignored where a controller of Kubernetes made them."""

from __future__ import annotations

from typing import Any

import pytest

from harness import commands, network, operator, pods, traffic
from harness.helm import Release
from harness.kubernetes import Kubernetes, name

# Says who has connected to a port of the pool's pods.
_LISTENER = """
import socketserver, threading
class Seen(socketserver.BaseRequestHandler):
    def handle(self):
        print("asked at port", self.server.server_address[1], flush=True)
servers = [socketserver.TCPServer(("0.0.0.0", port), Seen) for port in (8000, 8001, 8002, 8003, 8080)]
for server in servers[1:]:
    threading.Thread(target=server.serve_forever).start()
print("listening", flush=True)
servers[0].serve_forever()
"""


def test_pods_with_the_labels_of_a_pool_are_neither_asked_nor_believed_and_its_endpoints_go_on(
    operating: operator.Operator, release: Release, kubernetes: Kubernetes
) -> None:
    template = _template(release)
    author = _author(kubernetes)
    release.apply(
        {
            "endpoints": [{"name": "chat", "spec": traffic.SPEC}],
            "operator": {"enabled": True, "namespace": operator.NAMESPACE},
            "weights": {"enabled": False},
        }
    )
    operator.until(kubernetes, "chat", "Loaded")
    with pytest.raises(commands.Failed, match="the pods of pool llm are made by its Deployment"):
        kubernetes.apply({"apiVersion": "v1", "kind": "Pod"} | template, user=author)
    with (
        traffic.steady(kubernetes, release.image, "chat", service=release.name) as load,
        load.window() as window,
    ):
        # Its pods are made by Kubernetes, which may.
        kubernetes.apply(_deployment(template), user=author)
        kubernetes.rolled_out("rogue")
        (rogue,) = kubernetes.pods("app=rogue")
        ignored = f"pod {kubernetes.namespace}/{name(rogue)} has the labels of pool llm and is not of its Deployment"
        commands.until(lambda: ignored in operating.logs(), 60, "the operator has seen it")

        kubernetes.apply(operator.endpoint("chat", release.name, traffic.with_phrases("zulu")))
        operator.until(kubernetes, "chat", "Loaded")
        status = kubernetes.get("llmendpoint", "chat")["status"]
        assert status["pods"]["summary"] == "1/1"
        assert set(status["observedPolicyHash"]) == {name(pod) for pod in kubernetes.pods(release.selector)}
        assert kubernetes.logs(name(rogue)).split("\n") == ["listening", ""]
        # It would have said so.
        assert network.reached(kubernetes, "load", [f"{rogue['status']['podIP']}:8001"])
        commands.until(
            lambda: "asked at port 8001" in kubernetes.logs(name(rogue)), 20, "it says who connects"
        )
    window.check()
    release.uninstall()


def _author(kubernetes: Kubernetes) -> str:
    """Creates a user who may change all workloads of the namespace; returns the name to impersonate."""
    subject = {"kind": "ServiceAccount", "name": "author", "namespace": kubernetes.namespace}
    kubernetes.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "author"}},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "RoleBinding",
            "metadata": {"name": "author"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "edit"},
            "subjects": [subject],
        },
    )
    return f"system:serviceaccount:{kubernetes.namespace}:author"


def _template(release: Release) -> dict[str, Any]:
    """A pod with the labels by which the operator finds those of the pool."""
    labels = {"tritonllm.io/pool": release.name, "app.kubernetes.io/component": "server", "app": "rogue"}
    container = {
        "name": "server",
        "image": release.image,
        "imagePullPolicy": "IfNotPresent",
        "command": ["python", "-c", _LISTENER],
        "securityContext": pods.SECURITY,
    }
    spec = {
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 1,
        "containers": [container],
    }
    return {"metadata": {"name": "rogue", "labels": labels}, "spec": spec}


def _deployment(template: dict[str, Any]) -> dict[str, Any]:
    spec = {"selector": {"matchLabels": {"app": "rogue"}}, "template": template}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "rogue"}, "spec": spec}
