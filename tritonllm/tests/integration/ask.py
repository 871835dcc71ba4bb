"""Asks a server as users do: plain HTTP and plain tritonclient, nothing of this project's own client."""

from __future__ import annotations

import json
import queue
import re
from collections.abc import Iterator
from typing import Any

import httpx
import numpy as np
import tritonclient.grpc as triton

from integration import server


def generate(served: server.Served, model: str, **body: Any) -> dict[str, Any]:
    """POST /generate: the outputs, or `{"error": …}`."""
    return httpx.post(f"{served.http}/v2/models/{model}/generate", json=body, timeout=30).json()


def stream(served: server.Served, model: str, **body: Any) -> Iterator[dict[str, Any]]:
    """POST /generate_stream: each event. Closing the iterator closes the connection."""
    url = f"{served.http}/v2/models/{model}/generate_stream"
    with httpx.stream("POST", url, json={"stream": True} | body, timeout=30) as response:
        for line in response.iter_lines():
            if line.startswith("data: "):
                yield json.loads(line.removeprefix("data: "))


def grpc(served: server.Served, model: str, **inputs: Any) -> list[dict[str, Any]]:
    """Streams over gRPC; bytes, texts and flags become tensors. Returns the responses, an error as `{"error"}`."""
    answers: queue.Queue[tuple[Any, Any]] = queue.Queue()
    tensors = []
    for name, value in inputs.items():
        data = value.encode() if isinstance(value, str) else value
        array = np.array([data], dtype=bool if isinstance(value, bool) else object)
        tensor = triton.InferInput(name, [1], "BOOL" if isinstance(value, bool) else "BYTES")
        tensor.set_data_from_numpy(array)
        tensors.append(tensor)
    responses = []
    with triton.InferenceServerClient(served.grpc) as client:
        client.start_stream(lambda result, error: answers.put((result, error)))
        client.async_stream_infer(model, tensors, enable_empty_final_response=True)
        while True:
            result, error = answers.get(timeout=30)
            if error is not None:
                return [*responses, {"error": error.message()}]
            message = result.get_response()
            if message.outputs:
                responses.append(
                    {output.name: _items(result.as_numpy(output.name)) for output in message.outputs}
                )
            if message.parameters["triton_final_response"].bool_param:
                return responses


def metrics(served: server.Served) -> dict[str, float]:
    """Every series of the server's metrics, by its text."""
    lines = httpx.get(served.metrics, timeout=30).text.splitlines()
    return {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[:1] != "#")
    }


def metric(served: server.Served, family: str, **labels: str) -> float:
    """Sum of a family's series that have these labels."""
    wanted = [f'{key}="{value}"' for key, value in labels.items()]
    return sum(
        value
        for name, value in metrics(served).items()
        if re.match(rf"{family}\b", name) and all(label in name for label in wanted)
    )


def _items(array: Any) -> list[Any]:
    return [item.decode() if isinstance(item, bytes) else item for item in array.reshape(-1).tolist()]
