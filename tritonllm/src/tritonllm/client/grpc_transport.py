"""Triton's gRPC API: one bidirectional stream per request, all over one connection.

tritonclient's client has one stream per object and delivers responses to a callback. Its generated stub provides
iterators that can be cancelled one by one.
"""

from __future__ import annotations

import struct
from collections.abc import AsyncGenerator, Callable, Mapping
from typing import Any

import grpc
import grpc.aio
from tritonclient.grpc import service_pb2, service_pb2_grpc

from tritonllm.client import answers, ask, errors

# Its messages are created at import, invisible to type checkers.
_pb: Any = service_pb2

_OPTIONS = [
    # Long prompts and answers exceed gRPC's limit of 4 MB; -1 is no limit.
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    # Detects a server that vanished without closing the connection. Triton drops connections that are pinged more
    # often than every 300 s (`--grpc-http2-min-recv-ping-interval-without-data`).
    ("grpc.keepalive_time_ms", 330_000),
    ("grpc.http2.max_pings_without_data", 0),
    # A restarted server is found within seconds; the default back-off grows to two minutes.
    ("grpc.max_reconnect_backoff_ms", 5_000),
]


class Transport:
    """One connection.

    Args:
        address: host and port.
        secure: whether to use TLS.
    """

    def __init__(self, address: str, *, secure: bool) -> None:
        self._address = address
        if secure:
            self._channel = grpc.aio.secure_channel(address, grpc.ssl_channel_credentials(), _OPTIONS)
        else:
            self._channel = grpc.aio.insecure_channel(address, _OPTIONS)
        self._stub: Any = service_pb2_grpc.GRPCInferenceServiceStub(self._channel)

    async def responses(self, model: str, inputs: ask.Inputs) -> AsyncGenerator[answers.Outputs, None]:
        """Sends a request to a decoupled model; closing the generator cancels it on the server."""
        call = self._stub.ModelStreamInfer([request(model, inputs)])
        try:
            async for reply in call:
                if reply.error_message:
                    raise errors.classify(reply.error_message, model)
                if reply.infer_response.outputs:
                    yield outputs(reply.infer_response)
        except grpc.aio.AioRpcError as error:
            raise self._problem(error, model) from None
        finally:
            call.cancel()

    async def infer(self, model: str, inputs: ask.Inputs) -> AsyncGenerator[answers.Outputs, None]:
        """Sends a request to a batched model, which sends one response."""
        try:
            yield outputs(await self._stub.ModelInfer(request(model, inputs, batch=(1,))))
        except grpc.aio.AioRpcError as error:
            raise self._problem(error, model) from None

    async def close(self) -> None:
        """Closes the connection and cancels all requests on it."""
        await self._channel.close()

    def _problem(self, error: grpc.aio.AioRpcError, model: str) -> errors.TritonLLMError:
        details = error.details() or error.code().name
        if error.code() is grpc.StatusCode.CANCELLED:
            return errors.Cancelled(f"the connection to {self._address} was closed ({details})")
        problem = errors.classify(details, model)
        # `classify` knows the messages of Triton itself with this code; any other comes from the connection.
        if error.code() is grpc.StatusCode.UNAVAILABLE and type(problem) is errors.ServerFailed:
            return errors.ServerUnreachable(
                f"cannot reach Triton over gRPC at {self._address}; is it running, and is this its gRPC port? ({details})"
            )
        return problem


def request(model: str, inputs: ask.Inputs, batch: tuple[int, ...] = ()) -> Any:
    """A request as protobuf.

    Args:
        model: name of the model.
        inputs: tensors of one element each.
        batch: the batch dimension, for models that have one.
    """
    message = _pb.ModelInferRequest(model_name=model)
    for name, value in inputs.items():
        tensor = message.inputs.add(name=name, shape=(*batch, 1))
        if isinstance(value, bool):
            tensor.datatype = "BOOL"
            tensor.contents.bool_contents.append(value)
        else:
            tensor.datatype = "BYTES"
            tensor.contents.bytes_contents.append(value.encode())
    return message


def outputs(response: Any) -> answers.Outputs:
    """The outputs of a response, decoded from Triton's raw format."""
    return {
        tensor.name: _DECODE[tensor.datatype](raw)
        for tensor, raw in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def _texts(raw: bytes) -> list[str]:
    # Each element is a little-endian uint32 length and that many bytes.
    found, at = [], 0
    while at < len(raw):
        (length,) = struct.unpack_from("<I", raw, at)
        at += 4 + length
        found.append(raw[at - length : at].decode())
    return found


def _numbers(format: str) -> Callable[[bytes], list[Any]]:
    return lambda raw: [number for (number,) in struct.iter_unpack(format, raw)]


_DECODE: Mapping[str, Callable[[bytes], list[Any]]] = {
    "BYTES": _texts,
    "UINT32": _numbers("<I"),
    "FP32": _numbers("<f"),
    "BOOL": _numbers("<?"),
}
