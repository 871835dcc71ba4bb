"""kubectl on one cluster and one namespace: what a scenario asks, applies and waits for."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import commands

# Pods that are on their way out still carry the labels of the others.
_GOING = "deletionTimestamp"


@dataclasses.dataclass(frozen=True)
class Kubernetes:
    """A namespace of a cluster.

    Attributes:
        kubeconfig: file that leads to the cluster.
        context: its context there.
        namespace: what all is asked of; empty for the cluster as a whole.
    """

    kubeconfig: Path
    context: str
    namespace: str = ""

    @property
    def environment(self) -> dict[str, str]:
        """For kubectl and helm."""
        return os.environ | {"KUBECONFIG": str(self.kubeconfig)}

    def within(self, namespace: str) -> Kubernetes:
        """The same cluster, another namespace."""
        return dataclasses.replace(self, namespace=namespace)

    def kubectl(self, *arguments: str, stdin: str | None = None, seconds: float = 120) -> str:
        """Runs kubectl.

        Raises:
            commands.Failed: it failed.
        """
        scope = ["--namespace", self.namespace] if self.namespace else []
        return commands.run(
            ["kubectl", "--context", self.context, *scope, *arguments],
            stdin=stdin,
            environment=self.environment,
            seconds=seconds,
        )

    def apply(self, *objects: Mapping[str, Any], user: str = "") -> None:
        """Applies manifests, as another user where one is named."""
        by = [f"--as={user}"] if user else []
        manifests = "\n---\n".join(json.dumps(each) for each in objects)
        self.kubectl("apply", *by, "--filename", "-", stdin=manifests)

    @contextlib.contextmanager
    def cordoned(self) -> Iterator[None]:
        """No node takes pods for as long as the block: all clusters are alike, also those of one node."""
        every = "--selector=kubernetes.io/os=linux"
        self.kubectl("cordon", every)
        try:
            yield
        finally:
            self.kubectl("uncordon", every)

    def get(self, kind: str, name: str) -> dict[str, Any]:
        """One object."""
        return json.loads(self.kubectl("get", kind, name, "--output", "json"))

    def list(self, kind: str, selector: str = "") -> list[dict[str, Any]]:
        """Objects of a kind, also of several kinds such as `pods,services`."""
        return json.loads(self.kubectl("get", kind, "--selector", selector, "--output", "json"))["items"]

    def pods(self, selector: str) -> list[dict[str, Any]]:
        """Pods that are not on their way out."""
        return [pod for pod in self.list("pods", selector) if _GOING not in pod["metadata"]]

    def ready(self, selector: str) -> list[str]:
        """Names of the pods that are ready and stay."""
        return [name(pod) for pod in self.pods(selector) if condition(pod, "Ready") == "True"]

    def wait(
        self, kind: str, condition: str, *, selector: str = "", name: str = "", seconds: float = 120
    ) -> None:
        """`kubectl wait` for a condition such as `condition=Ready` or `delete`."""
        which = [name] if name else ["--selector", selector]
        self.kubectl(
            "wait", kind, *which, f"--for={condition}", f"--timeout={seconds:.0f}s", seconds=seconds + 10
        )

    def rolled_out(self, deployment: str, seconds: float = 180) -> None:
        """Waits until all pods of a Deployment are of its current template, and ready."""
        self.kubectl(
            "rollout", "status", f"deployment/{deployment}", f"--timeout={seconds:.0f}s", seconds=seconds + 10
        )

    def logs(self, pod: str, container: str = "", *, previous: bool = False) -> str:
        """All that a container printed."""
        which = ["--container", container] if container else []
        return self.kubectl("logs", pod, *which, "--tail=-1", *(["--previous"] if previous else []))

    def execute(
        self, pod: str, command: Sequence[str], *, stdin: str | None = None, seconds: float = 60
    ) -> str:
        """Runs a command in a pod; its standard output."""
        given = [] if stdin is None else ["--stdin"]
        return self.kubectl("exec", *given, pod, "--", *command, stdin=stdin, seconds=seconds)


def name(item: Mapping[str, Any]) -> str:
    """The name of an object."""
    return item["metadata"]["name"]


def condition(item: Mapping[str, Any], kind: str) -> str:
    """The status of a condition: `True`, `False`, `Unknown`, or empty where there is none."""
    conditions: Iterable[Mapping[str, str]] = item.get("status", {}).get("conditions", [])
    return next((each["status"] for each in conditions if each["type"] == kind), "")
