"""Answers `/healthz` for the kubelet, on both families of IP.

A kubelet asks at the pod's first address, which may be of either. The answer says that the event loop turns, and whether
passes end. Whatever else ends the operator's work ends the process.
"""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Callable

from aiohttp import web

from tritonllm import addresses

_STUCK_SECONDS = 300.0


@contextlib.asynccontextmanager
async def answering(port: int, seconds_waiting: Callable[[], float]) -> AsyncIterator[None]:
    """Answers within the block.

    Args:
        port: TCP port, on every interface.
        seconds_waiting: how long a change has waited for the end of a pass over its pool; more than five minutes means
            that the operator is stuck.

    Raises:
        OSError: the port is in use.
    """

    async def answer(request: web.Request) -> web.Response:
        seconds = seconds_waiting()
        if seconds <= _STUCK_SECONDS:
            return web.Response(text="ok\n")
        told = f"stuck: a change has waited for {seconds:.0f} s for the end of a pass over its pool\n"
        return web.Response(status=503, text=told)

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
