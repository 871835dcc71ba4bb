"""The endpoints of this pod: their pipelines are asked over private streams.

Every pipeline process listens on a socket in the directory of the run. The gateway connects to all of them and learns
from each which endpoint it serves; a new process announces itself. A request goes to the least busy process of the
endpoint's newest version. A process that is to be unloaded says so; it gets no more requests, and completes those that it has.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import os
import uuid
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Literal

from tritonllm import errors
from tritonllm.gateway import calls, upstream
from tritonllm.gateway.pipeline_process import PipelineProcess
from tritonllm.ipc import announcements, channel, listener, names

log = logging.getLogger(__name__)

# Only what could not be connected to when it was announced is found later.
_SCAN_SECONDS = 1.0


class LocalUpstream:
    """See `upstream.Upstream`.

    Args:
        directory: of the run.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._owner = uuid.uuid4().hex
        self._numbers = itertools.count(1)
        # All of them, by the path of the socket; then those to ask, by endpoint.
        self._processes: dict[str, PipelineProcess] = {}
        self._current: dict[str, list[PipelineProcess]] = {}
        # The socket of an endpoint's latest process: it stays behind if that was killed, and Triton loads it again.
        self._latest: dict[str, str] = {}
        self._late: set[asyncio.Task[None]] = set()
        self._scanning = asyncio.Lock()
        self._announced = asyncio.Event()
        self._announcements: announcements.Announcements
        self._loop: asyncio.AbstractEventLoop
        self._following: asyncio.Task[None]

    async def start(self) -> None:
        """See `upstream.Upstream`."""
        self._loop = asyncio.get_running_loop()
        # Before the first scan, so that nothing is missed.
        self._announcements = announcements.Announcements(self._loop, self._directory, self._announced.set)
        await self._scan()
        self._following = self._loop.create_task(self._follow())

    async def close(self) -> None:
        """See `upstream.Upstream`."""
        self._following.cancel()
        self._announcements.close()
        for process in list(self._processes.values()):
            process.close()

    def endpoints(self) -> dict[str, upstream.Endpoint]:
        """See `upstream.Upstream`."""
        return {
            name: processes[0].endpoint for name, processes in self._current.items() if processes[0].endpoint
        }

    def submit(self, endpoint: str, inputs: upstream.Inputs) -> calls.Call:
        """See `upstream.Upstream`."""
        return self._submit(endpoint, channel.GENERATE, inputs)

    async def check(
        self, endpoint: str, text: str, direction: Literal["input", "output"]
    ) -> upstream.Verdict:
        """See `upstream.Upstream`."""
        call = self._submit(endpoint, channel.CHECK, text, direction)
        try:
            (outputs, *_), _ = await call.receive()
        finally:
            call.close()
        return upstream.verdict(outputs)

    def _submit(self, endpoint: str, *message: Any) -> calls.Call:
        call = calls.Call(next(self._numbers))
        call.message = message
        self._send(endpoint, call)
        return call

    def _send(self, endpoint: str, call: calls.Call) -> None:
        processes = self._current.get(endpoint)
        if processes:
            min(processes, key=_load).submit(call)
        else:
            # It may have been loaded since the last scan.
            task = self._loop.create_task(self._send_late(endpoint, call))
            self._late.add(task)
            task.add_done_callback(self._late.discard)

    async def _send_late(self, endpoint: str, call: calls.Call) -> None:
        await self._scan()
        processes = self._current.get(endpoint)
        if not processes:
            call.failed(self._missing(endpoint))
        elif not call.closed:
            min(processes, key=_load).submit(call)

    def _missing(self, endpoint: str) -> errors.RequestError:
        path = self._latest.get(endpoint)
        if path is not None and os.path.exists(path):
            return errors.RequestError(
                "unavailable", "", f"the endpoint {endpoint} is being restarted; try again later"
            )
        return errors.RequestError(
            "model_not_found", "model", f"the endpoint {endpoint} does not exist or is not loaded"
        )

    async def _follow(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_SCAN_SECONDS):
                    await self._announced.wait()
            self._announced.clear()
            try:
                await self._scan()
            except Exception:
                # The directory goes with the run, and this process soon after it.
                log.exception("the pipelines of this pod can't be found")

    async def _scan(self) -> None:
        """Connects to new processes. One scan at a time: after it, what is there is connected."""
        async with self._scanning:
            await self._connect_new()

    async def _connect_new(self) -> None:
        with os.scandir(self._directory) as entries:
            new = [
                entry.path
                for entry in entries
                if entry.name.startswith(names.PIPELINE)
                and entry.name.endswith(listener.SUFFIX)
                and entry.path not in self._processes
            ]
        for path in new:
            process = PipelineProcess(self._loop, path, self._changed, self._returned)
            self._processes[path] = process
            try:
                await process.open(self._owner)
            except (OSError, TimeoutError):
                # What a process that was killed has left, or one that does not listen yet.
                process.close()
                self._processes.pop(path, None)

    def _returned(self, process: PipelineProcess, call: calls.Call) -> None:
        """Called with a request that a process which is to be unloaded has not begun with."""
        assert process.endpoint is not None
        self._send(process.endpoint.name, call)

    def _changed(self, process: PipelineProcess) -> None:
        """Called when a process has said what it serves, is to be unloaded, or is gone."""
        if process.gone:
            self._processes.pop(process.path, None)
        if process.endpoint is not None:
            name = process.endpoint.name
            if not process.gone:
                self._latest[name] = process.path
            self._current[name] = newest(self._processes.values(), name)
            if not self._current[name]:
                del self._current[name]


def newest(processes: Iterable[PipelineProcess], name: str) -> list[PipelineProcess]:
    """The processes of the newest version of an endpoint, of those that accept requests."""
    found = sorted(
        (each for each in processes if each.endpoint and each.endpoint.name == name and each.accepting),
        key=lambda each: each.endpoint.created if each.endpoint else 0.0,
        reverse=True,
    )
    return [each for each in found if each.spec_hash == found[0].spec_hash]


def _load(process: PipelineProcess) -> int:
    return process.load
