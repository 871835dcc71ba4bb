"""Weights from a hub to an engine, as people and pods have it: the whole command line as processes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import hub_server
import models
from integration import server
from tritonllm import versions
from tritonllm.weights import failures

pytestmark = pytest.mark.timeout(300)

TOKEN = "hf_abcdefghijklmnopqrstuvwxyz"
PRETEND = """---
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {name: pretend}
spec: {pool: test, engine: {type: simulated}, guardrails: {}}
"""


def endpoint(name: str, repo: str) -> str:
    return f"""---
apiVersion: tritonllm.io/v1alpha1
kind: LLMEndpoint
metadata: {{name: {name}}}
spec:
  pool: test
  model: {{repo: {repo}}}
  engine: {{type: vllm, args: {{enforce_eager: true, max_model_len: 256, max_num_seqs: 8}}}}
  guardrails: {{}}
"""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    directory = models.tiny_llama(tmp_path_factory.mktemp("model"))
    return {path.name: path.read_bytes() for path in directory.iterdir()}


@pytest.fixture
def hub(model: dict[str, bytes]) -> Iterator[hub_server.HubServer]:
    with hub_server.HubServer() as served:
        served.tokens.add(TOKEN)
        served.add("org/open", model)
        served.add("org/gated", model, access="gated")
        yield served


@pytest.fixture
def place(tmp_path: Path) -> Path:
    (tmp_path / "endpoints.yaml").write_text(endpoint("locked", "org/gated") + endpoint("chat", "org/open"))
    return tmp_path


@contextlib.contextmanager
def tritonllm(
    *arguments: str | Path, hub: hub_server.HubServer, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    """The command as a process that does not outlive the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "tritonllm", *map(str, arguments)],
        env=os.environ | {"HF_ENDPOINT": hub.url, "HF_TOKEN": "", "HF_HUB_OFFLINE": "0"} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def sync(place: Path) -> tuple[str | Path, ...]:
    return (
        *("weights", "sync", "--endpoints", place / "endpoints.yaml", "--cache", place / "cache"),
        *("--termination-message", place / "message"),
    )


def told(place: Path) -> dict[str, Any]:
    return json.loads((place / "message").read_text())


def test_a_gated_repository_stops_no_other_and_a_second_start_asks_nobody(
    place: Path, hub: hub_server.HubServer
) -> None:
    commit = hub.repositories["org/open"].revisions["main"]
    with tritonllm(*sync(place), hub=hub) as process:
        output, errors = process.communicate(timeout=120)
    assert process.returncode == failures.GatedRepo.exit_code, errors
    assert output.startswith(f"chat: org/open at {commit} is downloaded and verified")
    assert "accept its licence at" in errors
    assert told(place)["endpoints"]["chat"] == {"commit": commit}
    assert told(place)["endpoints"]["locked"]["reason"] == "GatedRepo"

    with tritonllm(*sync(place), hub=hub, HF_TOKEN=TOKEN) as process:
        output, errors = process.communicate(timeout=120)
    assert (process.returncode, TOKEN in output + errors) == (0, False), errors
    hub.requests.clear()
    with tritonllm(*sync(place), hub=hub) as process:
        assert process.wait(120) == 0
    assert hub.requests == []


def halting(until: threading.Event) -> hub_server.Fault:
    """Sends a first block, and then nothing until something happens."""

    def apply(answer: hub_server.Answer) -> None:
        blocks = itertools.count()
        answer.pause = lambda: next(blocks) and until.wait()

    return apply


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_signal_ends_it_at_once_and_the_next_start_goes_on(
    place: Path, hub: hub_server.HubServer, number: signal.Signals, code: int
) -> None:
    healed = threading.Event()
    hub.fault("*/org/open/resolve/*/model.safetensors", halting(healed))
    home = place / "cache" / "org--open"
    with tritonllm(*sync(place), hub=hub) as process:
        parts = home / ".staging"

        def downloading() -> bool:
            half = [path for path in parts.glob("*/parts/model.safetensors") if path.stat().st_size]
            progress = [json.loads(path.read_text()) for path in parts.glob("*.progress.json")]
            return bool(half) and any(0 < found["bytes_done"] < found["bytes_total"] for found in progress)

        server.until(downloading, 60)
        process.send_signal(number)
        # An open connection would be waited for 30 s.
        _, errors = process.communicate(timeout=25)
    assert process.returncode == code
    assert errors.splitlines()[-1] == "stopped; downloaded files are kept and not downloaded again"
    assert told(place)["reason"] == "Interrupted"
    assert told(place)["endpoints"]["locked"]["reason"] == "GatedRepo"
    assert not list(home.glob("*/.complete.json"))

    healed.set()
    hub.heal()
    hub.requests.clear()
    with tritonllm(*sync(place), hub=hub, HF_TOKEN=TOKEN) as process:
        assert process.wait(120) == 0
    (request,) = hub.asked("/org/open/resolve/*/model.safetensors")
    assert re.fullmatch(r"bytes=[1-9]\d*-", request.headers["range"])
    assert not list((home / ".staging").glob("*progress*"))


