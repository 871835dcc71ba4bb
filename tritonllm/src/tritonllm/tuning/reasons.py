"""Why a configuration cannot be used, from what its server said."""

from __future__ import annotations

import enum
import re

# vLLM's sentences (v1/core/kv_cache_utils.py, v1/worker/utils.py), PyTorch's, the kernel's, and those of our preflight.
_MEMORY = re.compile(
    r"out of memory|OutOfMemory|No available memory|KV cache is needed|Free memory on device|cannot allocate memory"
    r"|SIGKILL|GiB",
    re.IGNORECASE,
)

# How `tritonllm serve` begins what went wrong.
_PROBLEM = re.compile(
    r"^\s*(?:problem|tritonllm): (?:no endpoint could be loaded, so there is nothing to serve:)?"
)


class Outcome(enum.StrEnum):
    """How a trial ended."""

    feasible = "feasible"
    slo = "broke an objective"
    refused = "refused"
    memory = "did not fit"
    start = "did not start"
    died = "answers broke off"
    unmeasured = "no result"


class Unusable(Exception):
    """A configuration cannot be used.

    Attributes:
        outcome: in short.
    """

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome


def in_short(said: str) -> str:
    """The last lines of a server as one line, from the last problem that it told."""
    lines = [line for line in said.splitlines() if line.strip()]
    first = max((n for n, line in enumerate(lines) if _PROBLEM.match(line)), default=0)
    return " ".join(_PROBLEM.sub("", line).strip() for line in lines[first:]).strip()


def of_start(said: str) -> Outcome:
    """The outcome of a server that did not get ready.

    Args:
        said: its last lines.
    """
    return Outcome.memory if _MEMORY.search(said) else Outcome.start
