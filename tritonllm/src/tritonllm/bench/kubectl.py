"""kubectl as a process: the user's kubeconfig, rights and login apply, and no client of Kubernetes has to be installed."""

from __future__ import annotations

import contextlib
import json
import subprocess
from collections.abc import Mapping, Sequence
from typing import Any

from tritonllm.bench import failures

_SECONDS = 60


class Kubectl:
    """One namespace of one cluster.

    Args:
        namespace: None for that of the context.
        context: of the kubeconfig; None for the current one.
    """

    def __init__(self, namespace: str | None, context: str | None) -> None:
        self._options = [
            *(["--namespace", namespace] if namespace else []),
            *(["--context", context] if context else []),
        ]

    def get(self, *arguments: str) -> dict[str, Any] | None:
        """An object or a list of objects; None if the object is not there.

        Raises:
            failures.BenchmarkFailed: kubectl fails.
        """
        found = self._run("get", *arguments, "--ignore-not-found", "--output", "json")
        return json.loads(found) if found.strip() else None

    def items(self, *arguments: str) -> Sequence[dict[str, Any]]:
        """The objects of a list; see `get`."""
        return (self.get(*arguments) or {}).get("items", ())

    def create(self, body: Mapping[str, Any]) -> None:
        """Creates an object; see `get` for errors."""
        self._run("create", "--filename", "-", given=json.dumps(body))

    def logs(self, pod: str) -> str:
        """The log of a pod with one container; see `get` for errors."""
        return self._run("logs", pod)

    def interrupt(self, pod: str) -> None:
        """Sends Ctrl-C to the first process of a pod's container; see `get` for errors."""
        self._run("exec", pod, "--", "python3", "-c", "import os; os.kill(1, 2)")

    def delete_job(self, name: str) -> None:
        """Deletes a Job with its pods, in the background; see `get` for errors."""
        self._run("delete", "job", name, "--cascade=background", "--wait=false", "--ignore-not-found")

    def _run(self, *arguments: str, given: str | None = None) -> str:
        # `--` ends the options of kubectl exec.
        verb, *rest = arguments
        try:
            process = subprocess.Popen(
                ["kubectl", verb, *self._options, *rest],
                stdin=subprocess.PIPE if given else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                # The terminal's Ctrl-C is ours.
                start_new_session=True,
            )
        except FileNotFoundError:
            raise failures.BenchmarkFailed(
                "kubectl is not on the PATH, by which --pool reaches the cluster"
            ) from None
        with process:
            try:
                output, said = process.communicate(given, _SECONDS)
            except KeyboardInterrupt:
                # What it has asked for is known to be done, or not, before it is undone.
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_SECONDS)
                raise
            except subprocess.TimeoutExpired:
                raise failures.BenchmarkFailed(
                    f"kubectl {verb} has no answer after {_SECONDS} s; is the cluster there?"
                ) from None
            finally:
                process.kill()
        if process.returncode:
            lines = [line for line in said.splitlines() if line.strip()] or ["it says nothing"]
            raise failures.BenchmarkFailed(f"kubectl {verb}: {lines[-1].removeprefix('error: ')}")
        return output
