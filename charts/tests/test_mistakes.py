"""Values that can't work together are refused before anything is installed, with what to do about them."""

from __future__ import annotations

import re
from typing import Any

import pytest

import chart

PICKED = {"endpoint": "chat", "endpointPicker": {"name": "picker"}}
SHARED = {"weights": {"accessMode": "ReadWriteMany"}}


def patched(**template: Any) -> dict[str, Any]:
    """Values with a `podTemplate`."""
    return {"podTemplate": template}


LISTED = {
    "name": "words",
    "action": "Mask",
    "banned": {"configMapRef": {"name": "words", "key": "list.txt"}},
}

MISTAKES: list[tuple[dict[str, Any], str]] = [
    ({"image": {"repository": ""}}, "image.repository is empty: build an image"),
    ({"endpoints": []}, "endpoints is empty, so the pods have nothing to serve"),
    ({"allow": {"benchmarks": True}}, "allow.benchmarks is true, but benchmark.image is empty"),
    ({"endpoints": [chart.endpoint(), chart.endpoint()]}, "endpoints: chat is a duplicate name"),
    ({"endpoints": [chart.endpoint("chat-engine")]}, "chat-engine must not end in -engine or -guardrail"),
    (
        {"endpoints": [chart.endpoint(guardrails={"output": [LISTED]})]},
        "rule words has banned.configMapRef, which the operator reads: set operator.enabled=true",
    ),
    (
        {"endpoints": [chart.endpoint(pool="other")]},
        "chat has spec.pool: other, but this release is the pool llm",
    ),
    (
        {
            "endpoints": [
                chart.endpoint(
                    guardrails={
                        "input": [
                            {"name": f"r{n}", "action": "Flag", "banned": {"phrases": ["x" * 250] * 1000}}
                            for n in range(4)
                        ]
                    }
                )
            ]
        },
        "KiB, and the maximum of a pool is 768 KiB",
    ),
    ({"readOnlyRootFilesystem": False}, "use securityContext.readOnlyRootFilesystem"),
    ({"gpu": {"count": 2}}, "endpoints use 1 of the 2 GPUs of each pod (gpu.count)"),
    (
        {
            "endpoints": [
                chart.endpoint(engine={"args": {"tensor_parallel_size": 2, "pipeline_parallel_size": 2}})
            ]
        },
        "chat needs 4 GPUs (tensor_parallel_size × pipeline_parallel_size × data_parallel_size, or device_ids), but each pod has gpu.count 1",
    ),
    (
        {"endpoints": [chart.endpoint(), chart.endpoint("code")]},
        "would use 1.84 of its memory (chat 0.92, code 0.92); lower engine.args.gpu_memory_utilization",
    ),
    ({"resources": {"limits": {"nvidia.com/gpu": 1}}}, "set gpu.count instead"),
    ({"weights": {"enabled": False}}, "chat needs weights, but weights.enabled is false"),
    ({"weights": {"type": "ExistingClaim"}}, "weights.existingClaim is empty: set the name of the claim"),
    ({"weights": {"existingClaim": "mine"}}, "set weights.type: ExistingClaim, or remove the claim"),
    ({"weights": {"type": "Ephemeral", "sync": {"enabled": False}}}, "so the volume would stay empty"),
    ({"weights": {"accessMode": "ReadOnlyMany"}}, "ReadOnlyMany, so nothing can be downloaded into it"),
    ({"weights": {"readOnly": True}}, "weights.readOnly is true, so nothing can be downloaded into it"),
    ({"weights": {"sync": {"enabled": False, "tokenSecret": {"name": "t"}}}}, "so the token is not used"),
    ({"replicas": 2}, "2 pods cannot share weights with accessMode ReadWriteOnce"),
    (
        {"autoscaling": {"enabled": True}},
        "4 pods cannot share weights with accessMode ReadWriteOnce, which only one node can mount: use a storage class with ReadWriteMany",
    ),
    ({"rollout": {"maxSurge": 1}}, "so a rollout could block forever: set rollout.maxSurge: 0"),
    (
        SHARED | {"autoscaling": {"enabled": True}, "replicas": 3},
        "replicas is 3, but with autoscaling.enabled",
    ),
    (
        SHARED | {"autoscaling": {"enabled": True, "minReplicas": 9}},
        "autoscaling.minReplicas 9 is greater than autoscaling.maxReplicas 4",
    ),
    (
        SHARED | {"autoscaling": {"enabled": True, "driver": "KEDA"}},
        "autoscaling.keda.prometheusUrl is empty",
    ),
    (
        SHARED
        | {
            "autoscaling": {
                "enabled": True,
                "driver": "KEDA",
                "keda": {"prometheusUrl": "http://p", "idleReplicaCount": 0},
            }
        },
        "no request reaches a pool without pods, so nothing would start one: add a trigger",
    ),
    (
        SHARED | {"autoscaling": {"enabled": True, "keda": {"prometheusUrl": "http://p"}}},
        "autoscaling.driver is HPA, which would not use it",
    ),
    ({"rollout": {"maxUnavailable": 0}}, "are both 0, so a rollout could never start"),
    (SHARED | {"rollout": {"maxSurge": "0%", "maxUnavailable": "0%"}}, "are both 0"),
    (
        {"endpoints": [chart.endpoint(limits={"requestTimeoutSeconds": 300.5})]},
        "chat allows requests of 300.5 s (limits.requestTimeoutSeconds), but a pod that stops ends them after drain.seconds 300",
    ),
    ({"drain": {"seconds": 299}}, "chat allows requests of 300 s"),
    ({"rollout": {"progressDeadlineSeconds": 1800}}, "is not longer than startup.timeoutSeconds 1800"),
    ({"sharedMemory": "16Gi"}, "sharedMemory 16Gi counts against resources.limits.memory 16Gi"),
    ({"sharedMemory": "1.5Gi", "resources": {"limits": {"memory": "1600M"}}}, "would use all of it"),
    (
        {"gpu": {"count": 4}},
        "sharedMemory 2Gi is too little for the processes of 4 GPUs, which exchange tensors in /dev/shm: set at least 8Gi",
    ),
    (
        {"gpu": {"count": 4}, "sharedMemory": "8Gi", "resources": {"limits": {"memory": "23.9Gi"}}},
        "resources.limits.memory 23.9Gi is too little for 4 GPUs: set at least 4Gi for each, and sharedMemory 8Gi",
    ),
    ({"weights": {"type": "Ephemeral", "gc": {"enabled": True}}}, "no other pod can write into the volume"),
    ({"weights": {"enabled": False, "gc": {"enabled": True}}}, "so there is no volume: remove the one"),
    ({"cache": {"type": "ExistingClaim"}}, "cache.existingClaim is empty: set the name of the claim"),
    ({"cache": {"existingClaim": "mine"}}, "set cache.type: ExistingClaim, or remove the claim"),
    (
        SHARED | {"replicas": 2, "cache": {"type": "Claim"}},
        "several pods cannot share a cache with accessMode ReadWriteOnce",
    ),
    (
        {"gpu": {"count": 0, "resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one"}]}},
        "gpu.resourceClaims is set, but gpu.count is 0",
    ),
    (
        patched(metadata={"labels": {"tritonllm.io/pool": "other"}}),
        "podTemplate changes the label tritonllm.io/pool",
    ),
    (
        patched(metadata={"annotations": {"tritonllm.io/revision": "x"}}),
        "podTemplate changes the annotation tritonllm.io/revision",
    ),
    (patched(spec={"automountServiceAccountToken": True}), "podTemplate sets automountServiceAccountToken"),
    (
        patched(spec={"terminationGracePeriodSeconds": 30}),
        "podTemplate sets terminationGracePeriodSeconds 30, but a pod needs 325 to drain: lower drain.seconds",
    ),
    (
        patched(spec={"containers": [{"name": "server", "args": ["--no-lock"]}]}),
        "podTemplate changes args of the container server",
    ),
    (
        patched(spec={"initContainers": [{"name": "weights", "command": ["sh"]}]}),
        "podTemplate changes command of the container weights",
    ),
    (
        patched(spec={"containers": [{"name": "server", "env": [{"name": "HF_HUB_OFFLINE", "value": "0"}]}]}),
        "podTemplate changes the variable HF_HUB_OFFLINE of the container server",
    ),
    (
        patched(spec={"containers": [{"name": "server", "resources": {"limits": {"nvidia.com/gpu": 2}}}]}),
        "podTemplate changes the nvidia.com/gpu of the container server: set gpu.count instead",
    ),
    (
        patched(
            spec={
                "containers": [{"name": "mine", "volumeMounts": [{"name": "hub-token", "mountPath": "/t"}]}]
            }
        ),
        "podTemplate mounts the token of the Hub into the container mine",
    ),
    (
        patched(
            spec={
                "containers": [
                    {"name": "server", "volumeMounts": [{"mountPath": "/weights", "readOnly": False}]}
                ]
            }
        ),
        "podTemplate mounts the weights into the container server for writing",
    ),
    ({"ingress": {"enabled": True}}, "ingress.hosts is empty"),
    ({"httpRoute": {"enabled": True}}, "httpRoute.parentRefs is empty"),
    (
        {"httpRoute": {"enabled": True, "parentRefs": [{"name": "g"}], "inferencePool": "chat"}},
        "httpRoute.inferencePool is chat, but inferencePools has no entry of this endpoint: add one",
    ),
    (
        {"inferencePools": [PICKED], "gateway": {"enabled": False}},
        "so the pods do not serve OpenAI's API: enable the gateway",
    ),
    ({"inferencePools": [PICKED, PICKED]}, "inferencePools has an endpoint twice: remove one"),
    (
        {"apiSecret": {"existingSecret": "a", "value": "b"}},
        "apiSecret.existingSecret and apiSecret.value are both set",
    ),
    (
        {"gateway": {"allowAnonymous": True, "apiKeys": {"existingSecret": "a"}}},
        "gateway.allowAnonymous is true, so gateway.apiKeys would not be asked for",
    ),
    (
        {"gateway": {"apiKeys": {"existingSecret": "a", "keys": {"me": {"sha256": "0" * 64}}}}},
        "gateway.apiKeys.existingSecret and gateway.apiKeys.keys are both set",
    ),
    (
        {"gateway": {"enabled": False, "allowAnonymous": True}},
        "gateway.enabled is false, so its other values have no effect",
    ),
]


