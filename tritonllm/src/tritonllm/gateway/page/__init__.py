"""The page at `/`: a chat with an endpoint, and a view that applies an endpoint's rules to typed text.

Plain HTML, CSS and JavaScript modules from this package, without a build step. The page talks to this gateway only,
through its public API, and its Content-Security-Policy lets it do nothing else.
"""

from __future__ import annotations

import hashlib
import importlib.resources

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
}

HEADERS = {
    "content-security-policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self';"
    " img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
    # Asked again each time and answered with 304: a new version of the gateway has new files under the same names.
    "cache-control": "no-cache",
}


def routes() -> list[Route]:
    """The routes of the page and its files."""
    files = importlib.resources.files(__name__) / "static"
    found = [_route(f"/assets/{file.name}", file.name, file.read_bytes()) for file in files.iterdir()]
    return [_route("/", "index.html", (files / "index.html").read_bytes()), *found]


def _route(path: str, name: str, content: bytes) -> Route:
    etag = f'"{hashlib.sha256(content).hexdigest()[:32]}"'
    headers = {**HEADERS, "etag": etag, "content-type": _TYPES[name.rpartition(".")[2]]}

    async def answer(request: Request) -> Response:
        if request.headers.get("if-none-match") == etag:
            return Response(status_code=304, headers=headers)
        return Response(content, headers=headers)

    return Route(path, answer, methods=["GET"])
