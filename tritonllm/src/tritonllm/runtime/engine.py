"""The engine model of an endpoint: leases on Triton's side, the private stream on the pipeline's.

Unless `serve` allows it, clients can't call it, because they would bypass the guardrails. If they can, its tensors are
those of Triton's vLLM backend, so clients of that one work here.
"""

from __future__ import annotations

import importlib
import json
import logging
import pathlib
import time
from typing import Any

from tritonllm import engines, errors
from tritonllm.ipc import context_length, engine_address, run_token
from tritonllm.runtime import (
    adapters,
    backend,
    direct,
    dispatcher,
    engine_leases,
    engine_server,
    leases,
    logs,
    metric_names,
    metrics,
    threads,
    wire,
)

log = logging.getLogger(__name__)

_CHECK_SECONDS = 0.5
# A step takes milliseconds, that of a long prompt on a CPU seconds.
STALL_SECONDS = 180.0


class TritonPythonModel:
    """Triton's entry point; see python_backend's `TritonPythonModel`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Starts the engine and returns when it can answer."""
        parameters = wire.config_parameters(args)
        logs.name(args["model_name"])
        self.name = args["model_name"]
        self.meter = metrics.Meter(parameters["endpoint"], metric_names.ENGINE, {})
        # vLLM's processes are bound to the thread that starts them; this one lives as long as the model.
        self.events = threads.EventLoop("engine")
        module, _, name = engines.TYPES[parameters["engine"]].backend.partition(":")
        directory = pathlib.Path(args["model_repository"], args["model_version"])
        arguments = json.loads((directory / "model.json").read_text())
        self.backend: backend.Backend = getattr(importlib.import_module(module), name)(arguments)
        self.events.result(self.backend.start())
        context_length.write(self.name, self.backend.max_model_len)
        self.leases = engine_leases.EngineLeases(self.events.call)
        self.adapters = (
            adapters.Adapters(
                self.events.loop,
                self.backend,
                pathlib.Path(arguments["weights"]),
                pathlib.Path(arguments["model"]),
            )
            if "weights" in arguments
            else None
        )
        self.server = engine_server.EngineServer(
            self.events.loop, self.backend, self.leases.release, self.leases.disconnected, self.adapters
        )
        self.events.result(self.server.start())
        engine_address.write(self.name, self.server.path)
        self.direct: dispatcher.Dispatcher | None = None
        if run_token.direct_allowed():
            run_token.ensure()
            self.direct = direct.dispatcher(self.server.path)
        self.stall = Stall(time.monotonic())
        self.events.call(self._check)
        self.events.watch()

    def execute(self, triton_requests: list[Any]) -> None:
        """Takes leases, and requests of clients if they are allowed."""
        wire.receive(triton_requests, self._accept, wire.close)

    def finalize(self) -> None:
        """Ends the engine; Triton calls it when the last lease has ended."""
        if self.direct:
            self.direct.close()
        self.events.result(self._close())
        self.events.close()
        for gauge in (metric_names.ENGINE_RUNNING, metric_names.ENGINE_WAITING, metric_names.ENGINE_KV_CACHE):
            self.meter.set(gauge, 0)
        self.meter.close()

    async def _close(self) -> None:
        self.server.close()
        if self.adapters is not None:
            await self.adapters.close()
        await self.backend.close()

    def _accept(self, triton_request: Any, sender: Any) -> None:
        public, private = wire.parameters(triton_request)
        if run_token.admits(private.get(leases.TOKEN, "")) and leases.LEASE in private:
            self.leases.grant(private[leases.LEASE], sender, str(self.server.path))
        elif self.direct:
            direct.submit(self.direct, triton_request, sender, public)
        else:
            raise errors.RequestError("permission_denied", "", self._refusal())

    def _refusal(self) -> str:
        endpoint = self.name.removesuffix("-engine")
        if run_token.current():
            return f"{self.name} answers its endpoint only; call {endpoint}"
        return (
            f"{self.name} has no token by which to know its endpoint; start tritonserver by `tritonllm serve`, or with "
            f"a secret in {run_token.VARIABLE}"
        )

    def _check(self) -> None:
        stats = self.backend.stats()
        self.meter.set(metric_names.ENGINE_RUNNING, stats.running)
        self.meter.set(metric_names.ENGINE_WAITING, stats.waiting)
        self.meter.set(metric_names.ENGINE_KV_CACHE, stats.kv_cache_usage)
        if self.stall.seconds(stats, time.monotonic()) > STALL_SECONDS:
            threads.fail(
                f"{stats.running} requests are running, but no step has ended for {STALL_SECONDS:.0f} s"
            )
        self.leases.expire(self.server.connected)
        self.events.loop.create_task(self._check_health())

    async def _check_health(self) -> None:
        try:
            await self.backend.check()
        except Exception:
            threads.fail("the engine is dead")
        self.events.loop.call_later(_CHECK_SECONDS, self._check)


class Stall:
    """How long an engine that has work has not made a step.

    Args:
        now: the monotonic clock, in seconds.
    """

    def __init__(self, now: float) -> None:
        self._steps = -1
        self._since = now

    def seconds(self, stats: backend.Stats, now: float) -> float:
        """The time without progress, 0 if the engine is idle.

        Args:
            stats: of the engine now.
            now: the monotonic clock, in seconds.
        """
        if stats.steps != self._steps or not (stats.running or stats.waiting):
            self._steps = stats.steps
            self._since = now
        return now - self._since
