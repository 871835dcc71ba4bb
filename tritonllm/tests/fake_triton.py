"""A little Triton whose models are Python generators, behind both of Triton's protocols."""

from __future__ import annotations

import concurrent.futures
import contextlib
import http.server
import json
import select
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

pb: Any = service_pb2

WAIT = object()
"""Yielded by a model that has nothing to say yet."""
CUT = object()
"""Yielded by a model whose server dies."""

_TYPES: dict[type, tuple[str, Callable[[Any], bytes]]] = {
    str: ("BYTES", lambda value: struct.pack("<I", len(value.encode())) + value.encode()),
    bool: ("BOOL", lambda value: struct.pack("<?", value)),
    int: ("UINT32", lambda value: struct.pack("<I", value)),
    float: ("FP32", lambda value: struct.pack("<f", value)),
}


class Refused(Exception):
    """What a model raises to answer with an error."""


class FakeTriton:
    """A server.

    Attributes:
        models: name → generator function from inputs to outputs (dicts of lists), WAIT or CUT.
        asked: the inputs of each request, in the order of arrival.
        left: set when a client left in the middle.
    """

    def __init__(self) -> None:
        self.models: dict[str, Callable[[dict[str, Any]], Iterator[Any]]] = {}
        self.asked: list[dict[str, Any]] = []
        self.left = threading.Event()
        self.url = ""

    def answer(
        self, model: str, inputs: dict[str, Any], still_there: Callable[[], bool]
    ) -> Iterator[dict[str, Any]]:
        """The outputs of a model, as long as the client is there."""
        self.asked.append(inputs)
        if model not in self.models:
            raise Refused(f"Request for unknown model: '{model}' is not found")
        for outputs in self.models[model](inputs):
            if not still_there():
                self.left.set()
                return
            if outputs is CUT:
                self.cut()
                # An answer that ended while its connection still does would be a proper end.
                while still_there():
                    time.sleep(0.005)
                return
            if outputs is WAIT:
                time.sleep(0.005)
            else:
                yield outputs

    def until_asked(self) -> None:
        """Waits for the first request."""
        while not self.asked:
            time.sleep(0.005)

    def cut(self) -> None:
        """Ends the connection under the client's feet."""
        raise NotImplementedError

    def stop(self) -> None:
        """Ends the server."""
        raise NotImplementedError


class FakeGrpc(FakeTriton, service_pb2_grpc.GRPCInferenceServiceServicer):
    """Triton's gRPC port."""

    def __init__(self) -> None:
        super().__init__()
        self._server = grpc.server(concurrent.futures.ThreadPoolExecutor(200))
        service_pb2_grpc.add_GRPCInferenceServiceServicer_to_server(self, self._server)
        self.url = f"127.0.0.1:{self._server.add_insecure_port('127.0.0.1:0')}"
        self._server.start()

    def ModelStreamInfer(
        self, request_iterator: Iterator[Any], context: grpc.ServicerContext
    ) -> Iterator[Any]:
        over = threading.Event()
        # gRPC stops asking for responses when the client is gone, so the model may never get to see it.
        context.add_callback(lambda: None if over.is_set() else self.left.set())
        for request in request_iterator:
            try:
                for outputs in self.answer(request.model_name, _inputs(request), context.is_active):
                    yield pb.ModelStreamInferResponse(infer_response=_response(outputs))
            except Refused as error:
                yield pb.ModelStreamInferResponse(error_message=str(error))
        over.set()

    def ModelInfer(self, request: Any, context: grpc.ServicerContext) -> Any:
        assert all(tensor.shape == [1, 1] for tensor in request.inputs)
        try:
            return _response(next(self.answer(request.model_name, _inputs(request), context.is_active)))
        except Refused as error:
            context.abort(grpc.StatusCode.INTERNAL, str(error))

    def cut(self) -> None:
        self._server.stop(0)

    def stop(self) -> None:
        self._server.stop(0).wait()


