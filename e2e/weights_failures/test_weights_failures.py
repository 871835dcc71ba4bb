"""What a pool's init container says when its weights can't be had."""

from __future__ import annotations

import json
import re
from typing import Any

from harness import commands, hub, volumes
from harness.cluster import Cluster
from harness.helm import Release
from harness.kubernetes import Kubernetes, condition

_MODEL = {
    "config.json": json.dumps({"architectures": ["LlamaForCausalLM"], "model_type": "llama"}),
    "tokenizer.json": "{}",
    # The shortest file that is one: no tensors.
    "model.safetensors": "\x02\0\0\0\0\0\0\0{}",
}
_REPOSITORIES: dict[str, Any] = {
    "org/fine": {"files": _MODEL},
    "org/gated": {"files": _MODEL, "access": "gated"},
    "org/large": {"files": _MODEL, "zeros": {"vocabulary.txt": 6_000_000}},
}


def test_the_termination_message_says_for_each_endpoint_why_its_weights_are_missing(
    release: Release, kubernetes: Kubernetes
) -> None:
    with hub.running(kubernetes, release.image, _REPOSITORIES):
        release.apply({"endpoints": [_endpoint(name) for name in ("fine", "gated", "absent")]}, wait=False)
        ended = commands.until(lambda: _ended(kubernetes, release), 120, "the init container ends")
    said: dict[str, dict[str, str]] = json.loads(ended["message"])["endpoints"]
    assert ended["exitCode"] == 20
    assert said["gated"]["reason"] == "GatedRepo"
    assert "org/gated" in said["gated"]["message"]
    assert said["absent"]["reason"] == "RepositoryNotFound"
    assert "org/absent" in said["absent"]["message"]
    assert len(said["fine"]["commit"]) == 40


def test_a_full_volume_is_told_with_both_sizes_and_room_is_enough(
    cluster: Cluster, release: Release, kubernetes: Kubernetes
) -> None:
    with (
        hub.running(kubernetes, release.image, _REPOSITORIES),
        volumes.of_size(cluster, kubernetes, 8_388_608) as volume,
    ):
        volume.fill(6_291_456)
        release.apply(
            {
                "endpoints": [_endpoint("fine"), _endpoint("large")],
                "weights": {"type": "ExistingClaim", "existingClaim": volume.claim},
            },
            wait=False,
        )
        ended = commands.until(lambda: _ended(kubernetes, release), 120, "the init container ends")
        said: dict[str, dict[str, str]] = json.loads(ended["message"])["endpoints"]
        assert ended["exitCode"] == 26
        assert said["large"]["reason"] == "DiskFull"
        assert re.search(r"org/large needs 6\.0 MB more and .* has 2\.. MB free", said["large"]["message"])
        assert len(said["fine"]["commit"]) == 40

        volume.free()
        _initialized(kubernetes, release)
        release.uninstall()


def test_a_hub_that_comes_back_is_enough(release: Release, kubernetes: Kubernetes) -> None:
    release.apply({"endpoints": [_endpoint("fine")]}, wait=False)
    ended = commands.until(lambda: _ended(kubernetes, release), 120, "the init container gives up")
    said = json.loads(ended["message"])["endpoints"]
    assert ended["exitCode"] == 25
    assert said["fine"]["reason"] == "HubUnreachable"
    assert "http://hub:8080" in said["fine"]["message"]

    with hub.running(kubernetes, release.image, _REPOSITORIES):
        _initialized(kubernetes, release)


def _endpoint(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "spec": {
            "model": {"repo": f"org/{name}"},
            "guardrails": {},
            "limits": {"requestTimeoutSeconds": 30},
        },
    }


def _initialized(kubernetes: Kubernetes, release: Release) -> None:
    commands.until(
        lambda: all(condition(pod, "Initialized") == "True" for pod in kubernetes.pods(release.selector)),
        180,
        "the next try of the init container succeeds",
    )


def _ended(kubernetes: Kubernetes, release: Release) -> dict[str, Any]:
    """How the init container ended the last time; empty if it never did."""
    for pod in kubernetes.pods(release.selector):
        for status in pod["status"].get("initContainerStatuses", []):
            for state in (status["state"], status.get("lastState", {})):
                if "terminated" in state:
                    return state["terminated"]
    return {}
