"""Steady mixed load on an endpoint from inside the cluster, and the promise about it: nothing fails, hangs or leaks.

with traffic.steady(kubernetes, image, "chat", service="llm") as load:
    with load.window() as window:
        release.apply(changed)
window.check()
"""

from __future__ import annotations

import base64
import collections
import contextlib
import copy
import dataclasses
import json
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import commands, load, pods
from harness.kubernetes import Kubernetes

_SCRIPT = Path(load.__file__)

SPEC: dict[str, Any] = {
    "engine": {
        "type": "simulated",
        # The answer is the prompt, so that a test knows every character of it.
        "args": {"reply": "echo", "time_to_first_token_seconds": 0.05, "inter_token_seconds": 0.01},
    },
    "guardrails": {
        "input": [{"name": "secrets", "banned": {"phrases": [load.REFUSED]}, "action": "Block"}],
        "output": [{"name": "words", "banned": {"phrases": [load.BANNED]}, "action": "Mask"}],
    },
    "limits": {"requestTimeoutSeconds": 30},
}
"""An endpoint that answers as `load` expects."""


def with_engine(spec: Mapping[str, Any] = SPEC, /, **args: Any) -> dict[str, Any]:
    """A copy of a spec, with further arguments of its engine."""
    copied = copy.deepcopy(dict(spec))
    copied["engine"]["args"] |= args
    return copied


def with_phrases(*phrases: str) -> dict[str, Any]:
    """The same, with further phrases that are masked."""
    spec = copy.deepcopy(SPEC)
    spec["guardrails"]["output"][0]["banned"]["phrases"] += phrases
    return spec


@dataclasses.dataclass
class Window:
    """A stretch of time in which the promise must hold.

    Attributes:
        start: seconds since the epoch.
        end: the same; infinite while it is open.
        requests: what was under way in it, known when the load has ended.
    """

    start: float
    end: float = float("inf")
    requests: list[dict[str, Any]] = dataclasses.field(default_factory=list)

    def check(self) -> None:
        """Every request that touched the window ended as it should.

        Raises:
            AssertionError: one did not, or there were none of some kind to show it.
        """
        problems = [
            f"{each['kind']} at {each['start'] - self.start:.0f} s for {each['end'] - each['start']:.0f} s: {each['problem']}"
            for each in self.requests
            if each["problem"]
        ]
        assert not problems, f"{len(problems)} of {len(self.requests)} requests: " + "\n".join(problems[:10])
        ended = collections.Counter(each["kind"] for each in self.requests)
        missing = set(load.KINDS) - set(ended)
        assert not missing, f"the window was too short to show anything: no {missing} among {dict(ended)}"


class Load:
    """Load that is running."""

    def __init__(self, kubernetes: Kubernetes, pod: str) -> None:
        self._kubernetes = kubernetes
        self._pod = pod
        self._windows: list[Window] = []

    @contextlib.contextmanager
    def window(self) -> Iterator[Window]:
        """Marks what happens in the block; its requests are known once the load has ended."""
        window = Window(time.time())
        self._windows.append(window)
        yield window
        window.end = time.time()

    def requests(self) -> list[dict[str, Any]]:
        """All that ended so far."""
        return [json.loads(line) for line in self._kubernetes.logs(self._pod).splitlines()]

    def flows(self, seconds: float = 60) -> None:
        """Waits until every kind of request was answered once.

        Raises:
            AssertionError: that takes too long.
        """

        def missing() -> set[str]:
            return set(load.KINDS) - {each["kind"] for each in self.requests() if not each["problem"]}

        commands.until(lambda: not missing(), seconds, "every kind of request is answered")

    def settle(self) -> None:
        """Gives each window its requests."""
        requests = self.requests()
        for window in self._windows:
            window.requests = [
                each for each in requests if each["start"] <= window.end and each["end"] >= window.start
            ]


@contextlib.contextmanager
def steady(
    kubernetes: Kubernetes, image: str, endpoint: str, *, service: str, workers: int = 6, pod: str = "load"
) -> Iterator[Load]:
    """Load for as long as the block, on an endpoint that `load` describes.

    Args:
        kubernetes: the namespace.
        image: one with tritonllm in it.
        endpoint: whom to ask.
        service: the Service of its pool.
        workers: requests at once.
        pod: name of the pod that sends it.
    """
    secret = kubernetes.get("secret", f"{service}-api-keys")
    key = base64.b64decode(secret["data"]["default"]).decode()
    urls = [f"http://{service}:8000", f"{service}:8001", f"http://{service}:8080"]
    arguments = [*urls, key, endpoint, str(workers)]
    files = {"load.py": _SCRIPT.read_text()}
    command = ["python", "/files/load.py", *arguments]
    with pods.running(kubernetes, pod, image, command, files):
        running = Load(kubernetes, pod)
        running.flows()
        yield running
        # Requests under way may end; the log stays until the pod is deleted.
        kubernetes.execute(pod, ["python", "-c", "import os, signal; os.kill(1, signal.SIGTERM)"])
        kubernetes.wait("pod", "jsonpath={.status.phase}=Succeeded", name=pod, seconds=120)
        running.settle()
