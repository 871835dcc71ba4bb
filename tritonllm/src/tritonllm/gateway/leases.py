"""Leases of pipelines: requests to Triton that keep a pipeline loaded while the gateway uses it.

The prompts and answers of the gateway travel over the private stream, of which Triton knows nothing. Its first response
names the socket of the pipeline that Triton has loaded now.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import AsyncGenerator
from typing import Any

from tritonllm import client, errors
from tritonllm.client import http_transport
from tritonllm.ipc import names, run_token

log = logging.getLogger(__name__)

_OPEN_SECONDS = 30.0
_END_SECONDS = 10.0


class TritonLeases:
    """The leases of one endpoint; see `ipc.leased.Leases`.

    Args:
        transport: to Triton.
        endpoint: name of the endpoint.
        owner: identifies this process to the pipeline.
    """

    def __init__(self, transport: http_transport.Transport, endpoint: str, owner: str) -> None:
        self._transport = transport
        self._endpoint = endpoint
        self._owner = owner
        self._numbers = itertools.count(1)
        self._responses: dict[str, AsyncGenerator[Any, None]] = {}
        self._ending: set[asyncio.Task[None]] = set()

    async def open(self) -> tuple[str, str]:
        """See `ipc.leased.Leases`."""
        name = f"{self._owner}.{next(self._numbers)}"
        inputs: dict[str, str | bool] = {
            names.TOKEN: run_token.current(),
            names.LEASE: name,
        }
        responses = self._transport.responses(self._endpoint, inputs)
        try:
            async with asyncio.timeout(_OPEN_SECONDS):
                outputs = await anext(responses)
        except TimeoutError:
            raise self._unavailable(f"Triton has not answered for {_OPEN_SECONDS:.0f} s") from None
        except StopAsyncIteration:
            raise self._unavailable("it ended the call without a response") from None
        except client.TritonLLMError as error:
            raise self._unavailable(str(error)) from None
        self._responses[name] = responses
        return name, str(outputs["text_output"][0])

    def finish(self, name: str) -> None:
        """See `ipc.leased.Leases`."""
        self._end(name, read=True)

    def abandon(self, name: str) -> None:
        """See `ipc.leased.Leases`."""
        self._end(name, read=False)

    def close(self) -> None:
        """See `ipc.leased.Leases`."""
        for name in list(self._responses):
            self.abandon(name)

    def _end(self, name: str, *, read: bool) -> None:
        responses = self._responses.pop(name, None)
        if responses is not None:
            task = asyncio.get_running_loop().create_task(_close(responses, read=read))
            self._ending.add(task)
            task.add_done_callback(self._ending.discard)

    def _unavailable(self, reason: str) -> errors.RequestError:
        return errors.RequestError(
            "unavailable", "", f"the endpoint {self._endpoint} can't be called: {reason}; try again later"
        )


async def _close(responses: AsyncGenerator[Any, None], *, read: bool) -> None:
    try:
        if read:
            # The response has ended, so that its connection can be used again.
            async with asyncio.timeout(_END_SECONDS):
                async for _ in responses:
                    pass
    except (client.TritonLLMError, TimeoutError) as error:
        log.debug("a lease did not end in order: %s", error)
    finally:
        await responses.aclose()
