"""Answers `/healthz` for the kubelet, on both families of IP.

A kubelet asks at the pod's first address, which may be of either. The answer says that the event loop turns: whatever ends
the operator's work ends the process.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator

from aiohttp import web

from tritonllm import addresses


@contextlib.asynccontextmanager
async def answering(port: int) -> AsyncIterator[None]:
    """Answers within the block.

    Args:
        port: TCP port, on every interface.

    Raises:
        OSError: the port is in use.
    """
    app = web.Application()
    app.router.add_get("/healthz", _well)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        listening = addresses.listening_socket(addresses.available(addresses.ANY), port)
        await web.SockSite(runner, listening).start()
        yield
    finally:
        await runner.cleanup()


async def _well(request: web.Request) -> web.Response:
    return web.Response(text="ok\n")
