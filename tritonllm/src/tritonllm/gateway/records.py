"""What the gateway knows of one request: middleware fills it in, the routes report to it, log and metrics read it.

`observation` puts a `Record` into `scope["state"]` before anything else sees the request. The routes find it with
`of(scope)` and report three things:

- `record.ask(endpoint)` as soon as they have read which endpoint is asked, before they submit anything. It raises
  `model_not_allowed` if the API key is not valid for this endpoint.
- `record.finish(…)` when the answer is complete, or as far as it went: tokens and finish reason.
- `record.fail(code)` when they answer with an error, also in the middle of a stream.

`record.allows(name)` says which endpoints to list. `record.traceparent` is for the upstream. Nothing of it is text of
a prompt or an answer.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

from tritonllm import errors
from tritonllm.gateway.keys import Key

_STATE = "record"


@dataclasses.dataclass(slots=True)
class Record:
    """One request.

    Attributes:
        request_id: from the caller's `X-Request-Id`, or generated.
        traceparent: W3C trace context to send on; empty if there is none.
        key_name: name of the API key; empty without keys, and for a request without a valid one.
        key: what the key may do; None for anything.
        endpoint: name of the endpoint that was asked; empty if it was none that exists.
        input_tokens: tokens of the prompt.
        output_tokens: tokens of the answer.
        finish_reason: why the answer ended; empty if there was none.
        error: code of the error it was answered with; empty if there was none.
    """

    request_id: str = ""
    traceparent: str = ""
    key_name: str = ""
    key: Key | None = None
    endpoint: str = ""
    input_tokens: int = 0
    output_tokens: int = 0
    finish_reason: str = ""
    error: str = ""

    def allows(self, endpoint: str) -> bool:
        """Whether the caller may use an endpoint."""
        return self.key is None or self.key.allows(endpoint)

    def ask(self, endpoint: str) -> None:
        """Notes the endpoint.

        Args:
            endpoint: name of an endpoint that exists; it becomes a label of metrics.

        Raises:
            RequestError: `model_not_allowed`.
        """
        if not self.allows(endpoint):
            message = f"the API key `{self.key_name}` is not valid for the model `{endpoint}`; GET /v1/models lists those it is valid for"
            raise errors.RequestError("model_not_allowed", "model", message)
        self.endpoint = endpoint

    def finish(self, *, input_tokens: int, output_tokens: int, finish_reason: str) -> None:
        """Notes what the answer used; the last call counts."""
        self.input_tokens = input_tokens
        self.output_tokens = output_tokens
        self.finish_reason = finish_reason

    def fail(self, code: errors.Code) -> None:
        """Notes the error that the request was answered with."""
        self.error = code


def of(scope: Mapping[str, Any]) -> Record:
    """The record of a request.

    Args:
        scope: ASGI scope of the request; one that no middleware has seen gets a record that is not read.
    """
    return scope.get("state", {}).setdefault(_STATE, Record())


def put(scope: dict[str, Any], record: Record) -> None:
    """Makes a record that of the request."""
    scope.setdefault("state", {})[_STATE] = record
