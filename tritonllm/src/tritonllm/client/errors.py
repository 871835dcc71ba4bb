"""What can go wrong for a caller of an endpoint.

    TritonLLMError
    ├── InvalidRequest          the request is wrong; `field` says where. Sending it again changes nothing
    ├── ModelNotFound           no such endpoint on this server
    ├── PermissionDenied        not for callers, such as an engine behind its guardrails
    ├── Unavailable             not now: try again later
    │   ├── QueueFull           as many requests wait as the endpoint allows
    │   └── ServerUnreachable   nobody answers at this address
    ├── GuardrailFailed         the guardrail itself failed, and the endpoint's policy is to let nothing pass then
    ├── EngineFailed            the engine failed at this request
    ├── ServerFailed            anything else on the server's side
    ├── Timeout                 no whole answer in the time the caller gave
    ├── StreamBroken            the connection ended in the middle of an answer
    └── Cancelled               the request was ended by the server, or by closing the client

The server's own errors say in their text what they are (`[queue_full] …`), because Triton answers every error of
a streaming model with the same HTTP status; `classify` reads it.
"""

from __future__ import annotations

from tritonllm import errors as wire


class TritonLLMError(Exception):
    """Base of everything that the client raises on purpose.

    Args:
        message: what is wrong and what to do.
        field: the input to blame, such as `sampling_parameters.max_tokens`; empty for none.
    """

    def __init__(self, message: str, *, field: str = "") -> None:
        super().__init__(f"{field}: {message}" if field else message)
        self.message = message
        self.field = field


class InvalidRequest(TritonLLMError):
    """The request is wrong; `field` says where."""


class ModelNotFound(TritonLLMError):
    """No such endpoint on this server, or it is not loaded."""


class PermissionDenied(TritonLLMError):
    """The model is not for callers."""


class Unavailable(TritonLLMError):
    """The server can't take the request now; it may later."""


class QueueFull(Unavailable):
    """As many requests wait as the endpoint allows."""


class ServerUnreachable(Unavailable):
    """Nobody answers at this address."""


class GuardrailFailed(TritonLLMError):
    """The guardrail failed, and the endpoint's failure policy is Closed."""


class EngineFailed(TritonLLMError):
    """The engine failed at this request."""


class ServerFailed(TritonLLMError):
    """Something else failed on the server's side."""


class Timeout(TritonLLMError):
    """There was no whole answer in the time the caller gave; the server was told to stop."""


class StreamBroken(TritonLLMError):
    """The connection ended in the middle of an answer."""


class Cancelled(TritonLLMError):
    """The request was ended before its answer was whole."""


_BY_CODE: dict[wire.Code, type[TritonLLMError]] = {
    "invalid_argument": InvalidRequest,
    "permission_denied": PermissionDenied,
    "queue_full": QueueFull,
    "unavailable": Unavailable,
    "guardrail_failure": GuardrailFailed,
    "engine_failure": EngineFailed,
    "cancelled": Cancelled,
    "internal": ServerFailed,
}


def classify(text: str, model: str) -> TritonLLMError:
    """The exception for an error that the server sent.

    Args:
        text: `[code] field: message` of our models, or whatever Triton itself says.
        model: who was asked.
    """
    problem = wire.parse(text)
    if problem.message != text:
        return _BY_CODE[problem.code](problem.message, field=problem.field)
    # From Triton itself: `src/grpc/` and `src/http_server.cc` of triton-inference-server/server.
    if "unknown model" in text or "is not found" in text:
        return ModelNotFound(f"the server has no model `{model}` that is loaded ({text})")
    if "is not at ready state" in text or "is not ready" in text:
        return Unavailable(f"`{model}` is not ready yet; try again later ({text})")
    if "inference input" in text or "inference request" in text:
        return InvalidRequest(
            f"`{model}` does not take this request; is it the name of an endpoint? ({text})"
        )
    return ServerFailed(f"`{model}` failed: {text}")
