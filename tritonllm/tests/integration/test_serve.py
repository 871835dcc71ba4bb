"""The supervisor with the real tritonserver: how it starts, what it survives, and what it leaves behind."""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from integration import ask, bad_models, server
from tritonllm import serve

BAD_MODELS = Path(bad_models.__file__)


def endpoint(name: str, inter_token_seconds: float = 0.0, phrase: str = "swordfish") -> str:
    return f"""
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: {name}}}
spec:
  pool: test
  engine: {{type: simulated, args: {{inter_token_seconds: {inter_token_seconds}, max_num_seqs: 8}}}}
  guardrails:
    input:
      - {{name: secret, action: Block, banned: {{phrases: [{phrase}]}}}}
"""


BROKEN = endpoint("broken").replace("max_num_seqs: 8", "fail_to_load: no room on the card")
SLOW = endpoint("slow").replace("max_num_seqs: 8", "load_seconds: 600")


def blocked(served: server.Served, name: str, text: str) -> bool:
    tensor = {"name": "text_input", "datatype": "BYTES", "shape": [1, 1], "data": [text]}
    answer = httpx.post(
        f"{served.http}/v2/models/{name}-guardrail/infer", json={"inputs": [tensor]}, timeout=10
    )
    outputs = {output["name"]: output["data"] for output in answer.json()["outputs"]}
    return bool(outputs["blocked"][0])


@contextlib.contextmanager
def streaming(served: server.Served, name: str) -> Iterator[dict[str, object]]:
    """A long stream in the background; how it ended is known after the block."""
    seen: dict[str, object] = {"pieces": 0}

    def read() -> None:
        try:
            for event in ask.stream(served, name, text_input="Tell me a story", max_tokens=100):
                seen["pieces"] = seen["pieces"] + 1  # pyright: ignore[reportOperatorIssue]
                seen["last"] = event
        except httpx.HTTPError as error:
            seen["error"] = type(error).__name__

    thread = threading.Thread(target=read)
    thread.start()
    server.until(lambda: seen["pieces"] or not thread.is_alive(), 60, lambda: str(seen))
    try:
        yield seen
    finally:
        thread.join(30)
    assert not thread.is_alive(), f"the client hangs: {served.story()}"


@pytest.fixture(scope="module")
def calm() -> Iterator[server.Served]:
    """For tests that break nothing."""
    with server.running([endpoint("chat"), endpoint("code")]) as served:
        yield served


def test_endpoints_are_served(calm: server.Served) -> None:
    assert ask.generate(calm, "chat", text_input="Hello", max_tokens=3)["finish_reason"] == "length"
    assert ask.generate(calm, "code", text_input="Hello", max_tokens=3)["finish_reason"] == "length"


def test_both_probes_are_content(calm: server.Served) -> None:
    models = "chat, chat-engine, chat-guardrail, code, code-engine, code-guardrail"
    assert calm.probe("/readyz") == (200, f"ready: {models}\n")
    assert calm.probe("/livez") == (200, f"alive: {models}\n")


def test_a_supervisor_next_door_leaves_a_running_one_alone(calm: server.Served) -> None:
    with server.running([endpoint("other")]):
        pass
    assert ask.generate(calm, "chat", text_input="Hello", max_tokens=3)["finish_reason"] == "length"


def test_a_second_one_on_the_same_ports_says_which(calm: server.Served) -> None:
    port = int(calm.http.rpartition(":")[2])
    with server.running([endpoint("chat")], wait=False, http_port=port) as second:
        second.process.wait(60)
        assert f"port {port} (--http-port) is in use" in second.log.read_text()


def unload(served: server.Served, model: str) -> None:
    httpx.post(f"{served.http}/v2/repository/models/{model}/unload").raise_for_status()


