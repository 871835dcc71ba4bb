"""The body of a request, from bytes to a JSON object; and a JSON object as a response."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import orjson
from starlette.requests import Request
from starlette.responses import Response

from tritonllm import errors

# Parts of a request go on inside of other objects, and orjson writes at most 254 levels.
_LEVELS_AROUND = 14
_MAX_LEVELS = 254 - _LEVELS_AROUND

MAX_VALUES = 50_000
"""Maximum number of values in a body; 10,000 messages have 30,000. Other requests wait while a body is validated, which
takes 4 to 10 microseconds per value."""

Handler = Callable[[Request], Awaitable[Any]]


async def document(request: Request) -> dict[str, Any]:
    """The JSON object that was sent.

    Raises:
        RequestError: `invalid_argument`: it is not JSON or not an object. Lone surrogates, numbers that are not finite,
            and a nesting of more than 240 levels are refused, too. `request_too_large`: it has too many values.
    """
    body = await request.body()
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise errors.RequestError("invalid_argument", "", f"The body is not valid JSON: {error}") from None
    if not isinstance(found, dict):
        raise errors.RequestError("invalid_argument", "", "The body must be a JSON object")
    opened = body.count(b"[") + body.count(b"{")
    if opened > _MAX_LEVELS:
        _check_levels(found)
    # Commas in texts count here, too.
    if opened + body.count(b",") > MAX_VALUES:
        _check_values(found)
    return found


def _check_levels(found: Any) -> None:
    wrapped = found
    for _ in range(_LEVELS_AROUND):
        wrapped = [wrapped]
    try:
        orjson.dumps(wrapped)
    except orjson.JSONEncodeError:
        message = f"The body is nested too deeply; send at most {_MAX_LEVELS} levels"
        raise errors.RequestError("invalid_argument", "", message) from None


def _check_values(found: dict[str, Any]) -> None:
    number = 0
    pending: list[Any] = [found]
    while pending:
        value = pending.pop()
        items = value.values() if isinstance(value, dict) else value
        number += len(items)
        if number > MAX_VALUES:
            message = f"The body has more than {MAX_VALUES} values; send less"
            raise errors.RequestError("request_too_large", "", message)
        pending += [item for item in items if isinstance(item, (dict, list))]


def respond(content: Any, headers: Mapping[str, str] | None = None) -> Response:
    """A response with a JSON object."""
    return Response(orjson.dumps(content), headers=dict(headers or {}), media_type="application/json")
