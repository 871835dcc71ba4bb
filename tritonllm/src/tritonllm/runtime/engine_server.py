"""The engine's side of the private stream: runs the requests of its pipelines, sends their updates.

One event loop, the backend's, owns everything here. A connection that is closed aborts the requests that came over it,
so a pipeline that is gone never occupies the engine.
"""

from __future__ import annotations

import asyncio
import dataclasses
import functools
from collections.abc import Callable
from typing import Any

from tritonllm import errors, sampling
from tritonllm.ipc import channel, listener, names
from tritonllm.runtime import adapter_files, adapters, backend


class EngineServer(listener.Listener):
    """Listens for pipelines.

    Args:
        loop: the event loop that owns it.
        engine: generates the text.
        on_release: called with the name of a lease that its pipeline has released and a function that reports to
            the pipeline that Triton has received the lease's end.
        on_disconnect: called with the owner of leases whose connection is closed.
        loras: the engine's adapters; None if it serves none.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        engine: backend.Backend,
        on_release: Callable[[str, Callable[[], None]], None],
        on_disconnect: Callable[[str], None],
        loras: adapters.Adapters | None = None,
    ) -> None:
        super().__init__(loop, names.ENGINE, lambda _: _Connection(self))
        self.engine = engine
        self.on_release = on_release
        self.on_disconnect = on_disconnect
        self.adapters = loras


class _Connection(listener.Accepted):
    """One pipeline process."""

    def __init__(self, server: EngineServer) -> None:
        super().__init__(server)
        self._server = server
        self._requests: dict[int, adapters.Loaded | None] = {}

    def message(self, kind: str, *rest: Any) -> None:
        if kind == channel.GENERATE:
            self._generate(*rest)
        elif kind == channel.ABORT:
            self._abort(*rest)
        elif kind == channel.ADAPTERS:
            self._want(*rest)
        elif kind == channel.RELEASE:
            (lease,) = rest
            self._server.on_release(lease, functools.partial(self.post, channel.RELEASED, lease))

    def lost(self) -> None:
        for number in list(self._requests):
            self._abort(number)
        if self._server.adapters is not None:
            self._server.adapters.forget(self)
        self._server.on_disconnect(self.owner)

    def _want(self, wanted: list[dict[str, Any]]) -> None:
        tell = functools.partial(self.post, channel.ADAPTERS)
        asked = [adapter_files.Adapter(**each) for each in wanted]
        if self._server.adapters is not None:
            self._server.adapters.want(self, asked, tell)
        else:
            tell(adapters.unsupported(asked))

    def _generate(
        self,
        number: int,
        text: str | None,
        messages: list[dict[str, Any]] | None,
        given: dict[str, Any],
        chat: dict[str, Any],
        adapter: str | None = None,
    ) -> None:
        # Checked by the pipeline; only that is let in here.
        wanted = sampling.SamplingParameters.model_construct(**given)
        generation = backend.Generation(self._id(number), text, messages, wanted, chat)
        if adapter is None:
            self._requests[number] = None
            self._submit(number, generation)
            return
        try:
            if self._server.adapters is None:
                raise errors.RequestError("model_not_found", "lora_name", "the engine serves no adapters")
            loaded = self._server.adapters.use(self, adapter)
        except errors.RequestError as error:
            self.post(channel.ERROR, number, str(error))
            return
        self._requests[number] = loaded
        generation = dataclasses.replace(generation, adapter=loaded.id)
        if loaded.state == "Ready":
            self._submit(number, generation)
        else:
            # The engine has just been started, and loads it.
            loaded.settled.add_done_callback(lambda _: self._submit_loaded(number, generation, loaded))

    def _submit_loaded(self, number: int, generation: backend.Generation, loaded: adapters.Loaded) -> None:
        if self._requests.get(number) is not loaded:
            return
        if loaded.state == "Ready":
            self._submit(number, generation)
        else:
            name = loaded.adapter.name
            message = f"the adapter `{name}` is {loaded.state.lower()}: {loaded.message}"
            self._fail(number, errors.RequestError("model_not_found", "lora_name", message))

    def _submit(self, number: int, generation: backend.Generation) -> None:
        self._server.engine.submit(
            generation, functools.partial(self._update, number), functools.partial(self._fail, number)
        )

    def _abort(self, number: int) -> None:
        if number in self._requests:
            self.discard(number)
            self._server.engine.abort(self._id(number))
            self._leave(number)

    def _update(self, number: int, update: backend.Update) -> None:
        if update.finished:
            self._leave(number)
        self.post_update(number, update)

    def _fail(self, number: int, error: errors.RequestError) -> None:
        self._leave(number)
        self.post(channel.ERROR, number, str(error))

    def _leave(self, number: int) -> None:
        loaded = self._requests.pop(number, None)
        if loaded is not None:
            assert self._server.adapters is not None
            self._server.adapters.release(loaded)

    def _id(self, number: int) -> str:
        return f"{self.owner}-{number}"