def test_what_an_operator_unloads_stays_unloaded() -> None:
    with server.running([endpoint("chat")]) as served:
        unload(served, "chat-guardrail")
        server.until(lambda: "chat-guardrail" in served.probe("/readyz")[1], 60)
        server.until(lambda: served.probe("/livez") == (200, "alive: chat, chat-engine\n"), 60, served.story)
        # Longer than the watch takes to look at everything once.
        with pytest.raises(AssertionError, match="not within"):
            server.until(lambda: "process died" in served.log.read_text(), 3)


def test_one_bad_endpoint_does_not_stop_the_others() -> None:
    with server.running([BROKEN, endpoint("chat")], wait=False) as served:
        server.until(lambda: "ready: chat at" in served.log.read_text(), 60, served.story)
        server.until(lambda: served.probe("/readyz")[0] == 200, 30, served.story)
        text = served.probe("/readyz")[1]
        assert text.startswith("ready: chat, chat-engine, chat-guardrail\n")
        assert "broken-engine could not be loaded: RuntimeError: no room on the card\n" in text
        assert "broken could not be loaded: it needs broken-engine, which could not be loaded\n" in text
        assert served.probe("/livez")[0] == 200
        assert ask.generate(served, "chat", text_input="Hello", max_tokens=3)["finish_reason"] == "length"
        served.files[1].write_text(endpoint("added-later"))
        server.until(lambda: served.probe("/readyz")[0] == 503, 30, served.story)


def with_weights(name: str) -> str:
    args = "engine: {type: vllm, args: {load_format: dummy}}"
    return endpoint(name).replace("engine: {type: simulated", f"model: {{path: {name}}}\n  {args} #")


def test_an_endpoint_without_weights_does_not_stop_the_others(tmp_path: Path) -> None:
    with server.running([with_weights("bare"), endpoint("chat")], weights=tmp_path) as served:
        reason = f"no weights at {tmp_path}/bare; correct `spec.model.path` or --weights"
        text = served.probe("/readyz")[1]
        assert text.startswith("ready: chat, chat-engine, chat-guardrail\n")
        assert f"bare-engine could not be loaded: {reason}" in text
        assert "bare could not be loaded: it needs bare-engine, which could not be loaded\n" in text
        assert f"problem: bare is not served: {reason}" in served.log.read_text()
        assert ask.generate(served, "chat", text_input="Hello", max_tokens=3)["finish_reason"] == "length"
        assert served.probe("/livez")[0] == 200


def test_weights_that_came_meanwhile_are_tried_when_tritonserver_starts_anew(tmp_path: Path) -> None:
    # What comes is no model, so that the engine itself says so.
    with server.running([with_weights("bare"), endpoint("chat")], weights=tmp_path) as served:
        (tmp_path / "bare").mkdir()
        (tmp_path / "bare" / "config.json").write_text("{}")
        served.triton.kill()
        # vLLM is imported for it, which takes a busy machine minutes.
        server.until(lambda: served.log.read_text().count("ready: chat at") == 2, 240, served.story)
        assert served.log.read_text().count("bare is not served: no weights") == 1
        assert "bare-engine could not be loaded, so bare is not served" in served.log.read_text()


def test_one_endpoint_without_weights_alone_is_said_before_anything_starts(tmp_path: Path) -> None:
    with server.running([with_weights("bare")], weights=tmp_path, wait=False) as refused:
        assert refused.process.wait(60) == 1
        assert f"bare: no weights at {tmp_path}/bare" in refused.log.read_text()
        assert "tritonserver" not in refused.log.read_text()


def test_a_pod_waits_for_what_still_loads_also_behind_a_bad_endpoint() -> None:
    with server.running([BROKEN, endpoint("chat"), SLOW], wait=False) as served:
        server.until(lambda: "slow-engine is being loaded" in served.probe("/readyz")[1], 60, served.story)
        status, text = served.probe("/readyz")
        assert (status, "broken-engine could not be loaded" in text) == (503, True)


def test_nothing_but_bad_endpoints_ends_with_the_reason() -> None:
    with server.running([BROKEN], wait=False) as served:
        assert served.process.wait(60) == 1
        *_, sentence, reason = served.log.read_text().splitlines()
        assert sentence == "problem: no endpoint could be loaded, so there is nothing to serve:"
        assert reason == "    broken-engine: RuntimeError: no room on the card"


