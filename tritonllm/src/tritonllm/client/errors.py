"""The exceptions of the client, one class per error code.

    TritonLLMError
    ├── InvalidRequest          invalid_argument
    ├── ModelNotFound           model_not_found
    ├── PermissionDenied        permission_denied
    ├── Unavailable             unavailable
    │   ├── QueueFull           queue_full
    │   └── ServerUnreachable   server_unreachable
    ├── GuardrailFailed         guardrail_failure
    ├── EngineFailed            engine_failure
    ├── ServerFailed            internal
    ├── Timeout                 timeout
    ├── StreamBroken            stream_broken
    └── Cancelled               cancelled

`tritonllm.errors.TABLE` has what each code means, its HTTP status, and whether a retry helps. The server's own errors
carry their code in their text (`[queue_full] …`), because Triton answers every error of a streaming model with the
same HTTP status; `classify` reads it.
"""

from __future__ import annotations

from typing import ClassVar

from tritonllm import errors


class TritonLLMError(Exception):
    """Base class of the client's exceptions.

    Args:
        message: what is wrong and what to do.
        field: the input at fault, such as `sampling_parameters.max_tokens`; empty if there is none.
    """

    code: ClassVar[errors.Code] = "internal"

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.message = message
        self.field = field


class InvalidRequest(TritonLLMError):
    """The request is invalid; the field says where."""

    code = "invalid_argument"


class ModelNotFound(TritonLLMError):
    """The server has no endpoint or adapter of this name, or has not loaded it."""

    code = "model_not_found"


class PermissionDenied(TritonLLMError):
    """This model does not accept requests from clients; send them to the endpoint."""

    code = "permission_denied"


class Unavailable(TritonLLMError):
    """The endpoint is not available at the moment."""

    code = "unavailable"


class QueueFull(Unavailable):
    """The endpoint's queue is full."""

    code = "queue_full"


class ServerUnreachable(Unavailable):
    """No server answers at this address."""

    code = "server_unreachable"


class GuardrailFailed(TritonLLMError):
    """The guardrail itself failed, and the endpoint's `failurePolicy` is `Closed`."""

    code = "guardrail_failure"


class EngineFailed(TritonLLMError):
    """The engine failed while it processed the request."""

    code = "engine_failure"


class ServerFailed(TritonLLMError):
    """The server failed unexpectedly."""

    code = "internal"


class Timeout(TritonLLMError):
    """The answer was not complete within the caller's timeout."""

    code = "timeout"


class StreamBroken(TritonLLMError):
    """The connection broke before the answer was complete."""

    code = "stream_broken"


class Cancelled(TritonLLMError):
    """The request was cancelled before its answer was complete."""

    code = "cancelled"


CLASSES: dict[errors.Code, type[TritonLLMError]] = {
    kind.code: kind
    for kind in (
        InvalidRequest,
        ModelNotFound,
        PermissionDenied,
        Unavailable,
        QueueFull,
        ServerUnreachable,
        GuardrailFailed,
        EngineFailed,
        ServerFailed,
        Timeout,
        StreamBroken,
        Cancelled,
    )
}


def classify(text: str, model: str) -> TritonLLMError:
    """The exception for an error that the server sent.

    Args:
        text: `[code] field: message` from a model of tritonllm, or a message of Triton itself.
        model: the model that the request was sent to.
    """
    problem = errors.parse(text)
    if problem.message != text:
        return CLASSES[problem.code](problem.message, field=problem.field)
    # From Triton itself: `src/grpc/` and `src/http_server.cc` of triton-inference-server/server.
    if "unknown model" in text or "is not found" in text:
        return ModelNotFound(f"the server has no loaded model `{model}` ({text})")
    if "is not at ready state" in text or "is not ready" in text:
        return Unavailable(f"`{model}` is not ready yet; try again later ({text})")
    if "inference input" in text or "inference request" in text:
        return InvalidRequest(f"`{model}` does not accept this request; is it an endpoint? ({text})")
    return ServerFailed(f"`{model}` failed: {text}")
