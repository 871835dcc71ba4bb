"""The engine model of an endpoint: Triton's tensors on one side, a backend that makes text on the other.

Its tensors are those of Triton's vLLM backend, so clients of that one work here. Unless `serve` says
otherwise only the pipeline may ask it, because a caller that could would walk around the guardrails.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import pathlib
import threading
from typing import Any

from tritonllm import errors
from tritonllm.runtime import (
    backend,
    doorbell,
    engine_token,
    logs,
    metric_names,
    metrics,
    outbox,
    requests,
    wire,
)

log = logging.getLogger(__name__)

_BACKENDS = {
    "vllm": ("tritonllm.runtime.vllm_engine", "VllmBackend"),
    "simulated": ("tritonllm.runtime.simulated", "SimulatedBackend"),
}
_HOUSEKEEPING_SECONDS = 0.5


class TritonPythonModel:
    """Triton's entry point; see python_backend's `TritonPythonModel`."""

    def initialize(self, args: dict[str, str]) -> None:
        """Starts the engine and returns when it can answer."""
        parameters = wire.config_parameters(args)
        logs.name(args["model_name"])
        self.name = args["model_name"]
        self.streams: dict[str, outbox.Stream] = {}
        self.outbox = outbox.Outbox()
        self.meter = metrics.Meter(parameters["endpoint"], metric_names.ENGINE, {})
        self.loop = asyncio.new_event_loop()
        # vLLM's processes are bound to the thread that starts them; this one lives as long as the model.
        self.thread = threading.Thread(target=self.loop.run_forever, name="engine", daemon=True)
        self.thread.start()
        module, name = _BACKENDS[parameters["engine"]]
        directory = pathlib.Path(args["model_repository"], args["model_version"])
        arguments = json.loads((directory / "model.json").read_text())
        self.backend: backend.Backend = getattr(importlib.import_module(module), name)(arguments)
        self._wait_for(self.backend.start())
        self.housekeeping = asyncio.run_coroutine_threadsafe(self._keep_house(), self.loop)

    def execute(self, triton_requests: list[Any]) -> None:
        """Takes requests; each is answered later through its own sender."""
        wire.receive(triton_requests, self._accept, self._refuse)

    def finalize(self) -> None:
        """Ends the engine; Triton calls it when the last request is answered."""
        self.housekeeping.cancel()
        self._wait_for(self.backend.close())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join()
        self.outbox.close()
        for gauge in (metric_names.ENGINE_RUNNING, metric_names.ENGINE_WAITING, metric_names.ENGINE_KV_CACHE):
            self.meter.set(gauge, 0)
        self.meter.close()

    def _refuse(self, sender: Any, error: errors.RequestError) -> None:
        wire.send_last(sender, wire.error(error))

    def _accept(self, triton_request: Any, sender: Any) -> None:
        public, private = wire.parameters(triton_request)
        if not engine_token.admits(private.get("token", "")):
            raise errors.RequestError(
                "permission_denied",
                "",
                f"{self.name} answers its endpoint only; ask {self.name.removesuffix('-engine')}",
            )
        if "stop" in private:
            asyncio.run_coroutine_threadsafe(self.backend.abort(private["stop"]), self.loop)
            wire.send_last(sender)
            return
        asked = requests.parse(wire.values(triton_request), public)
        if asked.echo and (asked.stream or asked.messages):
            raise errors.RequestError(
                "invalid_argument", "exclude_input_in_output", "false needs `text_input`, and `stream` off"
            )
        ringer = doorbell.Ringer(private["id"]) if "id" in private else None
        stream = outbox.Stream(sender, asked, ringer)
        if asked.text is not None and not asked.stream and not asked.flags.get("exclude_input_in_output"):
            stream.answer.feed(asked.text)
        self.outbox.open(stream)
        name = private.get("id") or f"direct-{id(stream)}"
        asyncio.run_coroutine_threadsafe(self._generate(name, stream), self.loop)

    async def _generate(self, name: str, stream: outbox.Stream) -> None:
        asked = stream.request
        self.streams[name] = stream
        try:
            wanted = asked.sampling
            if asked.wants("logprobs") and wanted.logprobs is None:
                wanted = wanted.model_copy(update={"logprobs": 0})
            generation = backend.Generation(name, asked.text, asked.messages, wanted)
            async for update in self.backend.generate(generation):
                self.outbox.put(stream, update)
        except errors.RequestError as error:
            self.outbox.fail(stream, error)
        except Exception as error:
            log.exception("a request failed in the engine")
            self.outbox.fail(
                stream, errors.RequestError("engine_failure", "", f"the engine failed: {error!r}")
            )
        finally:
            del self.streams[name]

    async def _keep_house(self) -> None:
        while True:
            stats = self.backend.stats()
            self.meter.set(metric_names.ENGINE_RUNNING, stats.running)
            self.meter.set(metric_names.ENGINE_WAITING, stats.waiting)
            self.meter.set(metric_names.ENGINE_KV_CACHE, stats.kv_cache_usage)
            for name, stream in list(self.streams.items()):
                # Behind a pipeline, the pipeline watches.
                if not stream.behind_pipeline and stream.client_is_gone():
                    await self.backend.abort(name)
            try:
                await self.backend.check()
            except Exception:
                log.critical(
                    "the engine is dead; its process ends, so that it is started anew", exc_info=True
                )
                await asyncio.sleep(_HOUSEKEEPING_SECONDS)
                os._exit(1)
            await asyncio.sleep(_HOUSEKEEPING_SECONDS)

    def _wait_for(self, coroutine: Any) -> None:
        asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()
