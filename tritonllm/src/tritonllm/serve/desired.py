"""The desired state: which models must be ready, according to the endpoint files."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tritonllm import api, files


def required_models(
    started: Iterable[str], endpoints: Iterable[api.LLMEndpoint]
) -> dict[str, tuple[str, ...]]:
    """Endpoints that the supervisor started with and that the files still contain, each with its models; sorted.

    Neither an endpoint that was added later, which another client loads, nor one that was removed makes the pod
    unready.

    Args:
        started: models that this supervisor loads.
        endpoints: the present contents of the files.
    """
    loaded = frozenset(started)
    present = {endpoint.name: tuple(sorted(endpoint.models)) for endpoint in endpoints}
    return {name: models for name, models in sorted(present.items()) if loaded.issuperset(models)}


class EndpointFiles:
    """The endpoint files, reread when one of them changes."""

    def __init__(
        self,
        paths: Sequence[Path],
        load: Callable[[Sequence[Path]], list[api.LLMEndpoint]],
        endpoints: list[api.LLMEndpoint],
        problem: Callable[[str], None],
    ) -> None:
        """Starts with the endpoints that were read before.

        Args:
            paths: the files, or directories of them; symbolic links may be swapped.
            load: reads and validates them; raises ValueError or OSError.
            endpoints: the result of the first read.
            problem: called once per change that can't be read.
        """
        self._paths = paths
        self._load = load
        self._endpoints = endpoints
        self._gating = files.needed(paths)
        self._problem = problem
        self._seen = files.identities(self._paths)

    def endpoints(self) -> list[api.LLMEndpoint]:
        """The endpoints in the files; the last valid ones while the files can't be read."""
        self._read()
        return self._endpoints

    def gating(self) -> frozenset[str]:
        """Names of the endpoints that gate readiness; see `files.NEEDED`."""
        self._read()
        return self._gating

    def _read(self) -> None:
        now = files.identities(self._paths)
        if now != self._seen:
            self._seen = now
            try:
                self._endpoints = self._load(self._paths)
                self._gating = files.needed(self._paths)
            except (ValueError, OSError) as error:
                self._problem(
                    f"the endpoint files changed but can't be read; the last valid version stays in use: {error}"
                )
