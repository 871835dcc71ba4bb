"""Pools of a real API server for tests: what charts/tritonllm-pool makes, and the operator.

Deployments, ReplicaSets and Jobs are in the hands of Kubernetes' own controllers; pods in those of kubelet.py.
"""

from __future__ import annotations

import base64
import collections
import contextlib
import dataclasses
import datetime
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx

import model_control
from api_server import ApiServer, free_ports
from kubelet import Kubelet
from namespaces import Json, Namespace, until
from tritonllm import allow, api, files
from tritonllm_operator import bodies, facts, names, plan, pods, pools, revisions, status


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


class Pool(Namespace):
    """One pool.

    Attributes:
        pods: how many there are to be.
        kubelet: of its pods.
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
        self.kubelet = Kubelet(self, pool, grid)
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        self._trouble: list[BaseException] = []

    @property
    def tritons(self) -> dict[str, model_control.Triton]:
        """Of its pods, by the pods' names."""
        return self.kubelet.tritons

    def install(self, secret: str = model_control.SECRET, **annotations: str) -> None:
        """What `helm install` makes. Its pods wait for the kubelet."""
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
        self.kubelet.static = revisions.text(map(valid, endpoints))
        self.install(operator="false")
        self._template({names.STATIC: "a-checksum"})
        self.settle()

    def hand_over(self) -> None:
        """What `helm upgrade --set operator.enabled=true` does first: endpoints come after it."""
        self._template({names.STATIC: None}, {names.OPERATOR: "true"})

    def run(self) -> None:
        """Begins to play the kubelet, until `close`."""

        def work() -> None:
            while not self._stop.wait(0.05):
                try:
                    self.kubelet.step()
                except httpx.TransportError:
                    # The API server is being restarted: nothing happens meanwhile.
                    continue
                except BaseException as error:
                    self._trouble.append(error)
                    raise

        self._thread = threading.Thread(target=work, name=f"kubelet of {self.name}")
        self._thread.start()

    def settle(self) -> None:
        """Plays the kubelet until the Deployment is complete."""

        def complete() -> bool:
            self.kubelet.step()
            deployment = self.get("deployments", self.pool) or {}
            found = deployment["status"]
            counts = [found.get(f"{kind}eplicas", 0) for kind in ("r", "updatedR", "availableR")]
            observed = found.get("observedGeneration") == deployment["metadata"]["generation"]
            return observed and counts == [self.pods] * 3

        until(complete, lambda: (self.get("deployments", self.pool), self.kubelet.pods()))

    def deadline(self, seconds: int) -> None:
        """How long a roll may make no progress."""
        self.patch("deployments", self.pool, {"spec": {"progressDeadlineSeconds": seconds}})

    def ban(self, name: str, *phrases: str) -> int:
        """Gives an endpoint's policy other phrases."""
        return self.edit(name, guardrails=endpoint(phrases=phrases)["spec"]["guardrails"])

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

        def owned() -> list[Json]:
            label = f"{names.POOL}={self.pool}"
            found = (self.list(kind, label) for kind in ("replicasets", "pods", "configmaps", "jobs"))
            return [item for items in found for item in items if "ownerReferences" in item["metadata"]]

        until(lambda: not owned(), owned)

    def close(self) -> None:
        """Ends everything, so that other tests' operators don't see it."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()
        for item in self.list("llmendpoints"):
            if item["spec"]["pool"] == self.pool:
                self.delete("llmendpoints", item["metadata"]["name"])
        self.uninstall()
        self.kubelet.step()
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
            for pod in self.kubelet.pods()
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
            self.apply("llmendpoints", body, names.FIELD_MANAGER, "/status")

    def _template(self, annotations: Json, of_deployment: Json | None = None) -> None:
        template = {"metadata": {"annotations": annotations}}
        body = {"metadata": {"annotations": of_deployment or {}}, "spec": {"template": template}}
        self.patch("deployments", self.pool, body)


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


def until_as_wanted(llm: Pool, operator: Operator, *endpoints: str) -> None:
    """Waits until the newest versions of these endpoints, by default of `chat`, are live and their statuses say so."""
    for name in endpoints or ("chat",):
        until(lambda name=name: llm.as_wanted(name), lambda name=name: (llm.status(name), operator.story()))


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
