"""Pods of the tests' own, which keep to the restricted Pod Security Standard as every namespace here enforces it."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from harness.kubernetes import Kubernetes

SECURITY = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "runAsNonRoot": True,
    "runAsUser": 10001,
    "seccompProfile": {"type": "RuntimeDefault"},
}
"""Of a container that the standard admits."""


@contextlib.contextmanager
def running(
    kubernetes: Kubernetes,
    name: str,
    image: str,
    command: Sequence[str],
    files: Mapping[str, str] | None = None,
    *,
    labels: Mapping[str, str] | None = None,
    ports: Sequence[int] = (),
    ready: str = "",
) -> Iterator[str]:
    """A pod, for as long as the block.

    Args:
        kubernetes: the namespace.
        name: of the pod, and of the Service for its ports.
        image: what it runs.
        command: with its arguments.
        files: texts that it finds in /files, by name.
        labels: beside its own.
        ports: what a Service of its name leads to.
        ready: path on the first port that answers when it is ready; empty for none.

    Yields:
        Its name; it is ready.
    """
    objects = [_config_map(name, files or {}), _pod(name, image, command, labels or {}, ports, ready)]
    if ports:
        spec = {
            "selector": {"app": name},
            "ports": [{"name": f"port-{port}", "port": port} for port in ports],
        }
        objects.append({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
    kubernetes.apply(*objects)
    kubernetes.wait("pod", "condition=Ready", name=name)
    yield name
    # After a failure it stays, so that what it printed can be shown.
    kubernetes.kubectl("delete", "pod", name, "--now")
    kubernetes.kubectl("delete", "configmap,service", name, "--ignore-not-found")


def _config_map(name: str, files: Mapping[str, str]) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": dict(files)}


def _pod(
    name: str, image: str, command: Sequence[str], labels: Mapping[str, str], ports: Sequence[int], ready: str
) -> dict[str, Any]:
    container: dict[str, Any] = {
        "name": name,
        "image": image,
        "imagePullPolicy": "IfNotPresent",
        "command": list(command),
        "securityContext": SECURITY,
        "volumeMounts": [{"name": "files", "mountPath": "/files"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    if ready:
        container["readinessProbe"] = {"httpGet": {"path": ready, "port": ports[0]}, "periodSeconds": 1}
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name, **labels}},
        "spec": {
            "automountServiceAccountToken": False,
            "restartPolicy": "Never",
            "terminationGracePeriodSeconds": 5,
            "containers": [container],
            "volumes": [{"name": "files", "configMap": {"name": name}}, {"name": "tmp", "emptyDir": {}}],
        },
    }


def fetch(
    kubernetes: Kubernetes, pod: str, url: str, body: Mapping[str, Any] | None = None, seconds: float = 20
) -> str:
    """What a pod with Python gets from a URL, whatever the status.

    Args:
        kubernetes: its namespace.
        pod: who asks.
        url: whom.
        body: what is posted, as JSON; None to get.
        seconds: how long an answer may take.
    """
    script = (
        "import sys, urllib.error, urllib.request\n"
        "body = sys.argv[3].encode() or None\n"
        "try:\n    answer = urllib.request.urlopen(sys.argv[1], body, timeout=float(sys.argv[2]))\n"
        "except urllib.error.HTTPError as error:\n    answer = error\n"
        "print(answer.read().decode())\n"
    )
    posted = "" if body is None else json.dumps(body)
    command = ["python", "-c", script, url, str(seconds), posted]
    return kubernetes.execute(pod, command, seconds=seconds + 30)
