"""Pools of a real API server for tests: what charts/tritonllm-pool makes, what Kubernetes would do with it, the operator.

Without nodes and controllers nothing happens to a Deployment by itself, so `Pool.step` is its controller and its
kubelet: pods of the newest template come, boot from the ConfigMap, and those of former templates go.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import copy
import dataclasses
import datetime
import hashlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

import model_control
from api_server import ApiServer, free_ports
from tritonllm import allow, api, files
from tritonllm_operator import bodies, facts, names, plan, pods, pools, revisions, status

Json = dict[str, Any]
_MERGE = {"Content-Type": "application/merge-patch+json"}
_APPLY = {"Content-Type": "application/apply-patch+yaml"}
_ENDPOINTS = f"/apis/{api.API_VERSION}"
_PLACES = {
    "llmendpoints": _ENDPOINTS,
    "deployments": "/apis/apps/v1",
    "replicasets": "/apis/apps/v1",
    "jobs": "/apis/batch/v1",
    "configmaps": "/api/v1",
    "pods": "/api/v1",
    "secrets": "/api/v1",
    "events": "/api/v1",
}
_STARTED = "2026-01-01T00:00:00Z"


def until(condition: Callable[[], Any], story: Callable[[], object] = str, seconds: float = 120) -> Any:
    """Waits for a condition and returns what came true.

    Raises:
        AssertionError: it does not come true in time.
    """
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, f"not within {seconds} s: {story()}"
        time.sleep(0.02)
    return found


def endpoint(
    name: str = "chat", *, pool: str = "llm", phrases: Sequence[str] = ("forbidden",), **spec: Any
) -> Json:
    """An LLMEndpoint as a user writes it: simulated, with one list of banned phrases."""
    rules = [{"name": "words", "action": "Mask", "banned": {"phrases": list(phrases)}}]
    return {
        "apiVersion": api.API_VERSION,
        "kind": api.KIND,
        "metadata": {"name": name},
        "spec": {"pool": pool, "engine": {"type": "simulated"}, "guardrails": {"output": rules}} | spec,
    }


def valid(resource: Mapping[str, Any]) -> api.LLMEndpoint:
    """The same, validated."""
    found, problems = files.resource(resource, deep=False)
    assert found is not None, problems
    return found


class Namespace:
    """What a user does in one namespace."""

    def __init__(self, client: httpx.Client, name: str) -> None:
        self.client = client
        self.name = name

    def path(self, kind: str, name: str = "") -> str:
        """Where objects of a kind are."""
        return "/".join(filter(None, (f"{_PLACES[kind]}/namespaces/{self.name}/{kind}", name)))

    def get(self, kind: str, name: str) -> Json | None:
        """An object, if there is one."""
        answer = self.client.get(self.path(kind, name))
        return None if answer.status_code == 404 else answer.raise_for_status().json()

    def list(self, kind: str) -> list[Json]:
        """All objects of a kind."""
        return self.client.get(self.path(kind)).raise_for_status().json()["items"]

    def create(self, kind: str, body: Mapping[str, Any]) -> Json:
        """Makes an object."""
        answer = self.client.post(self.path(kind), json=body)
        assert answer.is_success, answer.text
        return answer.json()

    def patch(self, kind: str, name: str, body: Mapping[str, Any], part: str = "") -> Json:
        """Changes fields of an object."""
        answer = self.client.patch(self.path(kind, name) + part, json=body, headers=_MERGE)
        assert answer.is_success, answer.text
        return answer.json()

    def apply(self, kind: str, body: Mapping[str, Any], manager: str) -> Json:
        """Server-side apply."""
        place = self.path(kind, body["metadata"]["name"])
        query = {"fieldManager": manager, "force": "true"}
        answer = self.client.patch(place, json=body, headers=_APPLY, params=query)
        assert answer.is_success, answer.text
        return answer.json()

    def delete(self, kind: str, name: str) -> None:
        """Deletes an object at once."""
        place = self.path(kind, name)
        self.client.request(
            "DELETE", place, json={"gracePeriodSeconds": 0, "propagationPolicy": "Background"}
        )

    def edit(self, name: str, **spec: Any) -> int:
        """Changes fields of an endpoint's spec.

        Returns:
            Its new generation.
        """
        return self.patch("llmendpoints", name, {"spec": spec})["metadata"]["generation"]

    def ban(self, name: str, *phrases: str) -> int:
        """Gives an endpoint's policy other phrases."""
        return self.edit(name, guardrails=endpoint(phrases=phrases)["spec"]["guardrails"])

    def status(self, name: str = "chat") -> Json:
        """An endpoint's status, with its conditions by type."""
        status = (self.get("llmendpoints", name) or {}).get("status", {})
        return {**status, "conditions": {item["type"]: item for item in status.get("conditions", ())}}

    def condition(self, kind: str, name: str = "chat") -> tuple[str, str, str]:
        """A condition's status, reason and message."""
        found = self.status(name)["conditions"].get(kind, {})
        return found.get("status", ""), found.get("reason", ""), found.get("message", "")

    def events(self, name: str = "chat") -> list[tuple[str, str, str]]:
        """Type, reason and message of all Events about an endpoint."""
        return [
            (item["type"], item["reason"], item["message"])
            for item in self.list("events")
            if item["involvedObject"]["name"] == name
        ]

    def versions(self) -> dict[str, str]:
        """The resourceVersion of everything: the same twice means that nobody wrote."""
        return {
            f"{kind}/{item['metadata']['name']}": item["metadata"]["resourceVersion"]
            for kind in _PLACES
            for item in self.list(kind)
        }


