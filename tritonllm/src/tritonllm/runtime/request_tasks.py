"""Requests that a backend answers in a task each: started, aborted, updated and failed by their ids."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable, Coroutine
from typing import Any

from tritonllm import errors
from tritonllm.runtime import backend


class RequestTasks:
    """The requests of a backend that have not ended."""

    def __init__(self) -> None:
        self._live: dict[str, _Live] = {}
        self._tasks: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._live)

    def start(
        self,
        request_id: str,
        answer: Coroutine[Any, Any, None],
        on_update: Callable[[backend.Update], None],
        on_error: Callable[[errors.RequestError], None],
    ) -> None:
        """Answers a request in a task; for the callbacks see `backend.Backend.submit`."""
        task = asyncio.get_running_loop().create_task(answer)
        self._live[request_id] = _Live(on_update, on_error, task)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def abort(self, request_id: str) -> None:
        """Ends a request and cancels its task; none of its callbacks is called any more."""
        live = self._live.pop(request_id, None)
        if live is not None:
            live.task.cancel()

    def update(self, request_id: str, update: backend.Update) -> None:
        """Reports an update; one that is `finished` ends the request."""
        self._live[request_id].on_update(update)
        # After it: should it fail, the request can still be told so.
        if update.finished:
            self._live.pop(request_id, None)

    def fail(self, request_id: str, error: errors.RequestError) -> None:
        """Ends a request with an error. No effect if it has ended."""
        live = self._live.pop(request_id, None)
        if live is not None:
            live.on_error(error)

    async def close(self) -> None:
        """Cancels all tasks and waits for them."""
        self._live.clear()
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)


@dataclasses.dataclass(slots=True)
class _Live:
    on_update: Callable[[backend.Update], None]
    on_error: Callable[[errors.RequestError], None]
    task: asyncio.Task[None]
