"""A pod in the hands of an operator: models that others load and unload, and endpoint files that Kubernetes swaps."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import httpx
import pytest
import tritonclient.grpc as triton
from google.protobuf import json_format

from integration import ask, server
from tritonllm import api, files, render
from tritonllm.render import config
from tritonllm.serve import api_lock

SECRET = "correct-horse-battery-staple"
GRPC = {api_lock.GRPC_HEADER: SECRET}


def resource(name: str, phrase: str = "swordfish") -> api.LLMEndpoint:
    spec = {
        "pool": "test",
        "engine": {"type": "simulated"},
        "guardrails": {
            "input": [{"name": "secret", "action": "Block", "banned": {"phrases": [phrase]}}],
        },
    }
    found, problems = files.resource(
        {"apiVersion": api.API_VERSION, "kind": api.KIND, "metadata": {"name": name}, "spec": spec}
    )
    assert found is not None, problems
    return found


def listed(*endpoints: api.LLMEndpoint, unknown_field_of: str = "") -> str:
    items = [endpoint.model_dump(mode="json", by_alias=True, exclude_none=True) for endpoint in endpoints]
    for item in items:
        if item["metadata"]["name"] == unknown_field_of:
            item["spec"]["limits"]["shiny"] = 1
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": items})


class Mounted:
    """A ConfigMap as the kubelet mounts it: each key a link through `..data`, which is swapped as a whole."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0
        self.file = directory / "revision-.yaml"
        self.file.symlink_to("..data/revision-.yaml")

    def swap(self, *endpoints: api.LLMEndpoint, unknown_field_of: str = "") -> Path:
        self._count += 1
        contents = self._directory / f"..{self._count}"
        contents.mkdir()
        (contents / "revision-.yaml").write_text(listed(*endpoints, unknown_field_of=unknown_field_of))
        link = self._directory / "..data_tmp"
        link.symlink_to(contents.name)
        link.rename(self._directory / "..data")
        return self.file


@pytest.fixture
def mounted(tmp_path: Path) -> Mounted:
    (tmp_path / "mounted").mkdir()
    return Mounted(tmp_path / "mounted")


@pytest.fixture
def secret_file(tmp_path: Path) -> str:
    (tmp_path / "api-secret").write_text(SECRET)
    return str(tmp_path / "api-secret")


@pytest.fixture
def two(mounted: Mounted, secret_file: str) -> Iterator[server.Served]:
    """A pod that serves `chat` and `code`."""
    file = mounted.swap(resource("chat"), resource("code"))
    with server.running([file], api_secret_file=secret_file) as served:
        yield served


@pytest.fixture
def half_readable(mounted: Mounted, secret_file: str) -> Iterator[server.Served]:
    """A pod whose file has `chat`, and `code` with a field of a newer version."""
    file = mounted.swap(resource("chat"), resource("code"), unknown_field_of="code")
    with server.running([file], api_secret_file=secret_file) as served:
        yield served


def test_an_endpoint_that_cannot_be_read_is_skipped_and_an_edit_that_cannot_leaves_the_policy(
    half_readable: server.Served, mounted: Mounted
) -> None:
    assert answers(half_readable, "chat") == "length"
    assert answers(half_readable, "chat", "swordfish") == "content_filter"
    status, text = half_readable.probe("/readyz")
    assert status == 200
    assert "code can't be read: " in text
    assert "spec.limits.shiny: unknown field `shiny`" in half_readable.story()
    told = json.loads(half_readable.probe("/unreadable")[1])
    assert set(told) == {"code"}
    assert "spec.limits.shiny: unknown field `shiny`" in told["code"]

    mounted.swap(resource("chat", "other"), unknown_field_of="chat")
    server.until(
        lambda: "chat is served in its last valid version" in half_readable.story(), 60, half_readable.story
    )
    assert half_readable.probe("/readyz")[0] == 200
    assert answers(half_readable, "chat", "swordfish") == "content_filter"


def unload(served: server.Served, endpoint: api.LLMEndpoint) -> None:
    """As an operator does: the pipeline first, then what it needs."""
    with triton.InferenceServerClient(served.grpc) as client:
        for model in (endpoint.name, endpoint.guardrail_name, endpoint.engine_name):
            client.unload_model(model, GRPC)
            server.until(lambda model=model: not client.is_model_ready(model), 60, served.story)


def load(served: server.Served, models: Iterable[config.ModelConfig], **kwargs: dict[str, bytes]) -> None:
    with triton.InferenceServerClient(served.grpc) as client:
        for model in models:
            text = json_format.MessageToJson(model, preserving_proto_field_name=True)
            client.load_model(model.name, GRPC, config=text, **kwargs)


def answers(served: server.Served, name: str, text: str = "Hello") -> str:
    return ask.generate(served, name, text_input=text, max_tokens=3).get("finish_reason", "")


class Polled:
    """Asks as fast as it can until the end of the block, and keeps every answer that is not 200."""

    def __init__(self, *urls: str) -> None:
        self._urls = urls
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._poll, args=(url,)) for url in urls]
        self.count = dict.fromkeys(urls, 0)
        self.bad: list[str] = []

    def __enter__(self) -> Polled:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join(60)

    def _poll(self, url: str) -> None:
        with httpx.Client(timeout=30) as client:
            while not self._over.is_set():
                answer = client.get(url)
                self.count[url] += 1
                if answer.status_code != 200:
                    self.bad.append(f"{url}: {answer.status_code}: {answer.text}")


