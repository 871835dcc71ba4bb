"""A program: the gateway with two workers and routes that say which worker answers. Prints its port."""

from __future__ import annotations

import asyncio
import os
import socket
import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from fake_upstream import FakeUpstream
from tritonllm.gateway import connections, metrics, observation, records, stack


async def worker(request: Request) -> Response:
    records.of(request.scope).ask("chat")
    return PlainTextResponse(str(os.getpid()))


async def wait(_: Request) -> Response:
    await asyncio.sleep(3600)
    raise AssertionError


def application() -> ASGIApp:
    routes = Starlette(routes=[Route("/worker", worker), Route("/wait", wait)])
    return stack.build(routes, FakeUpstream("chat"), stack.Settings(workers=2))


def main() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    print(port, flush=True)
    with metrics.shared_between_workers(""):
        uvicorn.run(
            "gateway_workers:application",
            factory=True,
            app_dir=os.path.dirname(__file__),
            port=port,
            workers=2,
            log_config=observation.LOGGING,
            timeout_graceful_shutdown=1,
            **connections.options(),
        )


if __name__ == "__main__":
    sys.exit(main())