class Everything(dict[str, Json]):
    """The same for every revision but one."""

    def __init__(self, but: str, value: Json) -> None:
        super().__init__()
        self._but, self._value = but, value

    def get(self, key: str, default: Any = None) -> Any:
        """As of a dict."""
        return default if key == self._but else self._value


class Pool(Namespace):
    """One pool.

    Attributes:
        tritons: of its pods, by the pods' names.
        broken: what keeps pods of a revision from running: fields of their status, by revision.
        deadline_passed: whether a roll that is not complete counts as too slow.
    """

    def __init__(
        self,
        client: httpx.Client,
        namespace: str,
        grid: model_control.Tritons,
        pool: str = "llm",
        pods: int = 2,
    ) -> None:
        super().__init__(client, namespace)
        self.pool = pool
        self.pods = pods
        self.tritons: dict[str, model_control.Triton] = {}
        self.broken: dict[str, Json] = {}
        self.deadline_passed = False
        self._grid = grid
        self._made = 0
        self._static = ""
        self._stop = threading.Event()
        self._controller: threading.Thread | None = None
        self._trouble: list[BaseException] = []

    def install(self, secret: str = model_control.SECRET, **annotations: str) -> None:
        """What `helm install` makes, without pods."""
        encoded = base64.b64encode(secret.encode()).decode()
        self.create("secrets", {"metadata": {"name": f"{self.pool}-api"}, "data": {"key": encoded}})
        self.create("deployments", self.deployment(**annotations))

    def deployment(self, **annotations: str) -> Json:
        """The Deployment of the chart, as far as it matters here."""
        labels = {names.POOL: self.pool, names.COMPONENT: "server"}
        container = {"name": "server", "image": "tritonllm"}
        weights = annotations.get("weights", "None")
        inits = [] if weights == "None" else [{"name": "weights", "image": "tritonllm"}]
        return {
            "apiVersion": "apps/v1",
            "kind": "Deployment",
            "metadata": {
                "name": self.pool,
                "labels": {names.POOL: self.pool},
                "annotations": {
                    names.RUNTIME: "vllm-0.24.0",
                    names.OPERATOR: annotations.get("operator", "true"),
                    names.API_SECRET: f"{self.pool}-api",
                    names.API_SECRET_KEY: "key",
                    names.DRAIN_SECONDS: "300",
                    names.ALLOW: annotations.get("allow", allow.EVERYTHING.model_dump_json(by_alias=True)),
                    names.GPUS: annotations.get("gpus", "0"),
                    names.WEIGHTS: weights,
                    names.BRINGS: annotations.get("brings", ""),
                },
            },
            "spec": {
                "replicas": self.pods,
                "selector": {"matchLabels": labels},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}},
                "template": {
                    "metadata": {"labels": labels},
                    "spec": {"containers": [container], "initContainers": inits},
                },
            },
        }

    def as_left(self, *endpoints: Json, commit: str = "", told: bool = False, **annotations: str) -> None:
        """A pool that an operator has served before and then went away from: endpoints, ConfigMap, pods.

        Args:
            endpoints: of the pool.
            commit: of their weights.
            told: whether it has written the statuses, too.
            annotations: of the Deployment.
        """
        # An operator that is already there begins with what is there in the end.
        self.install(**annotations, operator="false")
        for item in endpoints:
            self.create("llmendpoints", item)
        deployment = self.get("deployments", self.pool)
        assert deployment is not None
        known = [valid(item).at(commit) if commit else valid(item) for item in endpoints]
        data = {names.key(""): revisions.text(known)}
        body = bodies.config_map(deployment, data, {names.GOOD: ""})
        self.apply("configmaps", dict(body), names.FIELD_MANAGER)
        self.settle()
        if told:
            self._tell()
        self.patch("deployments", self.pool, {"metadata": {"annotations": {names.OPERATOR: "true"}}})
        # Other annotations are another generation of a Deployment.
        self.settle()

    def as_static(self, *endpoints: Json) -> None:
        """A pool that its chart serves, without the operator."""
        self._static = revisions.text(map(valid, endpoints))
        self.install(operator="false")
        self._template({names.STATIC: "a-checksum"})
        self.settle()

    def hand_over(self) -> None:
        """What `helm upgrade --set operator.enabled=true` does first: endpoints come after it."""
        self._template({names.STATIC: None}, {names.OPERATOR: "true"})

    def run(self) -> None:
        """Begins to play controller and kubelet, until `close`."""

        def work() -> None:
            try:
                while not self._stop.wait(0.05):
                    self.step()
            except httpx.TransportError:
                # The API server is being restarted: nothing happens meanwhile.
                work()
            except BaseException as error:
                self._trouble.append(error)
                raise

        self._controller = threading.Thread(target=work, name=f"controller of {self.name}")
        self._controller.start()

    def settle(self) -> None:
        """Plays until there is nothing left to do."""
        for _ in range(4 * self.pods + 4):
            if not self.step():
                return
        raise AssertionError("the pool does not settle")

    def step(self) -> bool:
        """One move of controller and kubelet.

        Returns:
            Whether there was one to make.
        """
        deployment = self.get("deployments", self.pool)
        if deployment is None:
            return False
        template, wanted = deployment["spec"]["template"], deployment["spec"]["replicas"]
        mark = str(hash(json.dumps(template, sort_keys=True)))
        pods = [pod for pod in self._pods() if pod["metadata"]["labels"][names.COMPONENT] == "server"]
        moved = any(list(map(self._kubelet, pods)))
        new = [pod for pod in pods if pod["metadata"]["annotations"]["test/template"] == mark]
        old = [pod for pod in pods if pod not in new]
        ready = [pod for pod in pods if _ready(pod)]
        if len(new) < wanted and len(pods) <= wanted:
            self._make(deployment, mark)
            moved = True
        elif len(new) > wanted or (old and len(ready) > wanted):
            self._end(min(old or new, key=_ready))
            moved = True
        elif old and len(new) >= wanted and all(map(_ready, new)):
            self._end(old[0])
            moved = True
        self._report(deployment, pods, new)
        return moved

    def restart(self, pod: str) -> None:
        """A pod's container starts again, from the file as it is now."""
        seen = self.get("pods", pod)
        assert seen is not None
        self.tritons[pod].boot(self._file(seen) or "")

    def trouble(self, pod: str, **status: Any) -> None:
        """Sets fields of a pod's status."""
        self.patch("pods", pod, {"status": status}, "/status")

    def live(self, resource: Json, pods: int | None = None) -> bool:
        """Whether all pods hold exactly this version of an endpoint."""
        wanted = valid(resource)
        holding = [triton for triton in self.tritons.values() if triton.holds(wanted)]
        return len(holding) == len(self.tritons) >= (self.pods if pods is None else pods)

    def told(self, name: str = "chat") -> bool:
        """Whether an endpoint's status says that its newest version is live."""
        resource = self.get("llmendpoints", name)
        status = (resource or {}).get("status", {})
        return (
            resource is not None
            and status.get("observedGeneration") == resource["metadata"]["generation"]
            and [item["status"] for item in status["conditions"]] == ["True"] * 4
        )

    def as_wanted(self, name: str = "chat") -> bool:
        """Whether the newest version of an endpoint is live on all pods, and its status says so."""
        return self.told(name) and self.live(self.get("llmendpoints", name) or {})

    def file(self, revision: str = "") -> Json:
        """What pods of a revision boot from: specs by endpoint."""
        data = (self.get("configmaps", f"{self.pool}-endpoints") or {}).get("data", {})
        items = json.loads(data.get(names.key(revision), '{"items": []}'))["items"]
        return {item["metadata"]["name"]: item["spec"] for item in items}

    def revision(self) -> str | None:
        """The revision of the pod template; None where it has none."""
        deployment = self.get("deployments", self.pool) or {}
        return (deployment["spec"]["template"]["metadata"].get("annotations") or {}).get(names.REVISION)

    def uninstall(self) -> None:
        """What `helm uninstall` and the garbage collection after it leave: endpoints that were made without Helm."""
        self.delete("deployments", self.pool)
        self.delete("secrets", f"{self.pool}-api")
        for pod in self._pods():
            self._end(pod)
        for kind in ("configmaps", "jobs", "replicasets"):
            for item in self.list(kind):
                if item["metadata"].get("labels", {}).get(names.POOL) == self.pool:
                    self.delete(kind, item["metadata"]["name"])

    def close(self) -> None:
        """Ends everything, so that other tests' operators don't see it."""
        self._stop.set()
        if self._controller is not None:
            self._controller.join()
        for item in self.list("llmendpoints"):
            if item["spec"]["pool"] == self.pool:
                self.delete("llmendpoints", item["metadata"]["name"])
        self.uninstall()
        if self._trouble:
            raise self._trouble[0]

    def _tell(self) -> None:
        deployment = self.get("deployments", self.pool) or {}
        deployment["metadata"]["annotations"][names.OPERATOR] = "true"
        parameters = {
            name: {model: held.config.parameters for model, held in triton.models.items()}
            for name, triton in self.tritons.items()
        }
        seen = [
            dataclasses.replace(
                pods.read(pod),
                models={
                    model: facts.ModelState(
                        "READY", found["spec_hash"].string_value, found["kind"].string_value
                    )
                    for model, found in parameters[pod["metadata"]["name"]].items()
                },
            )
            for pod in self._pods()
        ]
        world = facts.World(
            self.name,
            self.pool,
            datetime.datetime.now(datetime.UTC),
            [item for item in self.list("llmendpoints") if item["spec"]["pool"] == self.pool],
            pools.read(deployment),
            pools.files(self.get("configmaps", f"{self.pool}-endpoints") or {}),
            seen,
        )
        decided = plan.decide(world)
        assert not decided.acts
        for judged in decided.judged:
            body = {
                "apiVersion": api.API_VERSION,
                "kind": api.KIND,
                "metadata": {"name": judged.name},
                "status": status.build(world, decided, judged.name),
            }
            place = self.path("llmendpoints", judged.name) + "/status"
            query = {"fieldManager": names.FIELD_MANAGER, "force": "true"}
            self.client.patch(place, json=body, headers=_APPLY, params=query).raise_for_status()

    def _template(self, annotations: Json, of_deployment: Json | None = None) -> None:
        template = {"metadata": {"annotations": annotations}}
        body = {"metadata": {"annotations": of_deployment or {}}, "spec": {"template": template}}
        self.patch("deployments", self.pool, body)

    def _pods(self) -> list[Json]:
        return [
            pod
            for pod in self.list("pods")
            if pod["metadata"]["labels"].get(names.POOL) == self.pool
            # Not those that somebody else has made.
            and "test/template" in pod["metadata"].get("annotations", {})
        ]

    def _file(self, pod: Json) -> str | None:
        if names.STATIC in pod["metadata"]["annotations"]:
            return self._static
        data = (self.get("configmaps", f"{self.pool}-endpoints") or {}).get("data", {})
        return data.get(names.key(pod["metadata"]["annotations"].get(names.REVISION, "")))

    def _make(self, deployment: Json, mark: str) -> None:
        self._made += 1
        template = deployment["spec"]["template"]
        metadata = copy.deepcopy(template["metadata"])
        metadata["name"] = f"{self.pool}-{self._made}"
        metadata["annotations"] = (metadata.get("annotations") or {}) | {"test/template": mark}
        metadata["ownerReferences"] = [owned_by(self.replica_set(deployment, mark))]
        containers = [{"name": "server", "image": "tritonllm"}]
        self.create("pods", {"metadata": metadata, "spec": {"containers": containers}})

    def replica_set(self, deployment: Json, mark: str) -> Json:
        """That of the Deployment's newest template."""
        name = f"{self.pool}-{hashlib.sha256(mark.encode()).hexdigest()[:8]}"
        template = deployment["spec"]["template"]
        labels = template["metadata"]["labels"]
        metadata = {"name": name, "labels": labels, "ownerReferences": [owned_by(deployment)]}
        spec = {"selector": {"matchLabels": labels}, "template": template}
        return self.get("replicasets", name) or self.create(
            "replicasets", {"metadata": metadata, "spec": spec}
        )

    def _end(self, pod: Json) -> None:
        name = pod["metadata"]["name"]
        self.delete("pods", name)
        if name in self.tritons:
            self._grid.end(self.tritons.pop(name))

    def _kubelet(self, pod: Json) -> bool:
        name = pod["metadata"]["name"]
        broken = self.broken.get(pod["metadata"]["annotations"].get(names.REVISION, ""))
        if broken is not None:
            if any(pod["status"].get(key) != value for key, value in broken.items()):
                self.trouble(name, **broken)
            return False
        if _ready(pod):
            return False
        text = self._file(pod)
        if text is None:
            return False
        self.tritons[name] = self._grid.new()
        self.tritons[name].boot(text)
        self.trouble(name, **running(self.tritons[name].address))
        return True

    def _report(self, deployment: Json, pods: Sequence[Json], new: Sequence[Json]) -> None:
        wanted, ready = deployment["spec"]["replicas"], [pod for pod in pods if _ready(pod)]
        done = len(new) == len(pods) == len(ready) == wanted
        reason = "NewReplicaSetAvailable" if done else "ReplicaSetUpdated"
        if self.deadline_passed and not done:
            reason = "ProgressDeadlineExceeded"
        status = {
            "observedGeneration": deployment["metadata"]["generation"],
            "replicas": len(pods),
            "updatedReplicas": len(new),
            "readyReplicas": len(ready),
            "availableReplicas": len(ready),
            "conditions": [
                {
                    "type": "Progressing",
                    "status": str(reason != "ProgressDeadlineExceeded"),
                    "reason": reason,
                    "lastUpdateTime": _STARTED,
                    "lastTransitionTime": _STARTED,
                }
            ],
        }
        before = deployment.get("status", {})
        if any(before.get(key, 0) != value for key, value in status.items()):
            with contextlib.suppress(AssertionError):
                self.patch("deployments", self.pool, {"status": status}, "/status")


