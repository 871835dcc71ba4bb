"""The gateway's process: it puts the application together and runs it on uvicorn."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from tritonllm import addresses
from tritonllm.gateway import (
    access,
    app,
    connections,
    keys,
    local,
    metrics,
    observation,
    remote,
    stack,
    tracing,
    upstream,
)


class CannotStart(Exception):
    """The gateway must not start as it is asked to; the message says what to do."""


@dataclasses.dataclass(frozen=True)
class Options:
    """Options of the gateway.

    Attributes:
        triton: URL of Triton.
        directory: of the run whose pipelines are asked over private streams; empty to ask through Triton.
        models: the endpoints to ask through Triton.
        host: address to listen on.
        port: port to listen on.
        workers: number of processes.
        drain_seconds: maximum time for requests to complete after SIGTERM.
        api_keys: file or directory of the API keys; empty if there are none.
        allow_anonymous: whether requests need no key on other addresses than the loopback either.
        cors_origins: origins whose pages may use it.
    """

    triton: str
    directory: str = ""
    models: Sequence[str] = ()
    host: str = "127.0.0.1"
    port: int = 8080
    workers: int = 1
    drain_seconds: float = 10.0
    api_keys: str = ""
    allow_anonymous: bool = False
    cors_origins: Sequence[str] = ()


# Workers are new processes, which import `application`.
_OPTIONS = "TRITONLLM_GATEWAY_OPTIONS"


def run(options: Options) -> None:
    """Serves until SIGTERM or SIGINT.

    Raises:
        CannotStart: see there.
        files.Invalid: the key file is invalid.
    """
    try:
        tracing.configured(os.environ)
    except tracing.NotInstalled as error:
        raise CannotStart(str(error)) from None
    refusal = access.refusal_to_listen(
        options.host, keys=bool(options.api_keys), allow_anonymous=options.allow_anonymous
    )
    if refusal is not None:
        raise CannotStart(refusal)
    if options.api_keys:
        # Before the workers start, so that a mistake is reported once and ends the command.
        keys.load([Path(options.api_keys)])
    # Each client is an open file; the usual soft limit, 1,024, is for programs that use select().
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    os.environ[_OPTIONS] = json.dumps(dataclasses.asdict(options))
    shared = metrics.shared_between_workers(options.directory)
    with shared if options.workers > 1 else contextlib.nullcontext():
        _serve(options)


def _serve(options: Options) -> None:
    # A single worker's loop binds `::` to IPv6 only; without a host, it binds both families.
    # workaround: W25
    both = options.host == addresses.ANY and options.workers == 1
    uvicorn.run(
        f"{__name__}:application",
        factory=True,
        host="" if both else options.host,
        port=options.port,
        workers=options.workers,
        lifespan="on",
        log_config=observation.LOGGING,
        **connections.options(),
        timeout_graceful_shutdown=max(1, round(options.drain_seconds)),
    )


def application() -> ASGIApp:
    """The application of a worker, for uvicorn."""
    given: dict[str, Any] = json.loads(os.environ[_OPTIONS])
    options = Options(**given)
    asked = _upstream(options)
    settings = stack.Settings(
        keys=keys.KeyFile([Path(options.api_keys)]) if options.api_keys else None,
        local_only=not options.allow_anonymous,
        workers=options.workers,
        cors_origins=options.cors_origins,
        spans=tracing.from_environment(os.environ),
    )
    return stack.build(app.create_app(asked), asked, settings)


def _upstream(options: Options) -> upstream.Upstream:
    if options.directory:
        return local.LocalUpstream(Path(options.directory))
    return remote.RemoteUpstream(options.triton, options.models)
