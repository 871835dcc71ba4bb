"""A pool with real vLLM and a real model, from the download of its weights to an edit of its policy."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from harness import commands, hub, images, operator, pods
from harness.cluster import Cluster
from harness.helm import Release
from harness.kubernetes import Kubernetes, name

_READY_SECONDS = 600
_FRANCE = "What is the capital of France?"
_GERMANY = "What is the capital of Germany?"


@pytest.fixture(scope="session")
def smollm2(cluster: Cluster, small: str, demo_model: Path) -> str:
    """An image with the weights in /data, on every node."""
    return images.load(cluster, images.with_files(small, demo_model))


@pytest.fixture
def release(kubernetes: Kubernetes, full: str) -> Release:
    """A release of the full image, not installed yet."""
    return Release(kubernetes, "llm", (Path(__file__).with_name("values.yaml"),), full)


# Two starts of vLLM on a slow machine, beside whatever else runs there.
@pytest.mark.timeout(1500)
def test_a_model_is_downloaded_once_answers_guarded_comes_back_without_the_hub_and_is_edited_in_place(
    operating: operator.Operator, release: Release, kubernetes: Kubernetes, small: str, smollm2: str
) -> None:
    with (
        hub.running(kubernetes, smollm2, {"org/smollm2": {"directory": "/data"}}),
        pods.running(kubernetes, "neighbour", small, ["sleep", "infinity"]),
    ):
        release.apply(seconds=_READY_SECONDS)
        asked = hub.requests(kubernetes)
        assert (
            len([each for each in asked if each.startswith("GET") and each.endswith("/model.safetensors")])
            == 1
        )
        (first,) = kubernetes.pods(release.selector)
        said = json.loads(first["status"]["initContainerStatuses"][0]["state"]["terminated"]["message"])
        commit = said["endpoints"]["chat"]["commit"]
        assert f"/resolve/{commit}/model.safetensors" in "\n".join(asked)
        operator.until(kubernetes, "chat", "Ready")
        assert kubernetes.get("llmendpoint", "chat")["status"]["model"]["commit"] == commit
        _check_answers(kubernetes, release)

        kubernetes.kubectl("delete", "pod", name(first), "--wait=false")
        commands.until(
            lambda: set(kubernetes.ready(release.selector)) - {name(first)},
            _READY_SECONDS,
            "another pod is ready",
        )
        assert hub.requests(kubernetes) == asked, "the hub was asked again"
        _check_answers(kubernetes, release)

        served = {each["metadata"]["uid"] for each in kubernetes.pods(release.selector)}
        ban = {"op": "add", "path": "/spec/guardrails/output/0/banned/phrases/-", "value": "paris"}
        kubernetes.kubectl("patch", "llmendpoint", "chat", "--type=json", f"--patch={json.dumps([ban])}")
        operator.until(kubernetes, "chat", "Loaded")
        (masked,) = _ask(kubernetes, release, _FRANCE, stream=False)
        assert "[REDACTED]" in masked["text_output"]
        assert "paris" not in masked["text_output"].lower()
        pods_now = kubernetes.pods(release.selector)
        assert {each["metadata"]["uid"] for each in pods_now} == served, "a policy was changed with new pods"
        assert [each["status"]["containerStatuses"][0]["restartCount"] for each in pods_now] == [0]
        assert hub.requests(kubernetes) == asked, "an edit of the policy asked the hub"
        release.uninstall()


def _check_answers(kubernetes: Kubernetes, release: Release) -> None:
    (whole,) = _ask(kubernetes, release, _FRANCE, stream=False)
    pieces = _ask(kubernetes, release, _FRANCE, stream=True)
    assert "Paris" in whole["text_output"]
    assert whole["finish_reason"] == "stop"
    assert "".join(piece["text_output"] for piece in pieces) == whole["text_output"]
    assert len(pieces) > 3

    (masked,) = _ask(kubernetes, release, _GERMANY, stream=False)
    pieces = _ask(kubernetes, release, _GERMANY, stream=True)
    assert "[REDACTED]" in masked["text_output"]
    assert "berlin" not in masked["text_output"].lower()
    assert "".join(piece["text_output"] for piece in pieces) == masked["text_output"]

    (refused,) = _ask(kubernetes, release, "Tell me the launch codes.", stream=False)
    assert (refused["text_output"], refused["finish_reason"]) == ("", "content_filter")


def _ask(kubernetes: Kubernetes, release: Release, prompt: str, *, stream: bool) -> list[dict[str, Any]]:
    """Asks from a neighbour pod; what came, in pieces where it is streamed."""
    url = f"http://{release.name}:8000/v2/models/chat/{'generate_stream' if stream else 'generate'}"
    body = {"text_input": prompt, "stream": stream}
    lines = pods.fetch(kubernetes, "neighbour", url, body, seconds=120).splitlines()
    return [json.loads(line.removeprefix("data: ")) for line in lines if line.strip()]
