"""The end of a pod under load: what is being answered is finished, what still comes is served, and it ends in time."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psutil
import pytest
import tritonclient.grpc as triton

from integration import ask, from_elsewhere, server
from tritonllm import serve
from tritonllm.runtime import metric_names

# So many that all streams run for a while, however slowly they begin.
TOKENS = 400
WHOLE = ("length", TOKENS)


def endpoint(inter_token_seconds: float = 0.02) -> str:
    return f"""
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: chat}}
spec:
  pool: test
  engine: {{type: simulated, args: {{inter_token_seconds: {inter_token_seconds}, max_num_seqs: 64}}}}
  guardrails: {{}}
"""


def over_http(served: server.Served, tokens: int = TOKENS) -> tuple[str, int]:
    """How a stream ended: its finish reason and the number of tokens."""
    body: dict[str, Any] = {"text_input": "Tell me a story", "ignore_eos": True, "max_tokens": tokens}
    last = list(ask.stream(served, "chat", **body))[-1]
    return last.get("finish_reason", str(last)), last.get("num_output_tokens", 0)


def over_grpc(served: server.Served) -> tuple[str, int]:
    sampling = f'{{"max_tokens": {TOKENS}, "ignore_eos": true}}'
    last = ask.grpc(served, "chat", text_input="Tell me a story", stream=True, sampling_parameters=sampling)[
        -1
    ]
    return last.get("finish_reason", [str(last)])[0], last.get("num_output_tokens", [0])[0]


def text(value: str) -> triton.InferInput:
    tensor = triton.InferInput("text_input", [1, 1], "BYTES")
    tensor.set_data_from_numpy(np.array([[value.encode()]], dtype=object))
    return tensor


def connections(served: server.Served) -> set[int]:
    """Ports of this process that are connected to the server's gRPC."""
    port = int(served.grpc.rpartition(":")[2])
    found = psutil.Process().net_connections("tcp")
    return {each.laddr.port for each in found if each.raddr and each.raddr.port == port}


def moving(age_seconds: float, **options: Any) -> contextlib.AbstractContextManager[server.Served]:
    """A server that asks gRPC clients to connect anew after so long."""
    environment = {from_elsewhere.AGE: str(age_seconds)}
    script = Path(from_elsewhere.__file__)
    return server.running([endpoint()], script=script, environment=environment, **options)


def test_a_grpc_client_connects_anew_now_and_then_and_loses_no_answer(
    pool: futures.ThreadPoolExecutor,
) -> None:
    # A client that stays for ever would stay at a pod that is leaving, too, and never find a new one.
    with moving(0.5) as served:
        streams = [pool.submit(over_grpc, served) for _ in range(4)]
        used: set[int] = set()

        def moved() -> bool:
            client.infer("chat-guardrail", [text("Hello")])
            used.update(connections(served))
            return len(used) > 8

        with triton.InferenceServerClient(served.grpc) as client:
            server.until(moved, 60, served.story)
        assert {stream.result() for stream in streams} == {WHOLE}


def running(served: server.Served) -> float:
    return ask.metric(served, metric_names.RUNNING, endpoint="chat")


@pytest.fixture
def pool() -> Iterator[futures.ThreadPoolExecutor]:
    with futures.ThreadPoolExecutor(24) as threads:
        yield threads


def test_no_stream_is_cut_while_there_is_time_and_what_still_comes_is_served(
    pool: futures.ThreadPoolExecutor,
) -> None:
    with server.running([endpoint()], drain_seconds=60) as served:
        streams = [pool.submit(ask_, served) for _ in range(6) for ask_ in (over_http, over_grpc)]
        server.until(lambda: running(served) == 12, 60, served.story)
        served.process.terminate()
        server.until(lambda: served.probe("/readyz") == (503, "shutting down\n"), 30, served.story)
        # Removing a pod from a load balancer takes a while, and connections that are open stay so.
        late = [pool.submit(ask_, served) for _ in range(4) for ask_ in (over_http, over_grpc)]
        assert served.probe("/livez") == (200, "shutting down\n")
        assert {stream.result() for stream in (*streams, *late)} == {WHOLE}
        ended = time.monotonic()
        assert served.process.wait(60) == 0
        assert time.monotonic() - ended < serve.STOP_SECONDS


