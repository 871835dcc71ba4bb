"""Answers `/healthz` for the kubelet, on both families of IP.

A kubelet asks at the pod's first address, which may be of either. The answer says that the event loop turns, and when the
operator last listed all endpoints and pools. Whatever else ends the operator's work ends the process.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from tritonllm import addresses

_GRACE_SECONDS = 300.0


@contextlib.asynccontextmanager
async def answering(
    port: int, seconds_since_resync: Callable[[], float], resync_seconds: float
) -> AsyncIterator[None]:
    """Answers within the block.

    Args:
        port: TCP port, on every interface.
        seconds_since_resync: how long ago the last one ended, well or not.
        resync_seconds: time between two of them; more than that and five minutes means that the operator is stuck.

    Raises:
        OSError: the port is in use.
    """

    async def answer(request: web.Request) -> web.Response:
        seconds = seconds_since_resync()
        told = f"the last resync ended {seconds:.0f} s ago\n"
        stuck = seconds > resync_seconds + _GRACE_SECONDS
        return web.Response(status=503 if stuck else 200, text=f"{'stuck' if stuck else 'ok'}: {told}")

    app = web.Application()
    app.router.add_get("/healthz", answer)
    runner = web.AppRunner(app, handle_signals=False, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        listening = addresses.listening_socket(addresses.available(addresses.ANY), port)
        await web.SockSite(runner, listening).start()
        yield
    finally:
        await runner.cleanup()