def never(condition: Callable[[], object], seconds: float) -> None:
    """Looks for this long; what does not happen can't be waited for otherwise."""
    with pytest.raises(AssertionError, match="not within"):
        server.until(condition, seconds)


def test_an_endpoint_that_is_unloaded_before_the_files_change_takes_nobody_out_of_service(
    two: server.Served, mounted: Mounted
) -> None:
    with Polled(two.health + "/readyz", two.health + "/livez") as polled:
        unload(two, resource("code"))
        server.until(lambda: "code is loaded, but Triton" in two.probe("/readyz")[1], 60, two.story)
        mounted.swap(resource("chat"))
        server.until(lambda: "code" not in two.probe("/readyz")[1], 60, two.story)
        # Longer than the watch takes to look at everything once.
        never(lambda: "process died" in two.log.read_text(), 3)
        assert answers(two, "chat") == "length"
        server.until(lambda: min(polled.count.values()) > 100, 60)
    assert polled.bad == []
    assert two.probe("/readyz") == (200, "ready: chat, chat-engine, chat-guardrail\n")
    assert two.probe("/livez") == (200, "alive: chat, chat-engine, chat-guardrail\n")


def test_an_endpoint_that_leaves_the_files_before_it_is_unloaded_takes_nobody_out_of_service(
    two: server.Served, mounted: Mounted
) -> None:
    with Polled(two.health + "/readyz", two.health + "/livez") as polled:
        mounted.swap(resource("chat"))
        server.until(lambda: "code" not in two.probe("/readyz")[1], 60, two.story)
        unload(two, resource("code"))
        server.until(lambda: "code" not in two.probe("/livez")[1], 60, two.story)
        server.until(lambda: min(polled.count.values()) > 10, 60)
    assert polled.bad == []


def test_the_last_endpoint_may_go_too(mounted: Mounted, secret_file: str) -> None:
    with server.running([mounted.swap(resource("chat"))], api_secret_file=secret_file) as served:
        mounted.swap()
        server.until(
            lambda: served.probe("/readyz") == (200, "ready: no endpoints to serve\n"), 60, served.story
        )
        unload(served, resource("chat"))
        server.until(lambda: served.probe("/livez") == (200, "alive: tritonserver answers\n"), 60)
        assert served.probe("/readyz")[0] == 200
        served.triton.kill()
        server.until(lambda: served.probe("/readyz")[1].startswith("no endpoints yet"), 60, served.story)
        assert served.process.poll() is None


def test_a_policy_is_changed_in_place_while_the_pod_stays_ready(mounted: Mounted, secret_file: str) -> None:
    with server.running([mounted.swap(resource("chat"))], api_secret_file=secret_file) as served:
        assert answers(served, "chat", "the swordfish") == "content_filter"
        urls = [served.health + "/readyz", served.health + "/livez"]
        urls += [f"{served.http}/v2/models/{model}/ready" for model in ("chat", "chat-guardrail")]
        with Polled(*urls) as polled:
            for phrase in ("tuna", "salmon", "trout"):
                changed = resource("chat", phrase)
                _, guardrail, pipeline = config.models(changed)
                load(served, [guardrail, pipeline])
                assert answers(served, "chat", f"the {phrase}") == "content_filter"
                mounted.swap(changed)
            server.until(lambda: min(polled.count.values()) > 10, 60)
        assert polled.bad == []
        assert answers(served, "chat", "the swordfish") == "length"
        assert "process died" not in served.log.read_text()
        # What the supervisor starts anew is what the files say now.
        served.triton.kill()
        server.until(lambda: served.log.read_text().count("ready: chat at") == 2, 60, served.story)
        assert answers(served, "chat", "the trout") == "content_filter"


def test_a_pod_without_endpoints_waits_ready_and_ends_in_order(mounted: Mounted, secret_file: str) -> None:
    with server.running([mounted.swap()], api_secret_file=secret_file) as served:
        status, text = served.probe("/readyz")
        assert (status, text.startswith("no endpoints yet")) == (200, True)
        assert served.probe("/livez") == (200, "alive: tritonserver answers\n")
        assert "no endpoints yet" in served.log.read_text()
        served.process.terminate()
        assert served.process.wait(60) == 0


def test_what_others_load_into_a_pod_without_endpoints_is_served_and_theirs_to_look_after(
    mounted: Mounted, secret_file: str
) -> None:
    endpoint = resource("chat")
    with server.running([mounted.swap()], api_secret_file=secret_file) as served:
        rendered = render.repository([endpoint], weights="/nonexistent")
        for model in config.models(endpoint):
            contents = rendered[model.name].items()
            code = {f"file:{path}": content for path, content in contents if path.startswith("1/")}
            load(served, [model], files=code)
        assert answers(served, "chat") == "length"
        assert answers(served, "chat", "the swordfish") == "content_filter"
        # Longer than the watch takes to look at everything once.
        never(lambda: "process died" in served.log.read_text() or served.probe("/livez")[0] != 200, 3)
        assert served.probe("/readyz")[0] == 200
