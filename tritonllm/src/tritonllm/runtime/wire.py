"""Triton's request and response objects to plain Python values and back: the only place that knows both."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]

from tritonllm import errors
from tritonllm.runtime import rendered

log = logging.getLogger(__name__)

# What a request's parameters between pipeline and engine start with.
PRIVATE = "tritonllm_"
# A response up to this size is sent together with the mark that ends the request; it fits where others have just been.
_SMALL_BYTES = 4096

_TYPES = {bool: np.bool_, int: np.uint32, float: np.float32, str: np.object_}


def send(
    sender: Any, outputs: Mapping[str, list[Any]], problem: errors.RequestError | None = None, *, final: bool
) -> None:
    """Sends a response.

    Triton closes a sender before it copies a final response, so one that does not fit into shared memory could not be
    followed by another, and its client would wait forever. A large response therefore goes before the final mark.

    Args:
        sender: Triton's response sender.
        outputs: output tensors by name.
        problem: sent in place of outputs.
        final: whether the request ends.
    """
    response_ = error(problem) if problem else response(outputs)
    # workaround: W18
    if not final:
        sender.send(response_)
    elif _size(outputs) <= _SMALL_BYTES:
        sender.send(response_, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
    else:
        sender.send(response_)
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)


def close(sender: Any, problem: errors.RequestError) -> None:
    """Ends a request with an error, as far as Triton still takes one; never raises."""
    try:
        sender.send(error(problem))
    except Exception:
        log.exception("an error could not be sent")
    end(sender)


def end(sender: Any) -> None:
    """Ends a request without a further response; never raises."""
    try:
        sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)
    except Exception:
        log.exception("a request could not be ended")


def _size(outputs: Mapping[str, list[Any]]) -> int:
    return sum(len(item.encode()) for items in outputs.values() for item in items if isinstance(item, str))


def receive(
    triton_requests: list[Any],
    accept: Callable[[Any, Any], None],
    refuse: Callable[[Any, errors.RequestError], None],
) -> None:
    """Takes what Triton brings; an exception that leaves `execute` would keep its client waiting forever.

    Args:
        triton_requests: the requests.
        accept: takes a request and its response sender.
        refuse: answers a request that `accept` raised at.
    """
    # workaround: W12
    for request in triton_requests:
        sender = request.get_response_sender()
        try:
            accept(request, sender)
        except errors.RequestError as error:
            refuse(sender, error)
        except Exception as error:
            log.exception("a request could not be read")
            refuse(sender, errors.RequestError("internal", "", f"the request could not be read: {error!r}"))


def values(request: Any) -> dict[str, str | bool]:
    """The request's input tensors, each of one element: texts and flags.

    Raises:
        RequestError: a tensor of another size, or bytes that are not UTF-8.
    """
    return {tensor.name(): _value(tensor) for tensor in request.inputs()}


def parameters(request: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """The request's parameters.

    Returns:
        Those of the caller, and those that pipeline and engine exchange, without their prefix.
        What Triton's front ends add for themselves is in neither.
    """
    public: dict[str, Any] = {}
    private: dict[str, Any] = {}
    for key, value in json.loads(request.parameters() or "{}").items():
        if key.startswith(PRIVATE):
            private[key.removeprefix(PRIVATE)] = value
        elif not key.startswith("triton_"):
            public[key] = value
    return public, private


def config_parameters(args: dict[str, str]) -> rendered.Rendered[str]:
    """The parameters of the model's config, from the arguments of `initialize`."""
    given = json.loads(args["model_config"])["parameters"]
    return rendered.Rendered({key: value["string_value"] for key, value in given.items()})


def tensor(name: str, items: list[Any]) -> Any:
    """A one-dimensional tensor of the type of its first item; texts travel as UTF-8."""
    kind = type(items[0])
    data = [item.encode() for item in items] if kind is str else items
    return pb_utils.Tensor(name, np.array(data, dtype=_TYPES[kind]))


def response(outputs: Mapping[str, Any]) -> Any:
    """A response with these outputs."""
    return pb_utils.InferenceResponse(output_tensors=[tensor(name, items) for name, items in outputs.items()])


def batch(outputs: Mapping[str, list[Any]]) -> Any:
    """A response of a batched model: one row per item."""
    tensors = [tensor(name, items) for name, items in outputs.items()]
    rows = [pb_utils.Tensor(item.name(), item.as_numpy().reshape(-1, 1)) for item in tensors]
    return pb_utils.InferenceResponse(output_tensors=rows)


def columns(request: Any) -> dict[str, list[str]]:
    """The text inputs of a batched request: one item per row.

    Raises:
        RequestError: bytes that are not UTF-8.
    """
    return {
        item.name(): [_text(item.name(), data) for data in item.as_numpy().reshape(-1)]
        for item in request.inputs()
    }


def error(problem: errors.RequestError) -> Any:
    """A response that carries a problem; its text starts with the code by which clients tell it apart."""
    code = getattr(pb_utils.TritonError, errors.TABLE[problem.code].triton or "INTERNAL")
    return pb_utils.InferenceResponse(error=pb_utils.TritonError(str(problem), code))


def first_text(response_: Any) -> str:
    """The first item of a response's first output."""
    return response_.output_tensors()[0].as_numpy().reshape(-1)[0].decode()


def _value(item: Any) -> str | bool:
    array = item.as_numpy()
    if array.size != 1:
        raise errors.RequestError("invalid_argument", item.name(), f"must hold one element, not {array.size}")
    data = array.reshape(-1)[0]
    return _text(item.name(), data) if isinstance(data, bytes) else bool(data)


def _text(name: str, data: bytes) -> str:
    try:
        return data.decode()
    except UnicodeDecodeError as problem:
        raise errors.RequestError(
            "invalid_argument", name, f"is not UTF-8: bad byte at offset {problem.start}"
        ) from None
