"""Errors as OpenAI's API has them: HTTP status and body of a failed request, and the event of a failed stream.

A `RequestError` names fields as the pipeline does. `Names` translates them to what the caller sent, so that `param` is
always a field of the caller's own request.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import orjson
from starlette.responses import Response

from tritonllm import errors

RETRY_SECONDS = 1
"""`Retry-After` of a full queue: a place is free as soon as any answer is complete."""

# The pipeline's inputs whose fields are fields of the body for callers.
_OBJECTS = re.compile(r"^(sampling_parameters|chat_options)\.")

_RETRYABLE = frozenset({"queue_full", "unavailable"})


class Blocked(errors.RequestError):
    """A prompt that a guardrail rule blocked.

    Args:
        field: of the request, if it is known which one.
        guardrail: what the rules found; see `upstream.Verdict`.
    """

    def __init__(self, field: str, guardrail: list[dict[str, Any]]) -> None:
        self.rules = sorted({each["rule"] for each in guardrail if each["action"] == "Block"})
        rules = ", ".join(f"`{rule}`" for rule in self.rules)
        super().__init__(
            "content_filter", field, f"The prompt was blocked by the guardrail rule {rules}; change it"
        )
        self.guardrail = guardrail


def translated(error: errors.RequestError, names: Mapping[str, str]) -> errors.RequestError:
    """The error with the caller's names.

    Args:
        error: with the pipeline's names, such as `sampling_parameters.max_tokens`.
        names: the caller's name for each of the pipeline's that differs: of a whole path, or of the first part of one,
            such as `{"max_tokens": "max_completion_tokens"}`.
    """
    field = renamed(error.field, names)
    if isinstance(error, Blocked):
        return Blocked(field, error.guardrail)
    message = error.message.replace("`text_input`", "`prompt` of /v1/completions")
    for theirs, ours in names.items():
        message = message.replace(f"sampling_parameters.{theirs}:", f"{ours}:")
    return errors.RequestError(error.code, field, message)


def renamed(field: str, names: Mapping[str, str]) -> str:
    """The caller's name of a field; see `translated`."""
    field = _OBJECTS.sub("", field)
    if field in names:
        return names[field]
    # What is inside of a list that has another name is not where it is in the caller's request.
    return names.get(re.split(r"[.\[]", field, maxsplit=1)[0], field)


def content(error: errors.RequestError) -> dict[str, Any]:
    """The body of a response with an error."""
    described: dict[str, Any] = {
        "message": f"{error.field}: {error.message}" if error.field else error.message,
        "type": errors.TABLE[error.code].type,
        "param": error.field or None,
        "code": error.code,
    }
    if not isinstance(error, Blocked):
        return {"error": described}
    # As Azure OpenAI says it, which Semantic Kernel and LiteLLM read; a rule is like one of its block lists.
    described["innererror"] = {
        "code": "ResponsibleAIPolicyViolation",
        "content_filter_result": {
            "custom_blocklists": {
                "filtered": True,
                "details": [{"id": rule, "filtered": True} for rule in error.rules],
            }
        },
    }
    return {"error": described, "guardrails": error.guardrail}


def response(error: errors.RequestError, headers: Mapping[str, str] | None = None) -> Response:
    """The response to a request that failed before anything was sent."""
    found = dict(headers or {})
    if error.code in _RETRYABLE:
        found["Retry-After"] = str(RETRY_SECONDS)
    return Response(
        orjson.dumps(content(error)), errors.TABLE[error.code].status, found, media_type="application/json"
    )


def event(error: errors.RequestError) -> bytes:
    """The event of a stream that failed."""
    return b"data: " + orjson.dumps(content(error)) + b"\n\n"
