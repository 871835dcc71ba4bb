"""A model hub inside the cluster, so that pools download from it as they do from the real one."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from harness import pods
from harness.images import ROOT
from harness.kubernetes import Kubernetes

NAME = "hub"
URL = f"http://{NAME}:8080"
_SERVER = ROOT / "tritonllm/tests/hub_server.py"
_POD = Path(__file__).with_name("hub_pod.py")


@contextlib.contextmanager
def running(kubernetes: Kubernetes, image: str, repositories: Mapping[str, Any]) -> Iterator[None]:
    """A hub at `URL` for as long as the block.

    Args:
        kubernetes: the namespace.
        image: one with Python in it.
        repositories: what it holds; see `hub_pod`.
    """
    files = {
        "hub_server.py": _SERVER.read_text(),
        "hub_pod.py": _POD.read_text(),
        "repositories.json": json.dumps(repositories),
    }
    command = ["python", "/files/hub_pod.py", "/files/repositories.json"]
    with pods.running(kubernetes, NAME, image, command, files, ports=[8080], ready="/healthz"):
        yield


def requests(kubernetes: Kubernetes) -> list[str]:
    """What it was asked so far, as `GET /path`."""
    return kubernetes.logs(NAME).splitlines()
