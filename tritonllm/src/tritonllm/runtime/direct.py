"""Clients that call the engine itself, without guardrails, where `serve` allows it.

They are served as a pipeline without rules would, by a dispatcher in the engine's own process.
"""

from __future__ import annotations

import dataclasses
import itertools
import time
from pathlib import Path
from typing import Any

from tritonllm import api, errors
from tritonllm.runtime import dispatcher as dispatchers
from tritonllm.runtime import requests, senders, threads, wire

_UNLIMITED = 1_000_000


class _LocalLeases:
    """No call keeps the engine loaded: the clients' own requests do."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)
        self._numbers = itertools.count(1)

    async def open(self) -> tuple[str, str]:
        return f"direct.{next(self._numbers)}", self._path

    def finish(self, name: str) -> None:
        """Nothing to free."""

    def abandon(self, name: str) -> None:
        """Nothing to give up."""

    def close(self) -> None:
        """No thread to end."""


def dispatcher(path: Path) -> dispatchers.Dispatcher:
    """Serves clients by the engine that listens at `path`."""
    limits = api.Limits.model_construct(
        max_concurrent_requests=_UNLIMITED, max_queued_requests=0, request_timeout_seconds=_UNLIMITED
    )
    events = threads.EventLoop("direct")
    serving = dispatchers.Dispatcher(events, limits, None, lambda request: request, _ignore, _ignore, _ignore)
    serving.start(_LocalLeases(path), "direct")
    return serving


def submit(
    serving: dispatchers.Dispatcher, triton_request: Any, sender: Any, parameters: dict[str, Any]
) -> None:
    """Takes a client's request, with the defaults of Triton's vLLM backend.

    Raises:
        RequestError: it is not valid.
    """
    arrived = time.monotonic()
    asked = requests.parse(wire.values(triton_request), parameters)
    if asked.echo and (asked.stream or asked.messages):
        raise errors.RequestError(
            "invalid_argument", "exclude_input_in_output", "false needs `text_input`, and `stream` off"
        )
    if asked.text is not None and not asked.stream:
        # Unless told otherwise, that backend puts the prompt in front of an answer that is not streamed.
        flags = {"exclude_input_in_output": False, **asked.flags}
        asked = dataclasses.replace(asked, flags=flags)
    serving.submit(senders.TritonSender(sender), asked, arrived)


def _ignore(*_: object) -> None:
    """Direct requests are not counted."""
