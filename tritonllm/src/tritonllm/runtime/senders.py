"""Where the responses of a request go: the interface of the dispatcher to Triton and to the gateway."""

from __future__ import annotations

from typing import Any, Protocol

from tritonllm import errors
from tritonllm.runtime import request_context, wire


class Sender(Protocol):
    """The way back of the responses to a request.

    Attributes:
        polled: whether it has to be asked if its client is gone; otherwise `Dispatcher.cancel` is called.
    """

    polled: bool

    @property
    def congested(self) -> bool:
        """Whether a response would have to wait; then it is not made yet, and later ones are merged with it."""
        ...

    def send(self, response: request_context.Response) -> None:
        """Sends a response.

        Raises:
            Exception: it can't be sent; the request has to be closed.
        """
        ...

    def close(self, error: errors.RequestError) -> None:
        """Ends the request with an error; never raises."""
        ...

    def give_back(self) -> None:
        """Returns the request unanswered to the gateway, which sends it to another process."""
        ...

    def is_cancelled(self) -> bool:
        """Whether the client is gone; blocks until Triton answers."""
        ...


class TritonSender:
    """A request that came through Triton.

    Args:
        sender: Triton's response sender.
    """

    polled = True
    congested = False

    def __init__(self, sender: Any) -> None:
        self._sender = sender

    def send(self, response: request_context.Response) -> None:
        """See `Sender`."""
        wire.send(self._sender, response.outputs, response.error, final=response.final)

    def close(self, error: errors.RequestError) -> None:
        """See `Sender`."""
        wire.close(self._sender, error)

    def give_back(self) -> None:
        """Never called: Triton does not end a model while it waits for an answer of it."""
        raise NotImplementedError

    def is_cancelled(self) -> bool:
        """See `Sender`."""
        return self._sender.is_cancelled()
