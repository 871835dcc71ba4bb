"""Triton's Python objects as small fakes, so that the models run in milliseconds and can be given any fault.

`install` puts them in the place of `triton_python_backend_utils`, which exists only inside Triton.
"""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Callable, Iterator
from typing import Any

FINAL = 1


class TritonModelException(Exception):
    """What Triton's objects raise."""


class Tensor:
    """A named array."""

    def __init__(self, name: str, data: Any) -> None:
        self._name, self._data = name, data

    def name(self) -> str:
        return self._name

    def as_numpy(self) -> Any:
        return self._data


class TritonError:
    """An error with one of Triton's codes."""

    INVALID_ARG, UNSUPPORTED, UNAVAILABLE, CANCELLED, INTERNAL = range(5)

    def __init__(self, message: str, code: int = INTERNAL) -> None:
        self._message, self.code = message, code

    def message(self) -> str:
        return self._message


class InferenceResponse:
    """Output tensors, or an error."""

    def __init__(self, output_tensors: Any = (), error: TritonError | None = None) -> None:
        self._tensors, self._error = list(output_tensors), error

    def has_error(self) -> bool:
        return self._error is not None

    def error(self) -> TritonError:
        assert self._error is not None
        return self._error

    def output_tensors(self) -> list[Tensor]:
        return self._tensors

    def values(self) -> dict[str, list[Any]]:
        """The outputs as plain values, texts decoded."""
        return {
            tensor.name(): [
                item.decode() if isinstance(item, bytes) else item for item in tensor.as_numpy().tolist()
            ]
            for tensor in self._tensors
        }


class Responses:
    """Triton's iterator of the responses of a BLS call; waiting in it is what the runtime must never do."""

    def __init__(self, *responses: InferenceResponse) -> None:
        self.arrived: list[InferenceResponse | None] = list(responses)
        self.waited = False

    def __iter__(self) -> Iterator[InferenceResponse]:
        return self

    def __next__(self) -> InferenceResponse:
        if not self.arrived:
            self.waited = True
            raise AssertionError("waits in Triton's response iterator")
        response = self.arrived.pop(0)
        if response is None:
            raise StopIteration
        return response


class InferenceRequest:
    """A BLS call; `call` answers all of them."""

    call: Callable[[InferenceRequest], Any]

    def __init__(
        self,
        model_name: str,
        inputs: Any,
        requested_output_names: Any,
        parameters: dict[str, Any] | None = None,
    ) -> None:
        self.model_name, self.inputs, self.parameters = model_name, inputs, parameters or {}

    def exec(self, decoupled: bool = False) -> Any:
        # The only calls of several responses are leases.
        assert decoupled == bool(self.parameters)
        return type(self).call(self)


class Metric:
    """Remembers its value; the first calls can be made to fail."""

    failures = 0

    def __init__(self, labels: dict[str, str], **_: Any) -> None:
        self.labels, self.value = labels, 0.0

    def _act(self) -> None:
        if Metric.failures:
            Metric.failures -= 1
            raise TritonModelException("no shared memory")

    def increment(self, amount: float) -> None:
        self._act()
        self.value += amount

    def set(self, value: float) -> None:
        self._act()
        self.value = value

    def observe(self, value: float) -> None:
        self._act()


class MetricFamily:
    """Makes metrics and keeps them."""

    COUNTER, GAUGE, HISTOGRAM = range(3)
    made: dict[str, list[Metric]] = {}  # noqa: RUF012

    def __init__(self, name: str, **_: Any) -> None:
        self._name = name

    def Metric(self, labels: dict[str, str], **options: Any) -> Metric:
        metric = Metric(labels, **options)
        self.made.setdefault(self._name, []).append(metric)
        return metric


class Sender:
    """A response sender that keeps what is sent and checks Triton's rules.

    Attributes:
        sent: the responses.
        closed: whether the final flag was sent; Triton allows it once and nothing after it.
        cancelled: what `is_cancelled` answers.
        fails: raises when a response is sent that it is true for.
        violations: rules of Triton that were broken; kept, as the runtime survives exceptions of a sender.
    """

    violations: list[str] = []  # noqa: RUF012

    def __init__(self, fails: Callable[[InferenceResponse], bool] = lambda response: False) -> None:
        self.sent: list[InferenceResponse] = []
        self.closed = False
        self.cancelled = False
        self.fails = fails
        self.done = threading.Event()

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        if self.closed:
            # Triton refuses; it is right only to end what a failed final response has closed already.
            if self.done.is_set():
                self.violations.append("a response after the final one")
            raise TritonModelException("the response sender is closed")
        # As in Triton: closed before the response is copied.
        self.closed = bool(flags & FINAL)
        if response is not None and self.fails(response):
            raise TritonModelException("Failed to increase the shared memory pool size")
        if response is not None:
            self.sent.append(response)
        if self.closed:
            self.done.set()

    def is_cancelled(self) -> bool:
        if self.closed:
            self.violations.append("a closed sender was asked for its client, of which 24.10 crashes")
        return self.cancelled

    @property
    def text(self) -> str:
        """The texts of all responses, joined."""
        return "".join("".join(response.values().get("text_output", [])) for response in self.sent)

    @property
    def error(self) -> str:
        """The text of the error that ended the request, if any."""
        errors = [response.error().message() for response in self.sent if response.has_error()]
        assert len(errors) <= 1
        return errors[0] if errors else ""

    @property
    def finish_reason(self) -> str:
        """How the request ended."""
        return self.sent[-1].values()["finish_reason"][0] if self.sent and not self.error else ""


def install() -> None:
    """Makes `import triton_python_backend_utils` find these."""
    module = types.ModuleType("triton_python_backend_utils")
    module.__dict__.update(
        {cls.__name__: cls for cls in (TritonModelException, Tensor, TritonError, InferenceResponse)},
        InferenceRequest=InferenceRequest,
        MetricFamily=MetricFamily,
        TRITONSERVER_RESPONSE_COMPLETE_FINAL=FINAL,
    )
    sys.modules["triton_python_backend_utils"] = module