def test_an_engine_that_does_not_load_in_time_does_not_stop_the_others() -> None:
    with server.running([SLOW, endpoint("chat")], load_timeout=15) as served:
        log = served.log.read_text()
        assert "slow-engine: it did not load within 15 s (--load-timeout)" in log
        assert "slow is not served\nrestarting tritonserver\n" in log
        text = served.probe("/readyz")[1]
        assert text.startswith("ready: chat, chat-engine, chat-guardrail\n")
        assert "slow-engine could not be loaded: it did not load within 15 s (--load-timeout)" in text
        assert ask.generate(served, "chat", text_input="Hello", max_tokens=3)["finish_reason"] == "length"


def test_an_engine_that_alone_does_not_load_in_time_ends_serve_with_the_reason() -> None:
    with server.running([SLOW], load_timeout=1, wait=False) as served:
        assert served.process.wait(60) == 1
        *_, sentence, reason = served.log.read_text().splitlines()
        assert sentence == "problem: no endpoint could be loaded, so there is nothing to serve:"
        assert reason.startswith("    slow-engine: it did not load within 1 s (--load-timeout)")


def test_a_load_that_takes_long_is_reported_and_shown_with_the_newest_line_of_the_log() -> None:
    with server.running([SLOW], wait=False) as served:
        # After 10 s, or a little more on a busy machine.
        sentence = re.compile(r"slow-engine is being loaded \(for \d\d+ s\)")
        server.until(lambda: sentence.search(served.log.read_text()), 60, served.story)
        status, text = served.probe("/readyz")
        assert status == 503
        assert sentence.search(text), text
        assert "; log: " in text


def test_the_engine_is_private_unless_it_is_opened() -> None:
    with server.running([endpoint("chat")], allow_direct_engine=False) as served:
        assert "permission_denied" in ask.generate(served, "chat-engine", text_input="Hello")["error"]
    with server.running([endpoint("chat")], allow_direct_engine=True) as served:
        assert "text_output" in ask.generate(served, "chat-engine", text_input="Hello")


@pytest.mark.parametrize("model", ["chat-guardrail", "chat-engine", "chat"])
def test_a_killed_process_is_noticed_and_healed(model: str) -> None:
    with server.running([endpoint("chat")]) as served:
        triton = served.triton.pid
        served.stub(model).kill()
        server.until(lambda: f"{model}: its process died" in served.log.read_text(), 30, served.story)
        server.until(lambda: f"{model}: recovered" in served.log.read_text(), 60, served.story)
        served.until_ready(30)
        assert served.probe("/livez")[0] == 200
        assert served.triton.pid == triton
        assert ask.generate(served, "chat", text_input="Hello", max_tokens=3)["finish_reason"] == "length"


def test_one_of_several_pipeline_processes_that_is_killed_is_replaced() -> None:
    several = endpoint("chat").replace("guardrails:", "limits: {pipelineInstances: 3}\n  guardrails:", 1)
    with server.running([several]) as served:
        assert len(served.stubs("chat")) == 3
        served.stubs("chat")[1].kill()
        server.until(lambda: "chat: its process died" in served.log.read_text(), 30, served.story)
        # Alone if tritonserver unloads it, otherwise with all of tritonserver.
        server.until(lambda: processes_of(served, "chat") == 3, 60, served.story)
        served.until_ready(60)
        with ThreadPoolExecutor(12) as threads:
            ends = list(
                threads.map(
                    lambda _: ask.generate(served, "chat", text_input="Hello", max_tokens=3)["finish_reason"],
                    range(36),
                )
            )
        assert ends == ["length"] * 36