@pytest.mark.parametrize(("values", "said"), MISTAKES, ids=[said[:60] for _, said in MISTAKES])
def test_is_refused_with_the_way_out(values: dict[str, Any], said: str) -> None:
    with pytest.raises(chart.Refused) as refused:
        chart.render(values)
    lines = [line for line in str(refused.value).splitlines() if line.startswith("- ")]
    assert any(said in line for line in lines), str(refused.value)
    # A sentence that says what is wrong and what to do, and nothing a template left behind.
    for line in lines:
        assert line.endswith(".")
        assert re.search(r"[:;,] ?(\w|set|use|add|name)", line)
        assert not re.search(r"%!|<nil>|map\[", line)


def test_everything_that_is_wrong_is_said_at_once() -> None:
    with pytest.raises(chart.Refused) as refused:
        chart.render({"replicas": 2, "gpu": {"count": 4}, "ingress": {"enabled": True}})
    assert str(refused.value).count("\n- ") == 5


def test_claims_of_devices_are_refused_where_kubernetes_has_none() -> None:
    values = {"gpu": {"resourceClaims": [{"name": "gpu", "resourceClaimTemplateName": "one"}]}}
    with pytest.raises(
        chart.Refused, match=r"needs Kubernetes 1\.34, .* this is v1\.33\.5: use a device plugin"
    ):
        chart.render(values, "--kube-version=1.33.5")
    assert chart.render(values, "--kube-version=1.34.0")


