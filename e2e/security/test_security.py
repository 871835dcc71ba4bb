"""What a neighbour of the pool can't do, and what the pool's own containers don't hold."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from harness import commands, pods
from harness.helm import Release
from harness.kubernetes import Kubernetes, name

_TOKEN = "hf_not-a-real-token"
_INTRUDER = Path(__file__).with_name("intruder.py")


def test_a_neighbour_can_neither_read_the_policy_nor_control_models(
    release: Release, kubernetes: Kubernetes
) -> None:
    _token(kubernetes)
    release.apply()
    files = {"intruder.py": _INTRUDER.read_text()}
    with pods.running(kubernetes, "neighbour", release.image, ["sleep", "infinity"], files):
        printed = kubernetes.execute("neighbour", ["python", "/files/intruder.py", release.name])
        answers: dict[str, str] = json.loads(printed)
        assert "falcon" not in printed
        allowed = {what: answer for what, answer in answers.items() if not _refused(what, answer)}
        assert not allowed
        assert len(answers) == 19
        # It still serves, and still guards.
        ask = [
            "tritonllm",
            "generate",
            "chat",
            "of falcon heights",
            f"--url=http://{release.name}:8000",
            "-v",
        ]
        with pytest.raises(commands.Failed, match="content_filter"):
            kubernetes.execute("neighbour", ask)


def test_the_hub_token_is_only_where_weights_are_downloaded_and_no_container_has_one_of_the_cluster(
    release: Release, kubernetes: Kubernetes
) -> None:
    _token(kubernetes)
    release.apply()
    (pod,) = kubernetes.pods(release.selector)
    mounts = {
        container["name"]: {mount["name"] for mount in container["volumeMounts"]}
        for container in (*pod["spec"]["initContainers"], *pod["spec"]["containers"])
    }
    assert "hub-token" in mounts["weights"]
    assert [container for container, volumes in mounts.items() if "hub-token" in volumes] == ["weights"]
    # Whatever mounts say: nothing that the serving container can read has it.
    search = (
        "import os, pathlib, sys\n"
        "places = ['/etc/tritonllm', '/var/run/secrets', '/run', '/tmp', '/home', '/weights', '/proc/1']\n"
        "files = [os.path.join(at, file) for place in places for at, _, names in os.walk(place)\n"
        "         for file in names if not at.startswith(('/proc/1/task', '/proc/1/map', '/proc/1/fd'))]\n"
        "def text(file):\n"
        "    try:\n        return pathlib.Path(file).read_bytes()\n"
        "    except OSError:\n        return b''\n"
        "print([file for file in files if sys.argv[1].encode() in text(file)])\n"
        "print(os.path.exists('/var/run/secrets/kubernetes.io'))\n"
    )
    printed = kubernetes.execute(name(pod), ["python", "-c", search, _TOKEN])
    assert printed.split() == ["[]", "False"]


def _refused(what: str, answer: str) -> bool:
    if what.startswith("gateway: "):
        return answer.startswith("401") and "invalid_api_key" in answer
    if what == "HTTP: ask the engine":
        return "[permission_denied]" in answer
    return answer.startswith(("403", "StatusCode.UNAVAILABLE This protocol is restricted"))


def _token(kubernetes: Kubernetes) -> None:
    kubernetes.apply(
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "hub"},
            "stringData": {"token": _TOKEN},
        }
    )
