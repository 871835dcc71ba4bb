"""The client library: answers of an endpoint in Python, over gRPC or HTTP, whole or streamed.

    from tritonllm.client import Client

    with Client("localhost:8001") as client:
        print(client.generate("chat", "What is the capital of France?", max_tokens=16).text)
        for chunk in client.stream("chat", messages=[{"role": "user", "content": "Tell me a story."}]):
            print(chunk.text, end="", flush=True)

`AsyncClient` is the equivalent for asyncio.
"""

from __future__ import annotations

from tritonllm.client.answers import Answer, Choice, Chunk, FinishReason, Moderation, Verdict
from tritonllm.client.asynchronous import AsyncClient, AsyncStream
from tritonllm.client.errors import (
    Cancelled,
    EngineFailed,
    GuardrailFailed,
    InvalidRequest,
    ModelNotFound,
    PermissionDenied,
    QueueFull,
    ServerFailed,
    ServerUnreachable,
    StreamBroken,
    Timeout,
    TritonLLMError,
    Unavailable,
)
from tritonllm.client.synchronous import Client, Stream

__all__ = [
    "Answer",
    "AsyncClient",
    "AsyncStream",
    "Cancelled",
    "Choice",
    "Chunk",
    "Client",
    "EngineFailed",
    "FinishReason",
    "GuardrailFailed",
    "InvalidRequest",
    "ModelNotFound",
    "Moderation",
    "PermissionDenied",
    "QueueFull",
    "ServerFailed",
    "ServerUnreachable",
    "Stream",
    "StreamBroken",
    "Timeout",
    "TritonLLMError",
    "Unavailable",
    "Verdict",
]
