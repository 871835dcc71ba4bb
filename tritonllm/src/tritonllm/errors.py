"""The errors of a request: one table of codes, and the exception that carries one through the server as text.

The models raise `RequestError`, Triton sends its text, and the client turns that into an exception of its own. What a
code means for Triton, for HTTP and for people is in `TABLE` and nowhere else; the documents are tested against it.
"""

from __future__ import annotations

import re
from typing import Literal, NamedTuple

Code = Literal[
    "invalid_argument",
    "permission_denied",
    "queue_full",
    "unavailable",
    "guardrail_failure",
    "engine_failure",
    "cancelled",
    "internal",
    "model_not_found",
    "invalid_api_key",
    "model_not_allowed",
    "rate_limit_exceeded",
    "request_too_large",
    "request_timeout",
    "content_filter",
    "not_found",
    "method_not_allowed",
    "server_unreachable",
    "stream_broken",
    "timeout",
]


class Row(NamedTuple):
    """What one error code means to everyone who meets it.

    Attributes:
        triton: name of the code in Triton's `TritonError`; None for what only a client can find out.
        status: HTTP status that OpenAI's API gives such an error.
        type: `error.type` in OpenAI's API.
        meaning: for people, without a full stop.
        retry: whether sending the same request again can succeed.
    """

    triton: str | None
    status: int
    type: str
    meaning: str
    retry: str


# fmt: off
TABLE: dict[Code, Row] = {
    "invalid_argument": Row("INVALID_ARG", 400, "invalid_request_error",
        "The request is invalid; the field says where", "no, correct it"),
    "permission_denied": Row("UNSUPPORTED", 403, "permission_error",
        "This model does not accept requests from clients; send them to the endpoint", "no"),
    "queue_full": Row("UNAVAILABLE", 429, "rate_limit_error",
        "The endpoint's queue is full", "yes, later"),
    "unavailable": Row("UNAVAILABLE", 503, "server_error",
        "The endpoint is not available at the moment", "yes, later"),
    "guardrail_failure": Row("INTERNAL", 500, "server_error",
        "The guardrail itself failed, and the endpoint's `failurePolicy` is `Closed`", "yes; report it if it persists"),
    "engine_failure": Row("INTERNAL", 500, "server_error",
        "The engine failed while it processed the request", "yes, a few times"),
    "cancelled": Row("CANCELLED", 503, "server_error",
        "The request was cancelled before its answer was complete", "yes"),
    "internal": Row("INTERNAL", 500, "server_error",
        "The server failed unexpectedly", "no, report it"),
    "model_not_found": Row("NOT_FOUND", 404, "invalid_request_error",
        "The server has no endpoint or adapter of this name, or has not loaded it", "no, correct the name"),
    "invalid_api_key": Row(None, 401, "invalid_request_error",
        "The request has no API key, or one that the gateway does not know", "no, send a valid key"),
    "model_not_allowed": Row(None, 403, "invalid_request_error",
        "The API key is not valid for this endpoint", "no, use another key or endpoint"),
    "rate_limit_exceeded": Row(None, 429, "rate_limit_error",
        "The API key has reached one of its limits", "yes, after `Retry-After` seconds"),
    "request_too_large": Row(None, 413, "invalid_request_error",
        "The body of the request is larger than the gateway accepts", "no, send less"),
    "request_timeout": Row(None, 408, "invalid_request_error",
        "The body of the request did not arrive in time", "yes"),
    "content_filter": Row(None, 400, "invalid_request_error",
        "A guardrail rule of the endpoint blocked the prompt", "no, change the prompt"),
    "not_found": Row(None, 404, "invalid_request_error",
        "The gateway has no such path", "no, correct the URL"),
    "method_not_allowed": Row(None, 405, "invalid_request_error",
        "The path does not accept this HTTP method", "no, use one that `Allow` lists"),
    "server_unreachable": Row(None, 503, "server_error",
        "No server answers at this address", "yes, later"),
    "stream_broken": Row(None, 500, "server_error",
        "The connection broke before the answer was complete", "yes"),
    "timeout": Row(None, 504, "server_error",
        "The answer was not complete within the caller's timeout", "yes, with a longer timeout"),
}
# fmt: on

CODES: tuple[Code, ...] = tuple(code for code, row in TABLE.items() if row.triton is not None)
"""The codes that models send."""

GATEWAY_CODES: tuple[Code, ...] = (
    "invalid_api_key",
    "model_not_allowed",
    "rate_limit_exceeded",
    "request_too_large",
    "request_timeout",
    "content_filter",
    "not_found",
    "method_not_allowed",
)
"""The codes that only the gateway answers with; Triton's own ports, which the client uses, know neither keys nor limits."""

# Enough for any reason; what quotes the caller's own input can be as long as that.
_MAX_LENGTH = 2000

_TEXT = re.compile(rf"\[({'|'.join(CODES)})\] (?:([\w.\[\]]+): )?(.*)", re.DOTALL)


class RequestError(Exception):
    """A request that cannot be served.

    Its text is `[code] field: message`, or `[code] message` if no field is at fault. The code is part of the text
    because Triton's HTTP front end answers every error of a decoupled model with status 400.

    Args:
        code: the kind of error; one that models send.
        field: the input at fault, such as `sampling_parameters.max_tokens`; empty if there is none.
        message: what is wrong and what to do.
    """

    def __init__(self, code: Code, field: str, message: str) -> None:
        super().__init__(_sendable(f"[{code}] {field}: {message}" if field else f"[{code}] {message}"))
        self.code: Code = code
        self.field = field
        self.message = message


def _sendable(text: str) -> str:
    """The text shortened, and without lone surrogates, which UTF-8 cannot encode."""
    shown = text if len(text) <= _MAX_LENGTH else text[:_MAX_LENGTH] + "…"
    return shown.encode(errors="backslashreplace").decode()


def parse(text: str) -> RequestError:
    """Reads an error back from its text; a text without a code is taken for a failure of the engine."""
    match = _TEXT.search(text)
    if match is None:
        return RequestError("engine_failure", "", text)
    code, field, message = match.groups()
    return RequestError(code, field or "", message)  # pyright: ignore[reportArgumentType]
