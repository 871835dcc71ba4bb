"""Who may ask: API keys and their limits in front of the routes, and where a gateway without keys may listen."""

from __future__ import annotations

import ipaddress
import urllib.parse
from collections.abc import Sequence

from starlette.types import ASGIApp, Receive, Scope, Send

from tritonllm.gateway import error_responses, records
from tritonllm.gateway.keys import KeyFile
from tritonllm.gateway.limits import Limiter

OPEN_PATHS = frozenset({"/", "/favicon.ico", "/health", "/metrics", "/openapi.json"})
"""Paths that need no key: the page, the API's description, and what probes and Prometheus ask. All others need one."""

OPEN_PREFIX = "/assets/"
"""Prefix of the files of the page, which need no key either."""

_CHALLENGE = (b"www-authenticate", b"Bearer")


def refusal_to_listen(host: str, *, keys: bool, allow_anonymous: bool) -> str | None:
    """Why the gateway must not start; None if it may.

    Without keys, everybody who can connect can use the endpoints. That is what a developer wants on a machine of their
    own, and an accident everywhere else.

    Args:
        host: address to listen on.
        keys: whether there is a key file.
        allow_anonymous: whether `--allow-anonymous` was given.
    """
    if keys or allow_anonymous or _is_loopback(host):
        return None
    return (
        f"the gateway does not listen on {host or 'all interfaces'} without API keys, because everybody who can"
        " connect could use the endpoints. Create a key with `tritonllm keys create NAME` and pass its file with"
        " --api-keys, or listen on 127.0.0.1, or pass --allow-anonymous"
    )


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


class LocalOnly:
    """ASGI middleware of a gateway without keys on loopback: it keeps pages of other sites away from it.

    A developer's browser reaches the gateway as well as the developer does. So requests have to name this machine as
    their host, which those of a site whose name was made to lead here (DNS rebinding) do not, and those that come from
    a page have to come from the gateway's own, or from an origin that was named.
    """

    def __init__(self, app: ASGIApp, cors_origins: Sequence[str]) -> None:
        self._app = app
        self._origins = frozenset(cors_origins)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] == "http":
            headers = dict(scope["headers"])
            host = headers.get(b"host", b"").decode("latin-1")
            origin = headers.get(b"origin", b"").decode("latin-1")
            message = None
            if not _is_local(host):
                message = (
                    "The gateway has no API keys, so it answers only requests to this machine's own names, such as"
                    " localhost; start it with --api-keys, or with --allow-anonymous"
                )
            elif origin and origin not in self._origins and origin.partition("://")[2] != host:
                message = (
                    f"Pages of {origin} may not use the gateway; start it with --cors-origin to allow it"
                )
            if message is not None:
                records.of(scope).fail("permission_denied")
                await error_responses.respond(send, "permission_denied", message)
                return
        await self._app(scope, receive, send)


def _is_local(host: str) -> bool:
    try:
        name = urllib.parse.urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return _is_loopback(name) or name.endswith(".localhost")


class Access:
    """ASGI middleware that refuses requests without a valid key, or beyond the limits of their key.

    Limits are for POST requests. Which endpoints a key is valid for is checked when a route calls `Record.ask`.
    """

    def __init__(self, app: ASGIApp, keys: KeyFile, limiter: Limiter) -> None:
        self._app = app
        self._keys = keys
        self._limiter = limiter

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handles a request."""
        if scope["type"] != "http" or scope["path"] in OPEN_PATHS or scope["path"].startswith(OPEN_PREFIX):
            await self._app(scope, receive, send)
            return
        record = records.of(scope)
        secret = _secret(scope)
        # Read once, because the file can change meanwhile.
        keys = self._keys.keys
        name = keys.find(secret) if secret else None
        if name is None:
            message = (
                "The API key is not valid for this gateway"
                if secret
                else "The request has no API key; send one in the header `Authorization: Bearer sk-…`"
            )
            record.fail("invalid_api_key")
            await error_responses.respond(send, "invalid_api_key", message, [_CHALLENGE])
            return
        record.key_name, record.key = name, keys.entries[name]
        if scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        usage = self._limiter.usage(name, record.key)
        refusal = usage.begin()
        if refusal is not None:
            record.fail("rate_limit_exceeded")
            retry = (b"retry-after", str(refusal.retry_after).encode())
            await error_responses.respond(send, "rate_limit_exceeded", refusal.message, [retry])
            return
        try:
            await self._app(scope, receive, send)
        finally:
            usage.end(record.input_tokens + record.output_tokens)


def _secret(scope: Scope) -> str:
    """The secret that a request carries; empty if it carries none.

    `x-api-key` is what clients send that cannot set `Authorization`, such as LiteLLM's guardrails.
    """
    secret = ""
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, credentials = value.decode("latin-1").partition(" ")
            if scheme.lower() == "bearer":
                return credentials.strip()
        elif name == b"x-api-key":
            secret = value.decode("latin-1")
    return secret
