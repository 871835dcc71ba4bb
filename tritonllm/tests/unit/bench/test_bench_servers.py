import pytest

import client
import servers


def test_cpu_time_is_told_apart_by_what_a_process_does() -> None:
    stub = "/opt/triton_python_backend_stub /tmp/repository/{}/1/model.py region 1"
    rows = {
        1: (0, "python server.py {}"),
        2: (1, "/opt/bin/tritonserver --http-port 1"),
        3: (2, stub.format("chat")),
        4: (2, stub.format("chat-engine")),
        5: (2, stub.format("chat-guardrail")),
        6: (4, "VLLM::EngineCore"),
        7: (6, "VLLM::Worker"),
        8: (1, "python -I -S guardian.py name"),
    }
    assert servers.roles(rows, "supervisor") == {
        1: "supervisor",
        2: "tritonserver",
        3: "pipeline",
        4: "engine",
        5: "guardrail",
        6: "core",
        7: "core",
        8: "supervisor",
    }


def test_processes_of_vllms_server_are_the_server_and_its_core() -> None:
    rows = {1: (0, "VLLM::APIServer"), 2: (1, "VLLM::EngineCore")}
    assert servers.roles(rows, "server") == {1: "server", 2: "core"}


def test_a_server_that_runs_already_is_named_with_its_process() -> None:
    url = "http://localhost:8000/v2/models/chat/generate_stream"
    assert servers.ready_made(f"new=triton={url}=42") == client.Target("new", "triton", url, pid=42)
    assert servers.ready_made(f"new=triton={url}").pid is None


@pytest.mark.parametrize("text", ["new", "new=http://localhost", "new=grpc=http://localhost", "=triton="])
def test_a_server_in_another_form_is_refused_with_the_form(text: str) -> None:
    with pytest.raises(client.Failure, match=r"NAME=KIND=URL\[=PID\]"):
        servers.ready_made(text)


def test_a_server_that_does_not_answer_is_named() -> None:
    with pytest.raises(client.Failure, match=r"http://127.0.0.1:9/v1/models does not list a model"):
        servers.ready_made("theirs=openai=http://127.0.0.1:9/v1/completions")
