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
_CTR = ("ctr", "--namespace=k8s.io", "images")


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
        """Brings an image from docker to every node of kind, unless it is there.

        Straight through a pipe: `kind load` writes all of it to a file before, which takes twice the time and the
        disk for gigabytes.

        Raises:
            commands.Failed: a node does not take it.
        """
        for node in self.nodes():
            if _full_name(image) not in self.inside(node, [*_CTR, "ls", "--quiet"]).split():
                take = ["docker", "exec", "--interactive", node, *_CTR, "import", "-"]
                commands.pipe(["docker", "save", image], take, seconds=1200)

    def nodes(self) -> list[str]:
        """Names of kind's nodes, which are those of their containers; none in any other cluster."""
        return commands.run(["kind", "get", "nodes", "--name", self.kind]).split() if self.kind else []

    def inside(self, node: str, command: Sequence[str]) -> str:
        """Runs a command in a node of kind, as root; its standard output."""
        return commands.run(["docker", "exec", node, *command])


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
        try:
            if name in commands.run(["kind", "get", "clusters"]).split():
                commands.run(
                    ["kind", "export", "kubeconfig", "--name", name, "--kubeconfig", str(kubeconfig)]
                )
            else:
                _create(name, workers, node_image, kubeconfig)
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
    # A node is ready before names are resolved and volumes are made in it.
    everywhere = ["--all", "--all-namespaces", "--timeout=110s"]
    made = Kubernetes(kubeconfig, _KIND_PREFIX + name)
    made.kubectl("wait", "deployments", "--for=condition=Available", *everywhere)


def _full_name(image: str) -> str:
    """As containerd calls what docker calls `image`."""
    first, slash, _ = image.partition("/")
    if not slash:
        return f"docker.io/library/{image}"
    return image if "." in first or ":" in first or first == "localhost" else f"docker.io/{image}"


def existing(kubeconfig: str, allowed: Sequence[str]) -> Cluster:
    """The cluster of a kubeconfig's current context.

    Ends the whole run where that context is not an allowed one: these tests create and delete what they like.

    Args:
        kubeconfig: as in the environment variable.
        allowed: contexts that may be used beside those of kind clusters.
    """
    environment = os.environ | {"KUBECONFIG": kubeconfig}
    context = commands.run(["kubectl", "config", "current-context"], environment=environment).strip()
    if not context.startswith(_KIND_PREFIX) and context not in allowed:
        pytest.exit(
            f"KUBECONFIG leads to the context {context}, which is not known to be for tests; unset KUBECONFIG to get"
            f" a kind cluster, or give --allow-context {context}",
            returncode=pytest.ExitCode.USAGE_ERROR,
        )
    kind = context.removeprefix(_KIND_PREFIX) if context.startswith(_KIND_PREFIX) else ""
    return Cluster(Kubernetes(Path(kubeconfig), context), kind)
