"""What a neighbour of the pool tries. Runs in a pod beside it; prints what each attempt got, as JSON."""

from __future__ import annotations

import json
import sys
import urllib.error
import urllib.request
from collections.abc import Callable
from typing import Any

import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

_CONFIGURATION = {"parameters": {"config": json.dumps({"name": "mine", "backend": "python"})}}
_HTTP: dict[str, tuple[str, dict[str, Any] | None]] = {
    "read the policy": ("/v2/models/chat/config", None),
    "read the guardrail's policy": ("/v2/models/chat-guardrail/config", None),
    "list models": ("/v2/repository/index", {}),
    "load a model": ("/v2/repository/models/mine/load", _CONFIGURATION),
    "unload the guardrail": ("/v2/repository/models/chat-guardrail/unload", {}),
    "see shared memory": ("/v2/systemsharedmemory/status", None),
    "change tracing": ("/v2/trace/setting", {"trace_file": "/tmp/trace"}),
    "change logging": ("/v2/logging", {"log_verbose_level": 4}),
    "ask the engine": ("/v2/models/chat-engine/generate", {"text_input": "hello"}),
}
_QUESTION = {"model": "chat", "messages": [{"role": "user", "content": "hello"}]}
_GATEWAY: dict[str, tuple[str, dict[str, Any] | None]] = {
    "ask without a key": ("/v1/chat/completions", _QUESTION),
    "list endpoints without a key": ("/v1/models", None),
}


def main(pool: str) -> None:
    """Tries everything.

    Args:
        pool: host name of its Service.
    """
    got = {f"HTTP: {what}": _http(f"http://{pool}:8000{path}", body) for what, (path, body) in _HTTP.items()}
    got |= {
        f"gateway: {what}": _http(f"http://{pool}:8080{path}", body)
        for what, (path, body) in _GATEWAY.items()
    }
    with triton.InferenceServerClient(f"{pool}:8001") as client:
        attempts: dict[str, Callable[[], object]] = {
            "read the policy": lambda: client.get_model_config("chat"),
            "read the guardrail's policy": lambda: client.get_model_config("chat-guardrail"),
            "list models": client.get_model_repository_index,
            "load a model": lambda: client.load_model("mine", config="{}"),
            "unload the guardrail": lambda: client.unload_model("chat-guardrail"),
            "see shared memory": client.get_system_shared_memory_status,
            "change tracing": lambda: client.update_trace_settings(settings={"trace_file": "/tmp/trace"}),
            "change logging": lambda: client.update_log_settings({"log_verbose_level": 4}),
        }
        got |= {f"gRPC: {what}": _grpc(attempt) for what, attempt in attempts.items()}
    print(json.dumps(got))


def _http(url: str, body: dict[str, Any] | None) -> str:
    data = None if body is None else json.dumps(body).encode()
    try:
        with urllib.request.urlopen(urllib.request.Request(url, data), timeout=20) as answer:
            return f"{answer.status} {answer.read().decode()}"
    except urllib.error.HTTPError as error:
        return f"{error.code} {error.read().decode()}"


def _grpc(attempt: Callable[[], object]) -> str:
    try:
        return f"OK {attempt()}"
    except InferenceServerException as error:
        return f"{error.status()} {error.message()}"


if __name__ == "__main__":
    main(sys.argv[1])
