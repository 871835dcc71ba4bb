"""Triton's HTTP API: the generate extension, with server-sent events for streams."""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import AsyncGenerator
from typing import Any
from urllib.parse import quote

import aiohttp

from tritonllm import event_stream
from tritonllm.client import answers, ask, errors

_JSON = {"Content-Type": "application/json"}


class Transport:
    """A pool of connections, one for each open request.

    Args:
        url: scheme, host and port.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), timeout=aiohttp.ClientTimeout(total=None)
        )

    async def responses(self, model: str, inputs: ask.Inputs) -> AsyncGenerator[answers.Outputs, None]:
        """Sends a request to a decoupled model; closing the generator cancels it on the server."""
        # Streamed even if the caller wants a whole answer: Triton notices a disconnected client only when it writes.
        asked = inputs | {"stream": True}
        async with contextlib.aclosing(self._post(model, "generate_stream", asked)) as bodies:
            async for body in bodies:
                yield {name: value if isinstance(value, list) else [value] for name, value in body.items()}

    async def infer(self, model: str, inputs: ask.Inputs) -> AsyncGenerator[answers.Outputs, None]:
        """Sends a request of strings to a batched model, which sends one response."""
        tensors = [
            {"name": name, "datatype": "BYTES", "shape": [1, 1], "data": [value]}
            for name, value in inputs.items()
        ]
        async with contextlib.aclosing(self._post(model, "infer", {"inputs": tensors})) as bodies:
            async for body in bodies:
                yield {tensor["name"]: tensor["data"] for tensor in body["outputs"]}

    async def close(self) -> None:
        """Closes the connections and cancels all requests on them."""
        await self._session.close()

    async def _post(
        self, model: str, verb: str, body: dict[str, Any]
    ) -> AsyncGenerator[dict[str, Any], None]:
        url = f"{self._url}/v2/models/{quote(model, safe='')}/{verb}"
        # A file, because aiohttp would send long bytes in one write and warn about it.
        content = io.BytesIO(json.dumps(body).encode())
        try:
            # Leaving this block before the whole body was read closes the connection, which cancels the request.
            async with self._session.post(url, data=content, headers=_JSON) as reply:
                if reply.content_type == "text/event-stream":
                    async for event in event_stream.events(reply.content.iter_any()):
                        yield _object(event, model, reply)
                else:
                    yield _object(await reply.read(), model, reply)
        except (aiohttp.ClientError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise errors.ServerUnreachable(
                f"cannot reach Triton over HTTP at {self._url}; is it running, and is this its HTTP port? ({reason})"
            ) from None


def _object(text: bytes, model: str, reply: aiohttp.ClientResponse) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if isinstance(found, dict) and "error" in found:
        raise errors.classify(str(found["error"]), model)
    if not isinstance(found, dict) or reply.status != 200:
        start = text[:200].decode(errors="replace").strip()
        raise errors.ServerFailed(
            f"{reply.url} returned HTTP {reply.status} {start!r}; is this Triton's HTTP port?"
        )
    return found
