"""charts/tritonllm-operator and the endpoints it looks after, as a user installs and edits them."""

from __future__ import annotations

import contextlib
import json
import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import commands
from harness.images import ROOT
from harness.kubernetes import Kubernetes

CHART = ROOT / "charts/tritonllm-operator"
NAME = "tritonllm-operator"
NAMESPACE = "tritonllm-operator"


class Operator:
    """The operator of a cluster.

    Attributes:
        kubernetes: its namespace.
    """

    def __init__(self, kubernetes: Kubernetes) -> None:
        self.kubernetes = kubernetes

    def apply(self, image: str, chart: Path = CHART) -> None:
        """Installs it with its CRD, or upgrades both.

        Args:
            image: what it runs, `repository:tag`.
            chart: directory or archive of the chart.
        """
        repository, _, tag = image.rpartition(":")
        chosen = {"image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"}}
        self._helm("upgrade", NAME, str(chart), "--install", "--values", "-", stdin=json.dumps(chosen))

    def roll_back(self) -> None:
        """Goes back to the revision before the last one."""
        self._helm("rollback", NAME)

    def uninstall(self) -> None:
        """Removes it, if it is there; the CRD and endpoints stay."""
        self._helm("uninstall", NAME, "--ignore-not-found")

    def _helm(self, *arguments: str, stdin: str | None = None) -> None:
        there = self.kubernetes
        scope = ["--kube-context", there.context, "--namespace", there.namespace]
        wait = ["--wait", "--timeout", "120s"]
        commands.run(
            ["helm", *scope, *arguments, *wait], stdin=stdin, environment=there.environment, seconds=150
        )

    def kill(self, chance: random.Random) -> None:
        """Ends one of its processes without a warning; the Deployment brings another one."""
        pod = chance.choice(self.kubernetes.list("pods", f"app.kubernetes.io/name={NAME}"))
        name = pod["metadata"]["name"]
        self.kubernetes.kubectl("delete", "pod", name, "--grace-period=0", "--force", "--wait=false")

    def logs(self) -> str:
        """All that one of its processes printed."""
        return self.kubernetes.kubectl("logs", f"deployment/{NAME}", "--tail=-1")

    def scale(self, replicas: int) -> None:
        """Takes it away, or brings it back, and waits until that is done."""
        self.kubernetes.kubectl("scale", f"deployment/{NAME}", f"--replicas={replicas}")
        if replicas:
            self.kubernetes.rolled_out(NAME)
        else:
            self.kubernetes.wait("pods", "delete", selector=f"app.kubernetes.io/name={NAME}")


@contextlib.contextmanager
def alone(everywhere: Kubernetes) -> Iterator[Operator]:
    """The only operator of a cluster for as long as the block; nothing is installed yet.

    Args:
        everywhere: the cluster.
    """
    there = everywhere.within(NAMESPACE)
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    everywhere.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE, "labels": labels}}
    )
    found = Operator(there)
    try:
        yield found
    finally:
        found.uninstall()
        # Until it is gone nobody can install it again.
        everywhere.kubectl("delete", "namespace", NAMESPACE, "--timeout=100s")


def endpoint(name: str, pool: str, spec: Mapping[str, Any]) -> dict[str, Any]:
    """An LLMEndpoint to apply."""
    return {
        "apiVersion": "tritonllm.io/v1alpha1",
        "kind": "LLMEndpoint",
        "metadata": {"name": name},
        "spec": {"pool": pool, **spec},
    }


def conditions(kubernetes: Kubernetes, name: str) -> dict[str, dict[str, str]]:
    """The conditions of an endpoint by type; none where they are about an older version of it."""
    found = kubernetes.get("llmendpoint", name)
    status = found.get("status", {})
    if status.get("observedGeneration") != found["metadata"]["generation"]:
        return {}
    return {each["type"]: each for each in status["conditions"]}


def until(
    kubernetes: Kubernetes,
    name: str,
    kind: str,
    status: str = "True",
    *,
    reason: str = "",
    seconds: float = 120,
) -> dict[str, str]:
    """Waits for a condition of an endpoint as it is now.

    Args:
        kubernetes: its namespace.
        name: of the endpoint.
        kind: of the condition.
        status: wanted.
        reason: wanted, where one is given.
        seconds: how long.

    Returns:
        The condition.

    Raises:
        AssertionError: it does not come.
    """

    def there() -> bool:
        found = conditions(kubernetes, name).get(kind, {})
        return found.get("status") == status and (not reason or found.get("reason") == reason)

    commands.until(there, seconds, f"{kind} of {name} is {status} {reason}")
    return conditions(kubernetes, name)[kind]