def test_short_requests_that_never_pause_are_answered_whole_or_refused_before_they_begin(
    pool: futures.ThreadPoolExecutor,
) -> None:
    with server.running([endpoint(0.01)], drain_seconds=1) as served:
        over = threading.Event()

        def ask_on() -> list[str]:
            ends: list[str] = []
            url = f"{served.http}/v2/models/chat/generate_stream"
            body = {"text_input": "Hello", "stream": True, "ignore_eos": True, "max_tokens": 5}
            with httpx.Client(timeout=30) as client:
                while not over.is_set():
                    text = ""
                    try:
                        with client.stream("POST", url, json=body) as answer:
                            for piece in answer.iter_text():
                                text += piece
                    except httpx.HTTPError:
                        pass
                    whole = '"finish_reason":"length"' in text
                    ends.append("whole" if whole else "refused" if "data:" not in text else text)
            return ends

        clients = [pool.submit(ask_on) for _ in range(6)]
        server.until(lambda: ask.metric(served, metric_names.REQUESTS) > 50, 60, served.story)
        served.process.terminate()
        assert served.process.wait(1 + serve.STOP_SECONDS) == 0
        over.set()
        ends = [end for client in clients for end in client.result()]
        assert set(ends) == {"whole", "refused"}, {end: ends.count(end) for end in set(ends)}


def test_a_grpc_client_that_asks_now_and_then_is_served_until_its_connection_ends() -> None:
    # Longer than requests have to be away before a server ends to which nobody is connected.
    pause = 0.8
    with moving(4.0, drain_seconds=60) as served, triton.InferenceServerClient(served.grpc) as client:
        client.infer("chat-guardrail", [text("Hello")])
        first = connections(served)
        served.process.terminate()
        asked = 0
        while connections(served) == first:
            client.infer("chat-guardrail", [text("Hello")])
            asked += 1
            over = time.monotonic() + pause
            server.until(lambda over=over: time.monotonic() > over or connections(served) != first, 5)
        assert asked > 2, served.story()
        assert "draining: waiting up to 60 s for 0 requests and 1 gRPC connections" in served.story()
        assert served.process.wait(60) == 0


@pytest.mark.parametrize("drain_seconds", [0, 1])
def test_the_end_comes_in_time_whatever_is_still_being_answered(
    pool: futures.ThreadPoolExecutor, drain_seconds: float
) -> None:
    with server.running([endpoint(1)], drain_seconds=drain_seconds) as served:
        stream = pool.submit(over_http, served)
        server.until(lambda: running(served) == 1, 60, served.story)
        started = time.monotonic()
        served.process.terminate()
        assert served.process.wait(drain_seconds + serve.STOP_SECONDS) == 0
        assert time.monotonic() - started > drain_seconds
        assert isinstance(stream.exception(), httpx.HTTPError)


def test_the_end_comes_in_time_although_tritonserver_hangs() -> None:
    with server.running([endpoint()], drain_seconds=2) as served:
        served.triton.suspend()
        served.process.terminate()
        assert served.process.wait(2 + serve.STOP_SECONDS) == 0


def test_a_tritonserver_that_hangs_is_no_sign_that_nothing_runs(pool: futures.ThreadPoolExecutor) -> None:
    with server.running([endpoint()], drain_seconds=60) as served:
        stream = pool.submit(over_http, served)
        server.until(lambda: running(served) == 1, 60, served.story)
        triton = served.triton
        triton.suspend()
        served.process.terminate()
        # Longer than a server without requests is waited for.
        with pytest.raises(AssertionError, match="not within"):
            server.until(lambda: "stopping tritonserver" in served.log.read_text(), 4)
        triton.resume()
        assert stream.result() == WHOLE
        assert served.process.wait(60) == 0


def test_the_second_signal_ends_at_once_also_a_tritonserver_that_hangs() -> None:
    with server.running([endpoint()], drain_seconds=60) as served:
        served.triton.suspend()
        served.process.terminate()
        server.until(lambda: served.probe("/readyz")[0] == 503, 30)
        started = time.monotonic()
        served.process.terminate()
        assert served.process.wait(60) == 0
        assert time.monotonic() - started < 0.75 * serve.STOP_SECONDS
