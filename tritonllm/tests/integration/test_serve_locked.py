"""A server whose API is locked by a secret: what strangers can't do, what they can't read, and what goes on as ever."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest
import tritonclient.grpc as triton
from tritonclient.utils import InferenceServerException

from integration import ask, server
from tritonllm.serve import api_lock

SECRET = "correct+horse/battery=staple"
HTTP = {api_lock.HTTP_HEADER: SECRET}
GRPC = {api_lock.GRPC_HEADER: SECRET}
# Stands in the policy and nowhere else.
PHRASE = "swordfish"
ENDPOINT = f"""
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: chat}}
spec:
  pool: test
  engine: {{type: simulated}}
  guardrails:
    input: [{{name: secret, action: Block, banned: {{phrases: [{PHRASE}]}}}}]
"""
# Method, path, body, and what who has the secret gets.
LOCKED = [
    ("POST", "/v2/repository/index", {}, 200),
    ("POST", "/v2/repository/models/chat-guardrail/load", {}, 200),
    ("POST", "/v2/repository/models/absent/unload", {}, 200),
    ("GET", "/v2/models/chat/config", None, 200),
    ("GET", "/v2/models/chat/versions/1/config", None, 200),
    ("GET", "/v2/models/chat-guardrail/config", None, 200),
    ("GET", "/v2/systemsharedmemory/status", None, 200),
    ("POST", "/v2/systemsharedmemory/region/r/register", {"key": "/absent", "byte_size": 1}, 500),
    ("POST", "/v2/systemsharedmemory/unregister", None, 200),
    ("GET", "/v2/cudasharedmemory/status", None, 200),
    ("POST", "/v2/cudasharedmemory/unregister", None, 200),
    ("GET", "/v2/trace/setting", None, 200),
    ("POST", "/v2/trace/setting", {"trace_level": ["OFF"]}, 200),
    ("GET", "/v2/models/chat/trace/setting", None, 200),
    ("GET", "/v2/logging", None, 200),
    ("POST", "/v2/logging", {"log_verbose_level": 0}, 200),
]
Client = triton.InferenceServerClient
Call = Callable[[Client, Mapping[str, str]], Any]
LOCKED_GRPC: dict[str, Call] = {
    "index": lambda client, headers: client.get_model_repository_index(headers),
    "load": lambda client, headers: client.load_model("chat-guardrail", headers),
    "unload": lambda client, headers: client.unload_model("absent", headers),
    "config": lambda client, headers: client.get_model_config("chat", headers=headers),
    "shared memory": lambda client, headers: client.get_system_shared_memory_status(headers=headers),
    "unregister": lambda client, headers: client.unregister_system_shared_memory(headers=headers),
    "CUDA shared memory": lambda client, headers: client.get_cuda_shared_memory_status(headers=headers),
    "trace": lambda client, headers: client.get_trace_settings("chat", headers),
    "set trace": lambda client, headers: client.update_trace_settings(
        settings={"trace_level": "OFF"}, headers=headers
    ),
    "logging": lambda client, headers: client.get_log_settings(headers),
    "set logging": lambda client, headers: client.update_log_settings({"log_verbose_level": 0}, headers),
}


@pytest.fixture(scope="module")
def secret_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("mounted") / "api-secret"
    file.write_text(SECRET + "\n")
    return file


@pytest.fixture(scope="module")
def served(secret_file: Path) -> Iterator[server.Served]:
    with server.running([ENDPOINT], api_secret_file=str(secret_file)) as running:
        yield running


@pytest.mark.parametrize(
    ("method", "path", "body", "status"), LOCKED, ids=[f"{method} {path}" for method, path, _, _ in LOCKED]
)
def test_http_refuses_who_has_no_secret(
    served: server.Served, method: str, path: str, body: object, status: int
) -> None:
    def call(headers: Mapping[str, str]) -> httpx.Response:
        return httpx.request(method, served.http + path, json=body, headers=headers, timeout=30)

    for headers in ({}, {api_lock.HTTP_HEADER: ""}, {api_lock.HTTP_HEADER: SECRET[:-1]}, GRPC):
        refused = call(headers)
        assert (refused.status_code, "restricted" in refused.text) == (403, True), refused.text
        assert SECRET not in refused.text
    assert call(HTTP).status_code == status


@pytest.mark.parametrize("name", LOCKED_GRPC)
def test_grpc_refuses_who_has_no_secret(served: server.Served, name: str) -> None:
    with Client(served.grpc) as client:
        for headers in ({}, {api_lock.GRPC_HEADER: "wrong"}, HTTP):
            with pytest.raises(InferenceServerException, match="restricted") as caught:
                LOCKED_GRPC[name](client, headers)
            assert caught.value.status() == "StatusCode.UNAVAILABLE"
        LOCKED_GRPC[name](client, GRPC)


@pytest.mark.parametrize(
    "path",
    [
        "/v2/models/chat/config?x=1",
        "/v2/models/chat/config/",
        "//v2/models/chat/config",
        "/v2//models/chat/config",
        "/v2/models/chat/./config",
        "/v2/models/chat/%63onfig",
        "/v2/models/chat/CONFIG",
        "/v2/models/chat/versions/1/config#x",
        "/v2/health/../models/chat/config",
        "http://elsewhere/v2/models/chat/config",
    ],
)
def test_no_other_spelling_of_a_path_opens_it(served: server.Served, path: str) -> None:
    # The path goes out as it stands here; clients would tidy it up.
    request = httpx.Request("GET", served.http, extensions={"target": path.encode()})
    with httpx.Client() as client:
        answer = client.send(request)
    assert answer.status_code in (400, 403, 404), answer.text
    assert PHRASE not in answer.text


def test_no_open_call_shows_the_policy(served: server.Served) -> None:
    ask.generate(served, "chat", text_input=f"the {PHRASE}")
    texts = [
        httpx.get(served.http + path).text
        for path in (
            "/v2",
            *(
                f"/v2/models/{model}{rest}"
                for model in ("chat", "chat-guardrail", "chat-engine")
                for rest in ("", "/versions/1", "/stats", "/versions/1/stats", "/ready")
            ),
            "/v2/models/stats",
        )
    ]
    texts += [httpx.get(served.metrics).text, *(served.probe(path)[1] for path in ("/readyz", "/livez"))]
    with Client(served.grpc) as client:
        texts += [
            str(client.get_server_metadata()),
            str(client.get_inference_statistics()),
            *(str(client.get_model_metadata(model)) for model in ("chat", "chat-guardrail", "chat-engine")),
        ]
    texts.append(str(ask.generate(served, "chat", text_input=f"the {PHRASE}")))
    texts.append(served.log.read_text())
    assert not [text for text in texts if PHRASE in text or "spec_hash" in text]
    # The policy is there, for who has the secret.
    config = httpx.get(f"{served.http}/v2/models/chat/config", headers=HTTP).json()
    assert "spec_hash" in config["parameters"]


def test_what_is_not_dangerous_is_open(served: server.Served) -> None:
    assert ask.generate(served, "chat", text_input="Hello", max_tokens=3)["finish_reason"] == "length"
    assert ask.generate(served, "chat", text_input=f"the {PHRASE}")["finish_reason"] == "content_filter"
    assert ask.grpc(served, "chat", text_input="Hello")[-1]["finish_reason"]
    for path in ("/v2/health/live", "/v2/health/ready", "/v2/models/chat/ready", "/v2/models/chat"):
        assert httpx.get(served.http + path).status_code == 200
    with Client(served.grpc) as client:
        assert client.is_server_live()
        assert client.is_model_ready("chat")
    assert served.probe("/readyz")[0] == served.probe("/livez")[0] == 200


def test_the_secret_is_in_no_log_and_on_no_command_line_but_tritonservers(served: server.Served) -> None:
    # A request that Triton refuses, with its reason.
    httpx.post(f"{served.http}/v2/repository/models/absent/load", headers=HTTP)
    assert SECRET not in served.log.read_text()
    supervisor = psutil.Process(served.pid)
    family = [supervisor, *supervisor.children(recursive=True)]
    assert [one.pid for one in family if SECRET in " ".join(one.cmdline())] == [served.triton.pid]
    assert not [one.pid for one in family if SECRET in json.dumps(one.environ())]


@pytest.mark.parametrize("model", ["chat-guardrail", "chat-engine", "chat"])
def test_a_killed_process_is_healed_behind_the_lock(served: server.Served, model: str) -> None:
    triton_server = served.triton.pid
    served.stub(model).kill()
    server.until(lambda: f"{model}: recovered" in served.log.read_text(), 60, served.story)
    served.until_ready(60)
    assert served.triton.pid == triton_server
    assert ask.generate(served, "chat", text_input=f"the {PHRASE}")["finish_reason"] == "content_filter"
    assert httpx.get(f"{served.http}/v2/models/{model}/config").status_code == 403


def test_a_new_tritonserver_has_the_same_lock(served: server.Served) -> None:
    first = served.triton
    first.kill()
    server.until(lambda: served.log.read_text().count("ready: chat at") == 2, 60, served.story)
    served.until_ready(60)
    assert httpx.get(f"{served.http}/v2/models/chat/config").status_code == 403
    assert httpx.get(f"{served.http}/v2/models/chat/config", headers=HTTP).status_code == 200


def test_without_a_secret_nothing_is_started(tmp_path: Path) -> None:
    with server.running([ENDPOINT], api_secret_file=str(tmp_path / "absent"), wait=False) as refused:
        assert refused.process.wait(60) == 1
        assert f"the secret file {tmp_path}/absent can't be read: No such file" in refused.log.read_text()
        assert "tritonserver" not in refused.log.read_text().replace("--api-secret-file", "")
