"""What callers and the log are told when an upstream fails: one sentence for each way. Pure.

Callers read neither the address of the upstream nor the name of its key, which are in the log.
"""

from __future__ import annotations

import json
import socket
from typing import Any

import aiohttp

from tritonllm import errors, sampling

CONNECT_SECONDS = 10.0
"""Maximum time to connect to an upstream."""

# Longer ones quote the request.
_MAX_MESSAGE = 500


def refused(status: int, body: bytes, *, retry_after: str, field: str, key: str) -> errors.RequestError:
    """The error for a response that is not an answer.

    Args:
        status: of the response.
        body: of the response, or its start.
        retry_after: the header; empty if there is none.
        field: what the prompt is in, `messages` or `text_input`.
        key: what the upstream was asked with; never shown.
    """
    described = _described(body)
    code = str(described.get("code") or described.get("type") or "")
    if status in (401, 403):
        # Not quoted: it can show parts of the key.
        return _error("unavailable", "refuses the API key of this endpoint; its owner has to correct it")
    if status == 404:
        return _error(
            "unavailable",
            "has no such model or no such route (conversations need /chat/completions, prompts without a chat template "
            "/completions); the owner of this endpoint has to correct `engine.args.model` or `engine.args.url`",
        )
    if status == 429 and "quota" in code:
        return _error("unavailable", "has no quota left for this endpoint; its owner has to raise it")
    if status == 429:
        when = f"in {retry_after} s" if retry_after.isdigit() else "later"
        return _error("queue_full", f"is overloaded or limits this endpoint's requests; try again {when}")
    if status == 408 or status == 504:
        return _error("unavailable", "has not generated the answer in its own time limit; try again later")
    if 300 <= status < 400:
        return _error(
            "unavailable",
            "redirects to another address, which is not followed; the owner of this endpoint has to correct `engine.args.url`",
        )
    if 400 <= status < 500:
        return errors.RequestError(
            "invalid_argument",
            _field(described, field),
            f"the upstream refuses the request: {_message(described, key)}",
        )
    if status == 500:
        return _error("engine_failure", "failed on this request (status 500); try again")
    return _error("unavailable", f"is not available at the moment (status {status}); try again later")


def ended(error: Any, key: str) -> errors.RequestError:
    """The error for a stream that ended with one.

    Args:
        error: `error` of the last event.
        key: what the upstream was asked with; never shown.
    """
    message = _message(error if isinstance(error, dict) else {"message": error}, key)
    return _error("engine_failure", f"failed before the answer was complete: {message}")


def broken(error: Exception, *, begun: bool, idle_seconds: float) -> errors.RequestError:
    """The error for a connection that failed.

    Args:
        error: of aiohttp.
        begun: whether the upstream had begun to answer.
        idle_seconds: maximum time without a byte.
    """
    if isinstance(error, aiohttp.ClientSSLError):
        return _error(
            "unavailable", "can't be reached: its certificate is not valid for this pod, or it has no TLS"
        )
    if isinstance(error, aiohttp.ClientConnectorError) and isinstance(error.os_error, socket.gaierror):
        return _error("unavailable", "can't be reached: its name can't be resolved")
    if isinstance(error, TimeoutError) and not begun:
        return _error(
            "unavailable",
            f"did not accept the connection within {CONNECT_SECONDS:g} s, or has not answered for {idle_seconds:g} s; try"
            " again later",
        )
    if isinstance(error, TimeoutError):
        return _error("engine_failure", f"has sent nothing for {idle_seconds:g} s; try again later")
    if begun:
        return _error("engine_failure", "closed the connection before the answer was complete; try again")
    if isinstance(error, aiohttp.ServerDisconnectedError):
        return _error("unavailable", "closed the connection without an answer; try again")
    if isinstance(error, aiohttp.ClientResponseError):
        return _error("unavailable", "can't be reached: it does not answer with HTTP")
    reason = getattr(error, "strerror", None) or type(error).__name__
    return _error("unavailable", f"can't be reached: {reason}; try again later")


def not_a_stream(content_type: str) -> errors.RequestError:
    """The error for a response that has another form.

    Args:
        content_type: its media type.
    """
    return _error("engine_failure", f"did not answer with a stream of events, but with {content_type}")


def _error(code: errors.Code, what: str) -> errors.RequestError:
    return errors.RequestError(code, "", f"the upstream {what}")


def _described(body: bytes) -> dict[str, Any]:
    """The error in a body, in OpenAI's form or in those of servers that have others."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return {"message": body.decode(errors="replace").strip()}
    if not isinstance(found, dict):
        return {"message": found}
    inner = found.get("error", found.get("detail", found))
    return inner if isinstance(inner, dict) else {"message": inner}


def _message(described: dict[str, Any], key: str) -> str:
    message = described.get("message")
    text = message if isinstance(message, str) else json.dumps(message if message is not None else described)
    shown = text.replace(key, "[API key]") if key else text
    return shown[:_MAX_MESSAGE] or "it does not say why"


def _field(described: dict[str, Any], field: str) -> str:
    """The input at fault, by our name."""
    parameter = str(described.get("param") or "")
    if parameter in sampling.SamplingParameters.model_fields:
        return f"sampling_parameters.{parameter}"
    return field if parameter.startswith(("messages", "prompt")) else ""
