"""One release of charts/tritonllm-pool, as a user installs, changes, tests and removes it."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from harness import commands
from harness.images import ROOT
from harness.kubernetes import Kubernetes

CHART = ROOT / "charts/tritonllm-pool"


@dataclasses.dataclass(frozen=True)
class Release:
    """A release in a namespace; it need not be installed yet.

    Attributes:
        kubernetes: the namespace.
        name: of the release: the name of the pool.
        values: values files, the last one wins.
        image: what its pods run, `repository:tag`.
        chart: directory or archive of the chart.
    """

    kubernetes: Kubernetes
    name: str
    values: tuple[Path, ...]
    image: str
    chart: Path = CHART

    @property
    def selector(self) -> str:
        """Finds its pods that serve."""
        return f"app.kubernetes.io/instance={self.name},app.kubernetes.io/component=server"

    def apply(
        self, overrides: Mapping[str, Any] | None = None, *, wait: bool = True, seconds: float = 240
    ) -> None:
        """Installs it, or upgrades it.

        Args:
            overrides: values that win over all others.
            wait: until its pods are ready.
            seconds: how long.

        Raises:
            commands.Failed: helm says no, or the pods do not become ready in time.
        """
        repository, _, tag = self.image.rpartition(":")
        own = {
            "image": {"repository": repository, "tag": tag, "pullPolicy": "IfNotPresent"},
            # Load and neighbours ask by all APIs.
            "service": {"triton": True},
            # Monitoring is in the namespace, and so is the hub.
            "networkPolicy": {
                "metrics": [{"podSelector": {}}],
                "hub": {"peers": [{"podSelector": {"matchLabels": {"app": "hub"}}}], "ports": [8080]},
            },
        }
        files = [part for file in self.values for part in ("--values", str(file))]
        self._helm(
            *("upgrade", self.name, str(self.chart), "--install", *files, "--values", "-"),
            *(["--wait", "--timeout", f"{seconds:.0f}s"] if wait else []),
            stdin=json.dumps(own | dict(overrides or {})),
            seconds=seconds + 30,
        )

    def roll_back(self, seconds: float = 240) -> None:
        """Goes back to the revision before the last one and waits until its pods are ready."""
        self._helm("rollback", self.name, "--wait", "--timeout", f"{seconds:.0f}s", seconds=seconds + 30)

    def test(self, seconds: float = 120) -> str:
        """`helm test`; what its pods said."""
        return self._helm("test", self.name, "--logs", "--timeout", f"{seconds:.0f}s", seconds=seconds + 30)

    def uninstall(self, seconds: float = 120) -> None:
        """Removes it and waits until its objects are gone."""
        self._helm("uninstall", self.name, "--wait", "--timeout", f"{seconds:.0f}s", seconds=seconds + 30)

    def _helm(self, *arguments: str, stdin: str | None = None, seconds: float) -> str:
        scope = ["--kube-context", self.kubernetes.context, "--namespace", self.kubernetes.namespace]
        return commands.run(
            ["helm", *scope, *arguments],
            stdin=stdin,
            environment=self.kubernetes.environment,
            seconds=seconds,
        )
