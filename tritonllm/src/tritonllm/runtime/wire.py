"""Triton's request and response objects to plain Python values and back: the only place that knows both."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils  # pyright: ignore[reportMissingImports]

from tritonllm import errors

log = logging.getLogger(__name__)

# What a request's parameters between pipeline and engine start with.
PRIVATE = "tritonllm_"
# The finish reason that marks a problem sent as data.
FAILED = "error"

_TYPES = {bool: np.bool_, int: np.uint32, float: np.float32, str: np.object_}


def send_last(sender: Any, response: Any = None) -> None:
    """Sends a request's last response, or none, and closes it."""
    flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL
    sender.send(flags=flags) if response is None else sender.send(response, flags=flags)


def receive(
    triton_requests: list[Any],
    accept: Callable[[Any, Any], None],
    refuse: Callable[[Any, errors.RequestError], None],
) -> None:
    """Takes what Triton brings; an exception that left here would leave its client waiting for ever.

    Args:
        triton_requests: the requests.
        accept: takes a request and its response sender.
        refuse: answers a request that `accept` raised at.
    """
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


def config_parameters(args: dict[str, str]) -> dict[str, str]:
    """The parameters of the model's config, from the arguments of `initialize`."""
    given = json.loads(args["model_config"])["parameters"]
    return {key: value["string_value"] for key, value in given.items()}


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


def failure(problem: errors.RequestError) -> Any:
    """A problem as data, for the pipeline: Triton loses an error response that comes after others in a BLS stream.

    Seen on 24.10: the stream just ends, as if the engine had nothing more to say.
    """
    return response({"text_output": [str(problem)], "finish_reason": [FAILED]})


def outputs(reply: Any) -> dict[str, list[Any]]:
    """The outputs of a response, texts decoded.

    Raises:
        RequestError: the one that the response carries.
    """
    if reply.has_error():
        raise errors.parse(reply.error().message())
    found = {item.name(): _items(item) for item in reply.output_tensors()}
    if found.get("finish_reason") == [FAILED]:
        raise errors.parse(found["text_output"][0])
    return found


def _items(item: Any) -> list[Any]:
    array = item.as_numpy().reshape(-1)
    return [data.decode() for data in array] if array.dtype == np.object_ else array.tolist()


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
