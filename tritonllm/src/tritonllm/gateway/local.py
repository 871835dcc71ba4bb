"""The endpoints of this pod: their pipelines are asked over private streams.

Every pipeline process listens on a socket in the directory of the run. The gateway connects to all of them and learns
from each which endpoint it serves. A request goes to the least busy process of those that the current lease of its
endpoint allows.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import uuid
from pathlib import Path
from typing import Any, Literal

from tritonllm import errors
from tritonllm.client import http_transport
from tritonllm.gateway import calls, leases, upstream
from tritonllm.ipc import channel, leased, listener, names

log = logging.getLogger(__name__)

_SCAN_SECONDS = 0.25
_WELCOME_SECONDS = 10.0


class _Process:
    """A pipeline process.

    Attributes:
        connection: to it.
        endpoint: what it serves; None until it has said so.
        spec_hash: processes of an endpoint with the same one serve the same.
        described: done when it has said so.
    """

    def __init__(self, connection: leased.Connection) -> None:
        self.connection = connection
        self.endpoint: upstream.Endpoint | None = None
        self.spec_hash = ""
        self.described: asyncio.Future[None] = asyncio.get_running_loop().create_future()


class LocalUpstream:
    """See `upstream.Upstream`.

    Args:
        directory: of the run.
        triton: URL of Triton's HTTP port.
    """

    def __init__(self, directory: Path, triton: str) -> None:
        self._directory = directory
        self._triton = triton
        self._owner = uuid.uuid4().hex
        self._numbers = itertools.count(1)
        self._processes: dict[str, _Process] = {}
        self._requests: dict[str, leased.Requests] = {}
        self._calls: dict[int, calls.Call] = {}
        # Those of which a process has exited without saying so: Triton loads them again.
        self._lost: dict[str, str] = {}
        self._transport: http_transport.Transport
        self._loop: asyncio.AbstractEventLoop
        self._following: asyncio.Task[None]

    async def start(self) -> None:
        """See `upstream.Upstream`."""
        self._loop = asyncio.get_running_loop()
        self._transport = http_transport.Transport(self._triton)
        await self._scan()
        self._following = self._loop.create_task(self._follow())

    async def close(self) -> None:
        """See `upstream.Upstream`."""
        self._following.cancel()
        for requests in self._requests.values():
            await requests.close()
        for process in list(self._processes.values()):
            process.connection.close()
        await self._transport.close()

    def endpoints(self) -> dict[str, upstream.Endpoint]:
        """See `upstream.Upstream`."""
        described = [process.endpoint for process in self._processes.values() if process.endpoint]
        return {endpoint.name: endpoint for endpoint in sorted(described, key=lambda each: each.created)}

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
        if endpoint not in self.endpoints():
            raise self._missing(endpoint)
        requests = self._requests.get(endpoint)
        if requests is None:
            requests = self._requests[endpoint] = leased.Requests(
                self._loop,
                leases.TritonLeases(self._transport, endpoint, self._owner),
                self._connect,
                self._failed,
                f"the endpoint {endpoint}",
            )
        number = next(self._numbers)
        call = calls.Call(lambda: self._abort(endpoint, number))
        self._calls[number] = call
        requests.submit(number, *message)
        return call

    def _missing(self, endpoint: str) -> errors.RequestError:
        path = self._lost.get(endpoint)
        if path is not None and os.path.exists(path):
            return errors.RequestError(
                "unavailable",
                "",
                f"the endpoint {endpoint} has exited and is being restarted; try again later",
            )
        return errors.RequestError(
            "model_not_found", "model", f"the endpoint {endpoint} does not exist or is not loaded"
        )

    def _abort(self, endpoint: str, number: int) -> None:
        self._calls.pop(number, None)
        self._requests[endpoint].abort(number)

    # Processes.

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_SCAN_SECONDS)
            try:
                await self._scan()
            except Exception:
                # The directory goes with the run, and this process soon after it.
                log.exception("the pipelines of this pod can't be found")

    async def _scan(self) -> None:
        with os.scandir(self._directory) as entries:
            found = [
                entry.path
                for entry in entries
                if entry.name.startswith(names.PIPELINE) and entry.name.endswith(listener.SUFFIX)
            ]
        for path in found:
            try:
                await self._process(path)
            except (OSError, TimeoutError):
                # What a process that was killed has left; or one that does not listen yet.
                continue

    async def _process(self, path: str) -> _Process:
        process = self._processes.get(path)
        if process is None:
            connection = leased.Connection(self._loop, path, self._owner, self._received, self._disconnected)
            process = self._processes[path] = _Process(connection)
            try:
                await connection.open()
            except OSError:
                del self._processes[path]
                raise
        async with asyncio.timeout(_WELCOME_SECONDS):
            await asyncio.shield(process.described)
        return process

    async def _connect(self, path: str) -> list[leased.Connection]:
        granted = await self._process(path)
        assert granted.endpoint is not None
        siblings = [
            process.connection
            for process in self._processes.values()
            if process is not granted
            and process.endpoint is not None
            and process.endpoint.name == granted.endpoint.name
            and process.spec_hash == granted.spec_hash
        ]
        return [granted.connection, *siblings]

    def _received(self, connection: leased.Connection, messages: list[channel.Message]) -> None:
        process = self._processes[connection.path]
        for kind, subject, *rest in messages:
            if kind == channel.RESPONSE:
                outputs, final = rest
                self._arrived(process, subject, outputs, final=final)
            elif kind == channel.ERROR:
                if self._owning(process).finish(subject):
                    self._failed(subject, errors.parse(rest[0]))
            elif kind == channel.RELEASED:
                self._owning(process).released(subject)
            elif kind == channel.WELCOME:
                process.spec_hash = subject.pop("spec_hash")
                process.endpoint = upstream.Endpoint(**subject)
                if not process.described.done():
                    process.described.set_result(None)

    def _owning(self, process: _Process) -> leased.Requests:
        assert process.endpoint is not None
        return self._requests[process.endpoint.name]

    def _arrived(self, process: _Process, number: int, outputs: upstream.Outputs, *, final: bool) -> None:
        call = self._calls.get(number)
        if final:
            self._owning(process).finish(number)
            self._calls.pop(number, None)
        if call is not None:
            call.arrived(outputs, final=final)

    def _failed(self, number: int, error: errors.RequestError) -> None:
        call = self._calls.pop(number, None)
        if call is not None:
            call.failed(error)

    def _disconnected(self, connection: leased.Connection) -> None:
        process = self._processes.pop(connection.path, None)
        if process is None:
            return
        if not process.described.done():
            process.described.set_exception(ConnectionResetError("the pipeline closed the connection"))
            # Nobody may be waiting.
            process.described.exception()
        if process.endpoint is not None:
            self._lost[process.endpoint.name] = connection.path
            if process.endpoint.name in self._requests:
                self._owning(process).disconnected(connection)