def test_a_policy_that_was_changed_in_place_survives_healing() -> None:
    with (
        server.running([endpoint("chat")]) as served,
        server.running([endpoint("chat", phrase="tuna")]) as other,
    ):
        config = httpx.get(f"{other.http}/v2/models/chat-guardrail/config").text
        url = f"{served.http}/v2/repository/models/chat-guardrail/load"
        httpx.post(url, json={"parameters": {"config": config}}, timeout=30).raise_for_status()
        server.until(lambda: len(served.stubs("chat-guardrail")) == 1, 60)
        served.stub("chat-guardrail").kill()
        server.until(lambda: "chat-guardrail: recovered" in served.log.read_text(), 60, served.story)
        assert blocked(served, "chat", "the tuna")
        assert not blocked(served, "chat", "the swordfish")


@pytest.mark.parametrize("model", ["chat", "chat-engine"])
def test_requests_of_a_killed_process_end_instead_of_hanging(model: str) -> None:
    with server.running([endpoint("chat", inter_token_seconds=0.2)]) as served:
        with streaming(served, "chat") as seen:
            served.stub(model).kill()
            server.until(lambda: f"{model}: its process died" in served.log.read_text(), 30, served.story)
        assert "error" in seen or "error" in seen["last"], seen  # pyright: ignore[reportOperatorIssue]
        server.until(lambda: is_back(served, model), 60, served.story)
        served.until_ready(60)
        assert ask.generate(served, "chat", text_input="Hello", max_tokens=3)["finish_reason"] == "length"


def test_workers_of_a_killed_engine_are_ended_before_it_comes_back() -> None:
    with server.running([endpoint("forks")], script=BAD_MODELS) as served:
        (worker,) = [child for child in served.stub("forks-engine").children() if child.name() == "sleep"]
        served.stub("forks-engine").kill()
        server.until(lambda: "forks-engine: recovered" in served.log.read_text(), 60, served.story)
        assert not worker.is_running()


def test_a_killed_tritonserver_is_started_anew() -> None:
    with server.running([endpoint("chat")]) as served:
        first = served.triton
        first.kill()
        server.until(
            lambda: "tritonserver ended (killed by SIGKILL)" in served.log.read_text(), 30, served.story
        )
        server.until(lambda: served.log.read_text().count("ready: chat at") == 2, 60, served.story)
        served.until_ready(30)
        assert served.triton.pid != first.pid
        assert ask.generate(served, "chat", text_input="Hello", max_tokens=3)["finish_reason"] == "length"


def test_a_tritonserver_that_keeps_dying_is_given_up() -> None:
    with server.running([endpoint("chat")]) as served:
        for _ in range(4):
            server.until(lambda: has_triton(served), 60, served.story)
            served.triton.kill()
            server.until(lambda: not has_triton(served), 30, served.story)
        assert served.process.wait(60) == 1
        assert "giving up: tritonserver was restarted 3 times within 10 minutes" in served.log.read_text()


def is_back(served: server.Served, model: str) -> bool:
    """Whether a killed process has been replaced: alone if no lease held it, otherwise with all of tritonserver."""
    log = served.log.read_text()
    return f"{model}: recovered" in log or log.count("ready: chat at") == 2


def processes_of(served: server.Served, model: str) -> int:
    """Number of its processes; 0 while tritonserver is being restarted."""
    with contextlib.suppress(LookupError, psutil.Error):
        return len(served.stubs(model))
    return 0


def has_triton(served: server.Served) -> bool:
    with contextlib.suppress(LookupError, psutil.Error):
        return served.triton.is_running()
    return False


def test_models_that_hang_for_a_while_are_not_alive() -> None:
    with server.running([endpoint("chat")]) as served:
        assert served.probe("/livez")[0] == 200
        hanging = [served.stub("chat"), served.stub("chat-guardrail")]
        for stub in hanging:
            stub.suspend()
        started = time.monotonic()
        server.until(lambda: served.probe("/livez")[1].count("does not answer: ") == 2, 60, served.story)
        assert time.monotonic() - started > 25
        assert served.probe("/livez")[0] == 503
        for stub in hanging:
            stub.resume()
        server.until(lambda: served.probe("/livez")[0] == 200, 60, served.story)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_stream_is_finished_before_the_end(number: signal.Signals) -> None:
    with server.running([endpoint("chat", inter_token_seconds=0.05)], drain_seconds=30) as served:
        with streaming(served, "chat") as seen:
            served.process.send_signal(number)
            server.until(lambda: served.probe("/readyz") == (503, "shutting down\n"), 30, served.story)
            assert served.probe("/livez")[0] == 200
        assert "error" not in seen, seen
        assert seen["last"]["finish_reason"] in ("length", "stop")  # pyright: ignore[reportIndexIssue]
        assert served.process.wait(60) == 0