def _inputs(request: Any) -> dict[str, Any]:
    return {
        tensor.name: tensor.contents.bool_contents[0]
        if tensor.datatype == "BOOL"
        else tensor.contents.bytes_contents[0].decode()
        for tensor in request.inputs
    }


def _response(outputs: dict[str, list[Any]]) -> Any:
    response = pb.ModelInferResponse()
    for name, items in outputs.items():
        kind, encode = _TYPES[type(items[0])]
        response.outputs.add(name=name, datatype=kind, shape=[len(items)])
        response.raw_output_contents.append(b"".join(encode(item) for item in items))
    return response


class FakeHttp(FakeTriton):
    """Triton's HTTP port."""

    def __init__(self) -> None:
        super().__init__()
        fake = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                fake._serve(self)

            def log_message(self, format: str, *args: Any) -> None:
                pass

        self._connections: list[socket.socket] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self._thread.start()

    def _serve(self, handler: http.server.BaseHTTPRequestHandler) -> None:
        self._connections.append(handler.connection)
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        _, _, _, model, verb = handler.path.split("/")
        if verb == "infer":
            assert all(tensor["shape"] == [1, 1] for tensor in body["inputs"])
            body = {tensor["name"]: tensor["data"][0] for tensor in body["inputs"]}
        answers = self.answer(model, body, lambda: not _gone(handler.connection))
        try:
            try:
                first = next(answers, None)
            except Refused as error:
                # Triton's status whatever the error is.
                _whole(handler, 400, {"error": str(error)})
                return
            if first is None:
                handler.close_connection = True
            elif verb == "generate_stream":
                _events(handler, first, answers)
            else:
                outputs = [{"name": name, "data": items} for name, items in first.items()]
                _whole(handler, 200, {"model_name": model, "outputs": outputs})
        except OSError:
            self.left.set()

    def cut(self) -> None:
        for connection in self._connections:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _gone(connection: socket.socket) -> bool:
    readable, _, _ = select.select([connection], [], [], 0)
    return bool(readable) and connection.recv(1, socket.MSG_PEEK) == b""


def _whole(handler: http.server.BaseHTTPRequestHandler, status: int, body: dict[str, Any]) -> None:
    text = json.dumps(body).encode()
    handler.send_response(status)
    handler.send_header("Content-Type", "application/json")
    handler.send_header("Content-Length", str(len(text)))
    handler.end_headers()
    handler.wfile.write(text)


def _events(
    handler: http.server.BaseHTTPRequestHandler, first: dict[str, Any], rest: Iterator[dict[str, Any]]
) -> None:
    handler.send_response(200)
    handler.send_header("Content-Type", "text/event-stream; charset=utf-8")
    handler.send_header("Transfer-Encoding", "chunked")
    handler.end_headers()
    _event(handler, _plain(first))
    try:
        for outputs in rest:
            _event(handler, _plain(outputs))
    except Refused as error:
        _event(handler, {"error": str(error)})
    handler.wfile.write(b"0\r\n\r\n")


def _event(handler: http.server.BaseHTTPRequestHandler, body: dict[str, Any]) -> None:
    text = b"data: " + json.dumps(body, ensure_ascii=False).encode() + b"\n\n"
    # In two network pieces, so that one may end inside a character.
    for piece in (text[: len(text) // 2], text[len(text) // 2 :]):
        handler.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")


def _plain(outputs: dict[str, list[Any]]) -> dict[str, Any]:
    return {name: items[0] if len(items) == 1 else items for name, items in outputs.items()}


def say(*deltas: str, **last: Any) -> Callable[[dict[str, Any]], Iterator[dict[str, Any]]]:
    """A model that gives these pieces of text, or all at once to who does not stream."""

    def model(inputs: dict[str, Any]) -> Iterator[dict[str, Any]]:
        pieces = deltas if inputs["stream"] else ("".join(deltas),)
        for piece in pieces[:-1]:
            yield {"text_output": [piece]}
        yield {
            "text_output": [pieces[-1]],
            "finish_reason": ["stop"],
            "num_input_tokens": [3],
            "num_output_tokens": [len(deltas)],
            "guardrail": ["[]"],
        } | last

    return model