def owned_by(controller: Json) -> Json:
    """What an object says of its controller."""
    metadata = controller["metadata"]
    kind = {"apiVersion": controller["apiVersion"], "kind": controller["kind"]}
    return {**kind, "name": metadata["name"], "uid": metadata["uid"], "controller": True}


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


class Operator:
    """The operator as a process.

    Attributes:
        log: what it says.
        url: of its metrics.
        pid: of the process.
    """

    def __init__(
        self,
        kubeconfig: Path,
        directory: Path,
        resync: float,
        namespaces: Iterable[str],
        code: str,
        settings: Mapping[str, str],
    ) -> None:
        self._environment = os.environ | {
            "KUBECONFIG": str(kubeconfig),
            "TRITONLLM_RESYNC_SECONDS": str(resync),
            "TRITONLLM_WATCH_NAMESPACES": ",".join(namespaces),
            **settings,
        }
        self._code = code
        self.log = directory / "operator.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.url = ""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def start(self) -> None:
        """Starts it; it need not have come to anything yet."""
        health, metrics = free_ports(2)
        self.url = f"http://127.0.0.1:{metrics}/metrics"
        ports = {"TRITONLLM_HEALTH_PORT": str(health), "TRITONLLM_METRICS_PORT": str(metrics)}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-c", f"{self._code}\nfrom tritonllm_operator import main; main.main()"],
                env=self._environment | ports,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """Ends it as a node that dies does."""
        assert self._process is not None
        self._process.kill()
        self._process.wait()

    def wait(self) -> int:
        """Waits until it ends by itself, and returns its exit code."""
        assert self._process is not None
        code = self._process.wait(60)
        self._process = None
        return code

    def stop(self) -> None:
        """Ends it in order."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGTERM)
        assert self._process.wait(60) in (0, -signal.SIGKILL), self.story()

    def metrics(self) -> dict[str, float]:
        """Its metrics by name and labels; empty as long as it does not answer."""
        with contextlib.suppress(httpx.TransportError):
            lines = httpx.get(self.url, trust_env=False).text.splitlines()
            return {
                name: float(value)
                for name, value in (line.rsplit(" ", 1) for line in lines if line[:1] != "#")
            }
        return {}

    def count(self, name: str, **labels: str) -> float:
        """The sum of a counter over all labels but these."""
        wanted = [f'{key}="{value}"' for key, value in labels.items()]
        return sum(
            value
            for key, value in self.metrics().items()
            if key.split("{")[0] == name and all(label in key for label in wanted)
        )

    def writes(self) -> float:
        """Writes to the API server and changes of models since its start."""
        requests = sum(
            self.count("tritonllm_operator_api_requests_total", method=method)
            for method in ("POST", "PATCH", "PUT", "DELETE")
        )
        return requests + self.count("tritonllm_operator_model_changes_total")

    def passes(self) -> float:
        """Looks at pools since its start."""
        return self.count("tritonllm_operator_passes_total")

    def until_looked(self, times: int = 1) -> None:
        """Waits until it has begun and ended so many further looks at pools."""
        before = self.passes()
        until(lambda: self.passes() > before + times, self.story)

    def story(self) -> str:
        """What to print when a test fails."""
        return self.log.read_text(errors="replace")[-6000:]


@contextlib.contextmanager
def operating(
    api: ApiServer | Path,
    directory: Path,
    *namespaces: str,
    resync: float = 60,
    code: str = "",
    settings: Mapping[str, str] | None = None,
) -> Iterator[Operator]:
    """An operator until the end of the block, in which it has met no bug.

    Args:
        api: the API server, as its administrator; or a kubeconfig.
        directory: for its log.
        namespaces: that it watches; none for all.
        resync: seconds.
        code: run in its process before it begins.
        settings: more variables of its environment.
    """
    kubeconfig = api if isinstance(api, Path) else api.kubeconfig
    operator = Operator(kubeconfig, directory, resync, namespaces, code, settings or {})
    operator.start()
    try:
        yield operator
    finally:
        operator.stop()
    text = operator.log.read_text()
    assert "a bug" not in text, text[-8000:]
    # The frames of a traceback; kopf has some of its own when it ends in a hurry.
    assert "tritonllm_operator/" not in text, text[-8000:]


def counted(events: Iterable[tuple[str, str, str]]) -> collections.Counter[tuple[str, str]]:
    """How many Events of each type and reason there are."""
    return collections.Counter((kind, reason) for kind, reason, _ in events)
