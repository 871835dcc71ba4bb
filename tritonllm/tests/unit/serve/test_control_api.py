"""Triton's texts, read: errors of a load, metrics; and the command line that starts it."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from tritonllm import api
from tritonllm.serve import api_lock, binaries, control_api, loader, options, triton


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        (
            "load failed for model 'm': version 1 is at UNAVAILABLE state: Internal: ValueError: no room on the"
            " card\n\nAt:\n  /repo/m/1/model.py(3): initialize\n;\n",
            "ValueError: no room on the card",
        ),
        (
            "load failed for model 'm': version 1 is at UNAVAILABLE state: Internal: RuntimeError: first line\n"
            "second line\n\nAt:\n  /repo/m/1/model.py(3): initialize\n;",
            "RuntimeError: first line second line",
        ),
        ("failed to load 'm', failed to poll from model repository", None),
        ("", "Triton gives no reason; its log may"),
    ],
    ids=["one line", "two lines", "another form", "nothing"],
)
def test_the_reason_of_a_failed_load_is_what_helps(message: str, reason: str | None) -> None:
    assert loader.useful(message) == (message if reason is None else reason)


def test_a_long_reason_is_cut() -> None:
    assert len(loader.useful("x" * 5000)) == 600


METRICS = """# HELP tritonllm_requests_running Requests being answered
# TYPE tritonllm_requests_running gauge
tritonllm_requests_running{endpoint="a b"} 2
tritonllm_requests_running{endpoint="c"} 1.000000
tritonllm_requests_running_total 40
tritonllm_requests_waiting 4
"""


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["tritonllm_requests_running"], 3),
        (["tritonllm_requests_running", "tritonllm_requests_waiting"], 7),
        (["absent"], 0),
    ],
)
def test_gauges_of_all_endpoints_are_added_up(names: list[str], expected: float) -> None:
    assert control_api.total(METRICS, names) == expected


def test_a_server_that_is_gone_is_unreachable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        asker = control_api.ControlApi(f"http://{address}", address, f"http://{address}")
        assert not asker.live()
        with pytest.raises(control_api.Unreachable, match="refused"):
            asker.index()
        with pytest.raises(control_api.Unreachable, match="refused"):
            asker.load("chat")


def endpoint(requests: int, seqs: int) -> api.LLMEndpoint:
    spec = {
        "pool": "llm",
        "engine": {"type": "simulated", "args": {"max_num_seqs": seqs}},
        "guardrails": {},
        "limits": {"maxConcurrentRequests": requests},
    }
    return api.LLMEndpoint.model_validate(
        {"apiVersion": api.API_VERSION, "kind": api.KIND, "metadata": {"name": "chat"}, "spec": spec}
    )


@pytest.mark.parametrize(
    ("sizes", "threads"),
    [([], 512), ([(8, 8)], 512), ([(300, 256), (64, 256)], 556), ([(600, 8)], 608), ([(1024, 1024)], 1280)],
)
def test_the_largest_endpoint_decides_the_number_of_threads(
    sizes: list[tuple[int, int]], threads: int
) -> None:
    assert triton.thread_pool_size([endpoint(*size) for size in sizes]) == threads


def test_triton_listens_where_the_user_says() -> None:
    chosen = options.Options(files=(), weights="/w", host="0.0.0.0", http_port=1, grpc_port=2, metrics_port=3)
    command = triton.arguments(
        chosen,
        [],
        binaries.Binary(Path("/bin/tritonserver")),
        repository=Path("/r"),
        backends=None,
        region_prefix="mine-",
        gpu=False,
        lock=api_lock.OPEN,
    )
    assert {"--http-address=0.0.0.0", "--http-port=1", "--grpc-port=2", "--metrics-port=3"} <= set(command)
    assert "--backend-config=python,shm-region-prefix-name=mine-" in command
    assert not any(argument.startswith(("--backend-directory", "--http-restricted")) for argument in command)


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:8000"),
        ("0.0.0.0", "http://127.0.0.1:8000"),
        ("::", "http://[::1]:8000"),
    ],
)
def test_the_supervisor_asks_on_this_machine(host: str, url: str) -> None:
    assert options.Options(files=(), weights="/w", host=host).url(8000) == url