@pytest.mark.parametrize("release", ["1st", "with.dots", "x" * 51])
def test_a_release_that_can_not_name_a_service_and_a_pool_is_refused(release: str) -> None:
    with pytest.raises(chart.Refused, match=r"use at most 50 lower-case letters|invalid release name"):
        chart.render({}, release=release)


@pytest.mark.parametrize(
    "values",
    [
        {"endpoints": [chart.endpoint(pool="llm")]},
        {"endpoints": [], "operator": {"enabled": True}},
        {"endpoints": [chart.endpoint(guardrails={"output": [LISTED]})], "operator": {"enabled": True}},
        {
            "endpoints": [
                chart.endpoint(name, engine={"args": {"gpu_memory_utilization": share}})
                for name, share in (("a", 0.7), ("b", 0.3))
            ]
        },
        {
            "endpoints": [{"name": "a", "spec": {"engine": {"type": "simulated"}, "guardrails": {}}}],
            "weights": {"enabled": False},
        },
        {"endpoints": [chart.endpoint(model={"path": "/mnt/model"})], "weights": {"enabled": False}},
        {"weights": {"type": "Ephemeral"}, "replicas": 3, "rollout": {"maxSurge": 1}},
        {"gpu": {"count": 0}, "endpoints": [chart.endpoint(engine={"args": {"tensor_parallel_size": 2}})]},
        {"drain": {"seconds": 30}, "endpoints": [chart.endpoint(limits={"requestTimeoutSeconds": 30})]},
        {"replicas": 0},
        {
            "gpu": {"count": 4},
            "sharedMemory": "8Gi",
            "resources": {"limits": {"memory": "24Gi"}},
            "endpoints": [chart.endpoint(engine={"args": {"tensor_parallel_size": 4}})],
        },
    ],
)
def test_what_can_work_is_not_refused(values: dict[str, Any]) -> None:
    assert chart.render(values)
