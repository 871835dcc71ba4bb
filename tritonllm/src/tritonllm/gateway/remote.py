"""The endpoints of a Triton server elsewhere, asked over the network as any client does."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Literal

from tritonllm import client, errors
from tritonllm.client import asynchronous, exchange
from tritonllm.gateway import calls, upstream


class RemoteUpstream:
    """See `upstream.Upstream`.

    Args:
        url: of Triton, as in `client.AsyncClient`.
        names: the endpoints. Triton's list of models is an administrative API, which pools keep closed.

    Raises:
        InvalidRequest: the URL is invalid.
    """

    def __init__(self, url: str, names: Sequence[str]) -> None:
        self._address = asynchronous.parse_url(url)
        if "/" in self._address[1]:
            raise client.InvalidRequest(f"must be the address of Triton, got {url!r}", field="url")
        # Its guardrail policy is not known here: it is in the configuration of the model, which pools keep closed too.
        self._endpoints = {name: upstream.Endpoint(name, time.time(), "") for name in names}
        self._tasks: set[asyncio.Task[None]] = set()
        self._transport: exchange.Transport

    async def start(self) -> None:
        """See `upstream.Upstream`."""
        self._transport = asynchronous.transport(*self._address)

    async def close(self) -> None:
        """See `upstream.Upstream`."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._transport.close()

    def endpoints(self) -> dict[str, upstream.Endpoint]:
        """See `upstream.Upstream`."""
        return self._endpoints

    def submit(self, endpoint: str, inputs: upstream.Inputs) -> calls.Call:
        """See `upstream.Upstream`."""
        if endpoint not in self._endpoints:
            raise errors.RequestError(
                "model_not_found", "model", f"the endpoint {endpoint} is not served here"
            )
        call = calls.Call()
        task = asyncio.get_running_loop().create_task(self._read(call, endpoint, inputs))
        call.on_close = lambda _: task.cancel()
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return call

    async def check(
        self, endpoint: str, text: str, direction: Literal["input", "output"]
    ) -> upstream.Verdict:
        """See `upstream.Upstream`."""
        inputs: dict[str, str | bool] = {"text_input": text, "direction": direction}
        try:
            async for outputs in self._transport.infer(f"{endpoint}-guardrail", inputs):
                return upstream.verdict(dict(outputs))
        except client.TritonLLMError as error:
            raise errors.RequestError(error.code, error.field, error.message) from None
        raise errors.RequestError("internal", "", "the guardrail model sent no response")

    async def _read(self, call: calls.Call, endpoint: str, inputs: upstream.Inputs) -> None:
        responses = self._transport.responses(endpoint, dict(inputs))
        final = False
        try:
            async for outputs in responses:
                final = "guardrail" in outputs
                call.arrived(dict(outputs), final=final)
            if not final:
                call.failed(
                    errors.RequestError("stream_broken", "", "Triton ended the answer before it was complete")
                )
        except client.TritonLLMError as error:
            call.failed(errors.RequestError(error.code, error.field, error.message))
        except Exception as error:
            call.failed(errors.RequestError("internal", "", f"the gateway failed: {error!r}"))
            raise
        finally:
            await responses.aclose()
