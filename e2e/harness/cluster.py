"""The cluster of a run: a kind cluster of its own, or one that exists and may be used for this."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from harness import commands
from harness.kubernetes import Kubernetes

_KIND_PREFIX = "kind-"


@dataclasses.dataclass(frozen=True)
class Cluster:
    """A cluster that scenarios may use.

    Attributes:
        kubernetes: how to reach it.
        kind: its name in kind; empty for any other cluster.
    """

    kubernetes: Kubernetes
    kind: str

    def load(self, image: str) -> None:
        """Brings an image to every node, unless it is there.

        Raises:
            commands.Failed: kind can't.
        """
        if self.kind:
            commands.run(["kind", "load", "docker-image", image, "--name", self.kind], seconds=900)


@contextlib.contextmanager
def own(name: str, workers: int, node_image: str, *, keep: bool) -> Iterator[Cluster]:
    """A kind cluster that goes at the end of the block.

    Args:
        name: its name; one of that name that is there is used.
        workers: nodes beside the first.
        node_image: what nodes run; empty for kind's own default.
        keep: leave it, to look at it and to be faster the next time.
    """
    with tempfile.TemporaryDirectory(prefix="tritonllm-e2e-") as directory:
        kubeconfig = Path(directory) / "kubeconfig"
        if name in commands.run(["kind", "get", "clusters"]).split():
            commands.run(["kind", "export", "kubeconfig", "--name", name, "--kubeconfig", str(kubeconfig)])
        else:
            _create(name, workers, node_image, kubeconfig)
        try:
            yield Cluster(Kubernetes(kubeconfig, _KIND_PREFIX + name), name)
        finally:
            if keep:
                print(f"\ncluster {name} stays: kind export kubeconfig --name {name}")
            else:
                commands.run(["kind", "delete", "cluster", "--name", name, "--kubeconfig", str(kubeconfig)])


def _create(name: str, workers: int, node_image: str, kubeconfig: Path) -> None:
    nodes = [{"role": "control-plane"}, *[{"role": "worker"}] * workers]
    config = {"kind": "Cluster", "apiVersion": "kind.x-k8s.io/v1alpha4", "nodes": nodes}
    image = [f"--image={node_image}"] if node_image else []
    command = ["kind", "create", "cluster", f"--name={name}", f"--kubeconfig={kubeconfig}", *image]
    commands.run([*command, "--config=-", "--wait=180s"], stdin=json.dumps(config), seconds=600)


def existing(kubeconfig: str, allowed: Sequence[str]) -> Cluster:
    """The cluster of a kubeconfig's current context.

    Args:
        kubeconfig: as in the environment variable.
        allowed: contexts that may be used beside those of kind clusters.

    Raises:
        pytest.UsageError: its context is none of them: these tests create and delete what they like.
    """
    environment = os.environ | {"KUBECONFIG": kubeconfig}
    context = commands.run(["kubectl", "config", "current-context"], environment=environment).strip()
    if not context.startswith(_KIND_PREFIX) and context not in allowed:
        raise pytest.UsageError(
            f"KUBECONFIG leads to the context {context}, which is not known to be for tests; unset KUBECONFIG to get"
            f" a kind cluster, or give --allow-context {context}"
        )
    kind = context.removeprefix(_KIND_PREFIX) if context.startswith(_KIND_PREFIX) else ""
    return Cluster(Kubernetes(Path(kubeconfig), context), kind)
