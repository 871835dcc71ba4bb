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
        load: Callable[[Sequence[Path], Sequence[api.LLMEndpoint]], files.Readable],
        problem: Callable[[str], None],
    ) -> None:
        """Reads them for the first time.

        Args:
            paths: the files, or directories of them; symbolic links may be swapped.
            load: reads and validates them, given the endpoints of before; raises ValueError or OSError.
            problem: called once per change with each endpoint that can't be read, or with the files if they can't be.

        Raises:
            files.Invalid: they are invalid.
        """
        self._paths = paths
        self._load = load
        self._problem = problem
        self._seen = files.identities(self._paths)
        self._keep(load(paths, ()))

    def endpoints(self) -> list[api.LLMEndpoint]:
        """The endpoints in the files; what can't be read, is as it was when it last could be."""
        self._read()
        return self._found.endpoints

    def unreadable(self) -> dict[str, str]:
        """Endpoints of which no version could be read, by name, with what is wrong."""
        self._read()
        return self._unreadable

    def gating(self) -> frozenset[str]:
        """Names of the endpoints that gate readiness; see `files.NEEDED`."""
        self._read()
        return self._gating

    def _read(self) -> None:
        now = files.identities(self._paths)
        if now != self._seen:
            self._seen = now
            try:
                self._keep(self._load(self._paths, self._found.endpoints))
            except (ValueError, OSError) as error:
                self._problem(
                    f"the endpoint files changed but can't be read; the last valid version stays in use: {error}"
                )

    def _keep(self, found: files.Readable) -> None:
        self._found = found
        self._gating = files.needed(self._paths)
        served = {endpoint.name for endpoint in found.endpoints}
        self._unreadable = {name: reason for name, reason in found.unreadable.items() if name not in served}
        for name, reason in found.unreadable.items():
            how = "is not served" if name in self._unreadable else "is served in its last valid version"
            self._problem(f"{name} {how}: {reason}")
