import processes


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
        8: (1, "python -I -S reaper.py name"),
        9: (1, "python -m tritonllm gateway --port=1"),
        10: (9, "python -c from multiprocessing"),
    }
    assert processes.roles(rows, "supervisor") == {
        1: "supervisor",
        2: "tritonserver",
        3: "pipeline",
        4: "engine",
        5: "guardrail",
        6: "core",
        7: "core",
        8: "supervisor",
        9: "gateway",
        10: "gateway",
    }


def test_processes_of_vllms_server_are_the_server_and_its_core() -> None:
    rows = {1: (0, "VLLM::APIServer"), 2: (1, "VLLM::EngineCore")}
    assert processes.roles(rows, "server") == {1: "server", 2: "core"}
