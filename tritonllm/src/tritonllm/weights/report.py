"""What became of several endpoints' weights: for people, for a pod's termination message, as an exit code. Pure."""

from __future__ import annotations

import bisect
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tritonllm.weights import sizes

if TYPE_CHECKING:
    from tritonllm.weights import sync

# What Kubernetes keeps of a termination message:
# https://kubernetes.io/docs/tasks/debug/debug-application/determine-reason-pod-failure/
MOST_BYTES = 4096


@dataclass(frozen=True)
class Problem:
    """Why something could not be done.

    Attributes:
        reason: in CamelCase, as Kubernetes' conditions want it.
        message: for people: what went wrong, where, and what to do.
        exit_code: of the whole command, where nothing failed before; 0 if the others go on without it.
    """

    reason: str
    message: str
    exit_code: int


@dataclass(frozen=True)
class Result:
    """What became of one endpoint's weights.

    Attributes:
        endpoint: its name.
        repo: `organisation/name`; empty where it wants nothing from the Hub.
        published: where they are; None where they are not, or nothing was wanted.
        problem: why they are not there.
        note: why nothing was wanted.
        adapter: name of the endpoint's adapter that it is about; empty if it is about the weights.
        revision: of an adapter, as it was asked for.
    """

    endpoint: str
    repo: str = ""
    published: sync.Published | None = None
    problem: Problem | None = None
    note: str = ""
    adapter: str = ""
    revision: str = ""

    @property
    def name(self) -> str:
        """The endpoint, or `endpoint:adapter`."""
        return f"{self.endpoint}:{self.adapter}" if self.adapter else self.endpoint


def internal(error: BaseException) -> Problem:
    """A bug of ours. Its own words are left to the log, as they can contain anything."""
    return Problem("InternalError", f"unexpected {type(error).__name__}; the log has a traceback", 1)


def exit_code(results: Sequence[Result], problem: Problem | None = None) -> int:
    """The exit code of the command: 0, or that of what failed first.

    An adapter that failed does not count: its endpoint is served without it.

    Args:
        results: of the endpoints.
        problem: of the command as a whole.
    """
    found = [problem, *(result.problem for result in results if not result.adapter)]
    return next((each.exit_code for each in found if each is not None and each.exit_code), 0)


def line(result: Result) -> str:
    """One result for people."""
    if result.problem is not None:
        return f"{result.name}: {result.problem.reason}: {result.problem.message}"
    if result.published is None:
        return f"{result.name}: {result.note}"
    how = "downloaded and verified" if result.published.downloaded else "already complete"
    return (
        f"{result.name}: {result.repo} at {result.published.commit} is {how}"
        f" ({sizes.readable(result.published.size)} in {result.published.directory})"
    )


def message(results: Sequence[Result], problem: Problem | None = None) -> str:
    """The termination message: one line of JSON that fits, whatever there is to say.

    `{"endpoints": {"chat": {"reason": "GatedRepo", "message": "…"}, "other": {"commit": "…"}}}`, failures first.
    Adapters are under `endpoint:adapter`, with their `source`, such as `acme/sql@main`. `reason` and `message` beside `endpoints` are about the command as a whole. Where it would be too long, messages
    are shortened first; only then endpoints are left out, the last ones first, and counted in `more`.

    Args:
        results: of the endpoints.
        problem: of the command as a whole.
    """
    ordered = sorted(results, key=lambda result: result.problem is None)

    def text(kept: int, longest: int) -> str:
        found: dict[str, Any] = _said(problem, longest) if problem is not None else {}
        found["endpoints"] = {result.name: _entry(result, longest) for result in ordered[:kept]}
        if kept < len(ordered):
            found["more"] = len(ordered) - kept
        return json.dumps(found, ensure_ascii=False, separators=(",", ":"))

    longest = _most(MOST_BYTES, lambda length: _fits(text(len(ordered), length)))
    if longest >= 0:
        return text(len(ordered), longest)
    return text(_most(len(ordered), lambda kept: _fits(text(kept, 0))), 0)


def _entry(result: Result, longest: int) -> dict[str, str]:
    # An adapter can be changed while the pods stay, so the reader must know which version this is about.
    source = {"source": f"{result.repo}@{result.revision}"} if result.adapter and result.repo else {}
    if result.problem is not None:
        return _said(result.problem, longest) | source
    return {} if result.published is None else {"commit": result.published.commit} | source


def _said(problem: Problem, longest: int) -> dict[str, str]:
    # A name of a file may hold bytes that are no text.
    whole = problem.message.encode(errors="replace").decode()
    shown = whole if len(whole) <= longest else whole[: longest - 1] + "…" if longest else ""
    return {"reason": problem.reason} | ({"message": shown} if shown else {})


def _fits(text: str) -> bool:
    return len(text.encode()) <= MOST_BYTES


def _most(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest number up to a limit that fits; -1 where not even 0 does."""
    return bisect.bisect_left(range(limit + 1), True, key=lambda number: not fits(number)) - 1
