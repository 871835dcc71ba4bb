"""Which models a pod must have ready: those it booted with and that the endpoint files still want."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from tritonllm import api, files
from tritonllm.serve import loader


def required_models(boot: Iterable[str], endpoints: Iterable[api.LLMEndpoint]) -> dict[str, tuple[str, ...]]:
    """Endpoints in the boot set that are still wanted, each with its models; sorted.

    An endpoint that was added later is loaded by whoever added it, and one that was removed may go: neither
    makes the pod unready.

    Args:
        boot: models that this supervisor loads.
        endpoints: what the files say now.
    """
    booted = frozenset(boot)
    still = {endpoint.name: tuple(sorted(loader.order(endpoint))) for endpoint in endpoints}
    return {name: models for name, models in sorted(still.items()) if booted.issuperset(models)}


class EndpointFiles:
    """The endpoint files, read again when one of them changes."""

    def __init__(
        self,
        paths: Sequence[Path],
        load: Callable[[Sequence[Path]], list[api.LLMEndpoint]],
        endpoints: list[api.LLMEndpoint],
        problem: Callable[[str], None],
    ) -> None:
        """Starts from what was read.

        Args:
            paths: the files, or directories of them; they may be links that are swapped.
            load: reads and validates them; raises ValueError or OSError.
            endpoints: what they said at the start.
            problem: told once when they can't be read any more.
        """
        self._paths = paths
        self._load = load
        self._endpoints = endpoints
        self._gating = files.needed(paths)
        self._problem = problem
        self._seen = self._look()

    def endpoints(self) -> list[api.LLMEndpoint]:
        """What the files say; while they can't be read, what they said last."""
        self._read()
        return self._endpoints

    def gating(self) -> frozenset[str]:
        """The endpoints that they call needed; see `files.NEEDED`."""
        self._read()
        return self._gating

    def _read(self) -> None:
        now = self._look()
        if now != self._seen:
            self._seen = now
            try:
                self._endpoints = self._load(self._paths)
                self._gating = files.needed(self._paths)
            except (ValueError, OSError) as error:
                self._problem(
                    f"the endpoint files changed and can't be read, so the last good ones count: {error}"
                )

    def _look(self) -> list[tuple[str | int, ...]]:
        return [(str(path), *_identity(path)) for path in files.expand(self._paths)]


def _identity(path: Path) -> tuple[int, ...]:
    try:
        seen = path.stat()
    except OSError:
        return ()
    return seen.st_mtime_ns, seen.st_size, seen.st_ino
