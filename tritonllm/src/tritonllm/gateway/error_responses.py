"""Errors of what surrounds the routes, for code that has no request object: middleware, and connections."""

from __future__ import annotations

from collections.abc import Sequence

import orjson
from starlette.types import Send

from tritonllm import errors
from tritonllm.gateway import failures

Headers = Sequence[tuple[bytes, bytes]]


def body(code: errors.Code, message: str) -> bytes:
    """The body of a response with an error, as JSON.

    Args:
        code: a code of `errors.TABLE`, which has its `type`.
        message: what is wrong and what to do.
    """
    return orjson.dumps(failures.content(errors.RequestError(code, "", message)))


async def respond(
    send: Send, code: errors.Code, message: str, headers: Headers = (), status: int | None = None
) -> None:
    """Answers a request with an error.

    Args:
        send: ASGI's.
        code: a code of `errors.TABLE`, which has its HTTP status.
        message: what is wrong and what to do.
        headers: further headers.
        status: HTTP status, if it is not that of the code.
    """
    content = body(code, message)
    described = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send(
        {
            "type": "http.response.start",
            "status": status or errors.TABLE[code].status,
            "headers": [*described, *headers],
        }
    )
    await send({"type": "http.response.body", "body": content})