def test_a_pod_never_asks_the_hub_and_says_what_to_do(place: Path, hub: hub_server.HubServer) -> None:
    arguments = ("serve", "--endpoints", place / "endpoints.yaml", "--weights", place / "cache")
    with tritonllm(*arguments, hub=hub, HF_HUB_OFFLINE="1") as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == 1
    command = f"tritonllm weights sync --endpoints {place}/endpoints.yaml --cache {place}/cache"
    assert f"chat: there are no weights of org/open at main in {place}/cache; run `{command}`" in errors
    assert hub.requests == []


def serving(place: Path) -> tuple[str | Path, ...]:
    names = ("--http-port", "--grpc-port", "--metrics-port", "--health-port")
    ports = [str(part) for pair in zip(names, server.free_ports(4), strict=True) for part in pair]
    return ("serve", place / "endpoints.yaml", "--weights", place / "cache", *ports)


def test_serve_goes_on_without_the_endpoints_whose_weights_do_not_come(
    place: Path, hub: hub_server.HubServer
) -> None:
    (place / "endpoints.yaml").write_text(endpoint("locked", "org/gated") + PRETEND)
    with tritonllm(*serving(place), hub=hub) as process:
        assert process.stderr
        lines = list(itertools.takewhile(lambda line: not line.startswith("ready"), process.stderr))
        process.terminate()
        assert process.wait(120) == 0
    told = "".join(lines)
    assert "locked: GatedRepo: org/gated is gated" in told
    assert "problem: locked is not served: the weights of org/gated in" in told
    assert any(line.startswith("pretend: loaded in") for line in lines), told


def test_serve_ends_with_the_reason_when_no_endpoint_gets_its_weights(
    place: Path, hub: hub_server.HubServer
) -> None:
    (place / "endpoints.yaml").write_text(endpoint("locked", "org/gated") + endpoint("gone", "org/none"))
    with tritonllm(*serving(place), hub=hub) as process:
        _, errors = process.communicate(timeout=120)
    assert process.returncode == failures.GatedRepo.exit_code, errors
    assert "locked: GatedRepo: " in errors
    assert "gone: RepositoryNotFound: " in errors


@pytest.mark.skipif(versions.installed_version() is None, reason="vLLM is not installed")
def test_serve_downloads_first_and_its_engine_gets_a_directory_and_no_token(
    place: Path, hub: hub_server.HubServer
) -> None:
    (place / "endpoints.yaml").write_text(endpoint("locked", "org/gated"))
    commit = hub.repositories["org/gated"].revisions["main"]
    published = place / "cache" / "org--gated" / commit
    command = serving(place)
    grpc = command[command.index("--grpc-port") + 1]
    with tritonllm(*command, hub=hub, HF_TOKEN=TOKEN, HUGGING_FACE_HUB_TOKEN=TOKEN) as process:
        assert process.stderr
        lines = []
        for line in process.stderr:
            lines.append(line)
            if line.startswith("ready"):
                break
        assert lines[-1].startswith("ready: locked"), "".join(lines)
        assert f"locked: org/gated at {commit} is downloaded and verified" in "".join(lines)

        below = psutil.Process(process.pid).children(recursive=True)
        triton = next(child for child in below if child.name() == "tritonserver")
        (repository,) = [
            word.partition("=")[2] for word in triton.cmdline() if word.startswith("--model-repository=")
        ]
        arguments = json.loads((Path(repository) / "locked-engine" / "1" / "model.json").read_text())
        assert arguments["model"] == str(published)
        assert len(below) >= 5, "the models and vLLM's own processes are missing"
        for child in below:
            environment = Path(f"/proc/{child.pid}/environ").read_bytes()
            assert environment, child
            assert TOKEN.encode() not in environment, child

        with tritonllm(
            "generate", "locked", "Hello", "--max-tokens", "3", "--url", f"127.0.0.1:{grpc}", hub=hub
        ) as client:
            output, errors = client.communicate(timeout=120)
        assert (client.returncode, bool(output.strip())) == (0, True), errors

        # While it is served it stays, whatever the endpoints say.
        (place / "keep.yaml").write_text(endpoint("other", "org/open"))
        cleaning = (
            "weights",
            "gc",
            "--cache",
            place / "cache",
            "--keep",
            place / "keep.yaml",
            "--grace",
            "0",
        )
        with tritonllm(*cleaning, hub=hub) as gc:
            output, errors = gc.communicate(timeout=120)
        assert f"{published}: kept: a process uses it" in output, errors
        process.terminate()
        assert process.wait(120) == 0