def test_a_stream_that_takes_longer_than_the_drain_is_cut() -> None:
    with server.running([endpoint("chat", inter_token_seconds=1)], drain_seconds=0.5) as served:
        with streaming(served, "chat"):
            started = time.monotonic()
            served.process.terminate()
            assert served.process.wait(60) == 0
        # A hundred tokens take 100 s.
        assert time.monotonic() - started < 40


def test_the_second_signal_ends_it_at_once() -> None:
    with server.running([endpoint("chat", inter_token_seconds=1)], drain_seconds=60) as served:
        with streaming(served, "chat"):
            served.process.send_signal(signal.SIGINT)
            server.until(
                lambda: "waiting up to 60 s for 1 requests" in served.log.read_text(), 30, served.story
            )
            started = time.monotonic()
            served.process.send_signal(signal.SIGINT)
            assert served.process.wait(60) == 0
        # Neither the drain, nor the kill of a tritonserver that does not end, is waited for.
        assert time.monotonic() - started < 0.75 * serve.STOP_SECONDS


def test_an_idle_connection_does_not_delay_the_end() -> None:
    with server.running([endpoint("chat")]) as served:
        connection = http.client.HTTPConnection(served.http.removeprefix("http://"))
        connection.request("GET", "/v2/health/live")
        connection.getresponse().read()
        started = time.monotonic()
        served.process.terminate()
        assert served.process.wait(60) == 0
        # tritonserver's own end would wait for it for 30 s.
        assert time.monotonic() - started < 15
        connection.close()


def test_it_can_be_stopped_while_an_engine_loads() -> None:
    with server.running([SLOW], wait=False) as served:
        server.until(lambda: "slow-engine is being loaded" in served.probe("/readyz")[1], 60, served.story)
        served.process.terminate()
        # Neither the load, nor the kill of a tritonserver that does not end, is waited for.
        assert served.process.wait(0.75 * serve.STOP_SECONDS) == 0


def test_a_killed_supervisor_takes_everything_with_it() -> None:
    # That nothing is left, neither processes nor shared memory, is what `running` checks at its end.
    with server.running([endpoint("forks")], script=BAD_MODELS) as served:
        os.kill(served.pid, signal.SIGKILL)
        served.process.wait(30)


def test_the_next_supervisor_cleans_up_when_even_the_reaper_was_killed() -> None:
    with server.running([endpoint("chat")]) as served:
        (name,) = server.owned(served.pid)
        family = psutil.Process(served.pid).children(recursive=True)
        for process in [psutil.Process(served.pid), *family]:
            process.kill()
        served.process.wait(30)
        assert regions(name)
        with server.running([endpoint("chat")]):
            assert not regions(name)


def regions(name: str) -> list[Path]:
    return list(Path("/dev/shm").glob(f"{name}*"))


def test_the_command_line_serves_and_stops() -> None:
    ports = server.free_ports(4)
    options = [
        f"--{kind}-port={port}"
        for kind, port in zip(("http", "grpc", "metrics", "health"), ports, strict=True)
    ]
    example = Path(__file__).parents[3] / "examples" / "simulated.yaml"
    command = [str(Path(sys.executable).with_name("tritonllm")), "serve", str(example), *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        lines = iter(process.stderr.readline, "")
        assert any("ready: pretend" in line for line in lines)
    finally:
        process.terminate()
        process.stderr.read()
        process.stderr.close()
    assert process.wait(60) == 0
