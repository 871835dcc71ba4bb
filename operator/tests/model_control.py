"""The model control of a Triton for tests: what it holds, loads with complete configurations, and every fault of it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import random
import threading
from collections.abc import Awaitable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf import json_format
from tritonclient.grpc import model_config_pb2, service_pb2, service_pb2_grpc

from tritonllm import api, files
from tritonllm.render import config
from tritonllm.serve import api_lock

pb: Any = service_pb2
schema: Any = model_config_pb2
T = TypeVar("T")

PORT = 8001
SECRET = "known-to-the-pods"


@dataclass
class Held:
    """A model of a server.

    Attributes:
        state: as the index says it.
        config: with which it was loaded last.
        reason: why it is not ready.
    """

    state: str
    config: Any
    reason: str = ""


class Triton(service_pb2_grpc.GRPCInferenceServiceServicer):
    """One server.

    Attributes:
        address: where it listens, on the port of all Tritons.
        secret: who has it may control models.
        models: by name.
        done: what was changed, in order: `load` or `unload`, and the model.
        hangs_in_loads: a load does not end.
        told: every secret that it was sent.
        hangs: it accepts questions and never answers.
        fails: what a load of a model is answered with, by name.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.secret = SECRET
        self.models: dict[str, Held] = {}
        self.done: list[tuple[str, str]] = []
        self.told: list[str] = []
        self.hangs_in_loads = False
        self.hangs = False
        self.fails: dict[str, str] = {}

    def boot(self, text: str) -> None:
        """Starts anew with the endpoints of a file."""
        items = json.loads(text)["items"]
        endpoints = [files.resource(item, deep=False)[0] for item in items]
        self.models = {
            model.name: Held("READY", model)
            for endpoint in endpoints
            if endpoint is not None
            for model in config.models(endpoint)
        }
        self.done.clear()

    def holds(self, endpoint: api.LLMEndpoint) -> bool:
        """Whether all models of an endpoint are ready with exactly their configurations."""
        found = {model.name: self.models.get(model.name) for model in config.models(endpoint)}
        return all(
            held is not None and held.state == "READY" and held.config == model
            for model in config.models(endpoint)
            for held in (found[model.name],)
        )

    async def RepositoryIndex(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        await self._begin(context)
        answer = pb.RepositoryIndexResponse()
        # What lies in the repository and was never loaded has a row without a state.
        answer.models.add(name="never-loaded")
        for name, held in self.models.items():
            answer.models.add(name=name, version="1", state=held.state, reason=held.reason)
        return answer

    async def ModelConfig(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        await self._begin(context)
        held = self.models.get(request.name)
        if held is None or held.state != "READY":
            message = f"Request for unknown model: '{request.name}' is not found"
            await context.abort(grpc.StatusCode.NOT_FOUND, message)
        assert held is not None
        return pb.ModelConfigResponse(config=held.config)

    async def RepositoryModelLoad(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        await self._begin(context)
        name = request.model_name
        given = schema.ModelConfig()
        json_format.Parse(request.parameters["config"].string_param, given)
        before = self.models.get(name)
        if before is None or before.state != "READY":
            self.models[name] = Held("LOADING", given)
        while self.hangs_in_loads:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        self.done.append(("load", name))
        if name in self.fails:
            reason = f"Internal: {self.fails[name]}\n\nAt:\n  /repository/{name}/1/model.py(3): initialize\n;"
            if before is None or before.state != "READY":
                self.models[name] = Held("UNAVAILABLE", given, reason)
            message = f"load failed for model '{name}': version 1 is at UNAVAILABLE state: {reason}"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, message)
        self.models[name] = Held("READY", given)
        return pb.RepositoryModelLoadResponse()

    async def RepositoryModelUnload(self, request: Any, context: grpc.aio.ServicerContext[Any, Any]) -> Any:
        await self._begin(context)
        self.done.append(("unload", request.model_name))
        held = self.models.get(request.model_name)
        if held is not None and held.state == "READY":
            # The answer comes before the end.
            held.state = "UNLOADING"

            def end() -> None:
                held.state, held.reason = "UNAVAILABLE", "unloaded"

            asyncio.get_running_loop().call_later(0.05, end)
        return pb.RepositoryModelUnloadResponse()

    async def _begin(self, context: grpc.aio.ServicerContext[Any, Any]) -> None:
        # Another thread says when it is over.
        while self.hangs:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        header = api_lock.GRPC_HEADER
        sent = [str(item[1]) for item in context.invocation_metadata() or () if item[0] == header]
        self.told += sent
        if self.secret not in sent:
            message = f"This protocol is restricted, expecting header '{header}'"
            await context.abort(grpc.StatusCode.UNAVAILABLE, message)


class Tritons:
    """All servers of the tests, each with an address of its own on loopback."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tritons")
        self._thread.start()
        self._servers: dict[str, grpc.aio.Server] = {}
        # Tests that run at the same time take other networks.
        self._addresses = itertools.count(random.SystemRandom().randrange(2**16, 2**23) // 4096 * 4096 + 1)

    def new(self) -> Triton:
        """A server that holds nothing."""
        while True:
            number = next(self._addresses)
            address = f"127.{number >> 16}.{number >> 8 & 255}.{number & 255}"
            triton = Triton(address)
            with contextlib.suppress(RuntimeError):
                self._servers[address] = self._wait(self._serve(triton))
                return triton

    def end(self, triton: Triton) -> None:
        """Nobody answers there any more."""
        self._wait(self._servers.pop(triton.address).stop(None))

    def close(self) -> None:
        """Ends all."""
        for server in self._servers.values():
            self._wait(server.stop(None))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _serve(self, triton: Triton) -> grpc.aio.Server:
        server = grpc.aio.server(options=[("grpc.so_reuseport", 0)])
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(triton, server)
        server.add_insecure_port(f"{triton.address}:{PORT}")
        await server.start()
        return server

    def _wait(self, work: Awaitable[T]) -> T:
        async def done() -> T:
            return await work

        return asyncio.run_coroutine_threadsafe(done(), self._loop).result(30)


@contextlib.contextmanager
def running() -> Iterator[Tritons]:
    """Servers until the end of the block."""
    tritons = Tritons()
    try:
        yield tritons
    finally:
        tritons.close()


def changes(tritons: Iterable[Triton]) -> list[list[tuple[str, str]]]:
    """What was changed on each."""
    return [list(triton.done) for triton in tritons]


def configuration(endpoint: api.LLMEndpoint, name: str) -> Any:
    """The configuration of one of an endpoint's models."""
    return next(model for model in config.models(endpoint) if model.name == name)
