"""What a kubelet does to the pods of a pool, by hand: they boot from the pool's file, serve or fail, and end.

No pod is on a node. So the API server deletes them at once, and no other component writes their status.
"""

from __future__ import annotations

from typing import Any

import model_control
from namespaces import Json, Namespace
from tritonllm_operator import names

_STARTED = "2026-01-01T00:00:00Z"


class Everything(dict[str, Json]):
    """The same for every revision but one."""

    def __init__(self, but: str, value: Json) -> None:
        super().__init__()
        self._but, self._value = but, value

    def get(self, key: str, default: Any = None) -> Any:
        """As of a dict."""
        return default if key == self._but else self._value


class Kubelet:
    """That of one pool's pods.

    Attributes:
        tritons: of the pods, by the pods' names.
        broken: what keeps pods of a revision from running: fields of their status, by revision.
        static: what pods boot from that their chart gave a file.
    """

    def __init__(self, namespace: Namespace, pool: str, grid: model_control.Tritons) -> None:
        self.tritons: dict[str, model_control.Triton] = {}
        self.broken: dict[str, Json] = {}
        self.static = ""
        self._namespace = namespace
        self._pool = pool
        self._grid = grid

    def pods(self) -> list[Json]:
        """The pods that the controllers created, without others that have the same labels."""
        labels = f"{names.POOL}={self._pool},{names.COMPONENT}=server,pod-template-hash"
        return self._namespace.list("pods", labels)

    def step(self) -> None:
        """Does once what there is to do."""
        pods = self.pods()
        for gone in self.tritons.keys() - {pod["metadata"]["name"] for pod in pods}:
            self._grid.end(self.tritons.pop(gone))
        for pod in pods:
            self._look_after(pod)

    def _look_after(self, pod: Json) -> None:
        name, annotations = pod["metadata"]["name"], pod["metadata"].get("annotations", {})
        broken = self.broken.get(annotations.get(names.REVISION, ""))
        if broken is not None:
            if any(pod["status"].get(key) != value for key, value in broken.items()):
                self._namespace.trouble(name, **broken)
            return
        text = None if _ready(pod) else self._file(annotations)
        if text is not None:
            self.tritons[name] = self._grid.new()
            self.tritons[name].boot(text)
            self._namespace.trouble(name, **running(self.tritons[name].address))

    def _file(self, annotations: Json) -> str | None:
        if names.STATIC in annotations:
            return self.static
        data = (self._namespace.get("configmaps", f"{self._pool}-endpoints") or {}).get("data", {})
        return data.get(names.key(annotations.get(names.REVISION, "")))


def running(address: str) -> Json:
    """The status of a pod that serves."""
    server = {
        "name": "server",
        "started": True,
        "ready": True,
        "image": "x",
        "imageID": "x",
        "restartCount": 0,
    }
    return {
        "phase": "Running",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [{"type": "Ready", "status": "True"}],
        "containerStatuses": [{**server, "state": {"running": {"startedAt": _STARTED}}}],
    }


def waiting(reason: str, message: str = "", container: str = "server") -> Json:
    """The status of a pod whose container can't start."""
    state = {"waiting": {"reason": reason, "message": message}}
    return {"phase": "Pending", **_container(container, state)}


def ended(code: int, message: str = "", container: str = "server") -> Json:
    """The status of a pod whose container ended."""
    times = {"startedAt": _STARTED, "finishedAt": _STARTED}
    state = {"terminated": {"exitCode": code, "reason": "Error", "message": message, **times}}
    return {"phase": "Pending", **_container(container, state)}


def _container(name: str, state: Json) -> Json:
    status = {"name": name, "ready": False, "image": "registry/tritonllm:1", "imageID": "", "restartCount": 1}
    kind = "initContainerStatuses" if name == "weights" else "containerStatuses"
    return {kind: [{**status, "started": False, "state": state}]}


def _ready(pod: Json) -> bool:
    conditions = pod.get("status", {}).get("conditions", ())
    return any(item["type"] == "Ready" and item["status"] == "True" for item in conditions)
